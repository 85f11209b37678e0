r"""What kind of point this is: by curvature, and by how far the nearest critical point is.

A gradient is never exactly zero, so "critical" needs a scale. Here it is the saddle-free Newton
step :math:`s = -|H|^{-1} g`, with every curvature of less than the tolerance counted as the
tolerance, in the Krylov space of the gradient: its length against that of the parameters, and what
it gains against the loss. Neither depends on the unit of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.curvature.operator import AbstractOperator
from thalweg.numerics.lanczos import lanczos


__all__ = ["Reach", "kind_of", "reach_of"]


@final
@dataclass(frozen=True)
class Reach:
    """How far the critical point of the quadratic model is.

    Args:
        distance: The length of the step to it.
        gain: By how much the step lowers the model.
        products: What it took.
        step: The step itself, flat; None where there is none.
    """

    distance: float
    gain: float
    products: int
    step: Tensor | None = None


def reach_of(
    hessian: AbstractOperator, gradient: Tensor, tolerance: float, steps: int = 20
) -> Reach:
    r"""The saddle-free Newton step from here, in the Krylov space of the gradient.

    Args:
        hessian: H.
        gradient: g, flat.
        tolerance: Curvature below it counts as it, > 0.
        steps: Lanczos steps, the dimension of the space.

    Returns:
        The step :math:`s = -|H|^{-1} g`, its length, and :math:`-g^\top s - \tfrac12 s^\top H s`,
        which it gains in the quadratic model whatever the dimension; infinite where there is a
        gradient and no curvature at all.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> H = Dense(torch.diag(torch.tensor([1.0, -4.0], dtype=torch.float64)))
        >>> reach = reach_of(H, torch.tensor([3.0, 16.0], dtype=torch.float64), 1e-3)
        >>> round(reach.distance, 6), round(reach.gain, 6)
        (5.0, 100.5)

    References:
        Dauphin et al., Identifying and attacking the saddle point problem in high-dimensional
        non-convex optimization, 2014.
    """
    norm = math.sqrt(float(gradient.double().square().sum()))
    if norm == 0.0:
        return Reach(0.0, 0.0, 0)
    if tolerance <= 0.0:
        return Reach(math.inf, math.inf, 0)
    run = lanczos(hessian.apply, gradient, steps, reorthogonalize=True, where="inspect")
    nodes, vectors = run.eigh()
    parts = norm * vectors[0]
    bent = np.maximum(np.abs(nodes), tolerance)
    along = -parts / bent
    gain = -float((parts * along + 0.5 * nodes * along**2).sum())
    assert run.basis is not None  # asked for
    inside = torch.from_numpy(vectors @ along).to(run.basis)
    return Reach(float(np.linalg.norm(along)), gain, len(nodes), run.basis @ inside)


def kind_of(
    ends: tuple[float, float],
    tolerance: float,
    gradient_norm: float,
    parameter_norm: float,
    loss: float,
    reach: Reach,
    critical: float,
) -> str:
    r"""The kind of a point.

    A *plateau* is where neither slope nor curvature over the whole length of the parameters changes
    the loss by more than the share ``critical``. A point is *critical* where the critical point of
    the quadratic model is nearer than ``critical`` times that length, or where going there would
    gain less than that share of the loss. A critical point is a minimum, a maximum or a saddle by
    its eigenvalues beyond the tolerance.

    Args:
        ends: λ_min and λ_max.
        tolerance: Eigenvalues this near to zero count as zero.
        gradient_norm: Of the gradient.
        parameter_norm: Of the parameters; at least 1 is taken.
        loss: The loss.
        reach: How far the critical point of the model is.
        critical: The share, such as 1e-3.

    Returns:
        ``"plateau"``, ``"not a critical point"``, ``"minimum"``, ``"maximum"`` or ``"saddle"``.

    Example:
        >>> kind_of((-1.0, 1.0), 1e-3, 0.0, 1.0, 0.0, Reach(0.0, 0.0, 0), 1e-3)
        'saddle'
    """
    low, high = ends
    length, scale = max(parameter_norm, 1.0), abs(loss)
    slope = gradient_norm * length
    bend = 0.5 * max(abs(low), abs(high)) * length**2
    if slope <= critical * scale and bend <= critical * scale:
        return "plateau"
    if reach.distance > critical * length and reach.gain > critical * scale:
        return "not a critical point"
    if low < -tolerance:
        return "maximum" if high <= tolerance else "saddle"
    return "minimum"
