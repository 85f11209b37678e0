r"""Measures of how sharp a minimum is, each by its own definition.

=====================  ========================================================  =================
measure                definition                                                moves under Dinh's
                                                                                 rescaling
=====================  ========================================================  =================
:func:`sharpness`      :math:`\max_{\|\epsilon\|_2 \le \rho}                     yes
                       L(\theta + \epsilon) - L(\theta)`
adaptive               :math:`\max_{\|T^{-1}\epsilon\|_2 \le \rho}               no
                       L(\theta + \epsilon) - L(\theta)`, T of the weights' size
:func:`keskar`         the largest rise in a box, over 1 + L, in per cent        yes
:func:`flatness`       how far the loss stays under L + ε                        yes
largest eigenvalue     ``curvature.eigsh(curvature.Hessian(closure))``           yes
trace                  ``curvature.trace(curvature.Hessian(closure))``           yes
=====================  ========================================================  =================

None of them predicts generalisation by itself, the adaptive ones included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor

from thalweg.errors import NON_NEGATIVE, POSITIVE, NonFiniteError, integer_from, one_of
from thalweg.landscape.directions_layout import layouts
from thalweg.landscape.directions_random import random_axes
from thalweg.landscape.evaluation_guard import untouched
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["Flatness", "flatness", "keskar", "sharpness"]

_SCALES = ("element", "filter")
_SMALLEST = 1e-12  # a radius under which nothing is looked for


def sharpness(
    closure: AbstractClosure,
    rho: float = 0.05,
    *,
    adaptive: str | None = None,
    eta: float = 0.0,
    steps: int = 1,
) -> float:
    r"""The largest rise of the loss in a ball around the weights, as SAM sees it.

    .. math:: \max_{\|T^{-1}\epsilon\|_2 \le \rho} L(\theta + \epsilon) - L(\theta), \qquad
        \hat\epsilon = \rho\,\frac{T^2 g}{\|T g\|_2}

    with :math:`\hat\epsilon` the solution to first order, at which the loss is taken (one step).
    Further steps climb on the sphere: :math:`z \leftarrow \rho\,\frac{z + \rho\,u}{\|z + \rho\,
    u\|}` with :math:`z = T^{-1}\epsilon` and u the unit vector along :math:`T g(\theta +
    \epsilon)`; the largest rise seen is returned. T is the identity (SAM), :math:`\operatorname{
    diag}(|\theta_i| + \eta)` (ASAM, element-wise), or the norm of the filter that an entry belongs
    to, plus :math:`\eta` (filter-wise; biases and other vectors element-wise).

    Args:
        closure: A closure or a risk.
        rho: :math:`\rho > 0`; default 0.05, SAM's. ASAM's own are 0.5 to 2.
        adaptive: None, ``"element"`` or ``"filter"``.
        eta: :math:`\eta \ge 0`; default 0, for which the value does not change under Dinh's
            rescaling.
        steps: Gradient steps, at least 1; default 1, the papers'.

    Returns:
        The rise; negative where the step to first order leads down.

    Raises:
        ValueError: If an argument is outside its range.
        NonFiniteError: If the loss or its gradient at the weights is not finite.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> round(sharpness(closure, rho=1.0), 4)
        11.0

    References:
        Foret, Kleiner, Mobahi and Neyshabur, Sharpness-aware minimization for efficiently
        improving generalization, 2021. Kwon, Kim, Park and Choi, ASAM: adaptive sharpness-aware
        minimization for scale-invariant learning of deep neural networks, 2021.
    """
    POSITIVE.check("sharpness", "rho", rho)
    NON_NEGATIVE.check("sharpness", "eta", eta)
    integer_from(1).check("sharpness", "steps", steps)
    if adaptive is not None:
        one_of(*_SCALES).check("sharpness", "adaptive", adaptive)
    with untouched(closure):
        start = closure.params.clone()
        scale = _scale(closure, start, adaptive, eta)
        loss, gradient = closure.value_and_grad()
        if not (bool(loss.isfinite()) and gradient.isfinite()):
            raise NonFiniteError("sharpness: the loss or its gradient is not finite here.")
        away, best = start.zeros_like(), -math.inf
        for step in range(steps):
            uphill = _product(gradient, scale)
            length = float(uphill.norm())
            if length == 0.0:
                return max(best, 0.0)
            away.add_(uphill, alpha=rho / length)
            away.mul_(rho / float(away.norm()))
            there = start + _product(away, scale)
            if step + 1 < steps:
                value, gradient = closure.value_and_grad(there)
            else:
                value = closure.value(there)
            best = max(best, float(value) - float(loss))
        return best


def keskar(
    closure: AbstractClosure,
    epsilon: float = 1e-3,
    *,
    subspace: int | None = None,
    iterations: int = 10,
    seed: int = 0,
) -> float:
    r"""The sharpness of Keskar et al.: the largest rise in a box, in per cent.

    .. math:: \phi(\epsilon, A) = 100\,\frac{\max_{y \in C} f(x + A y) - f(x)}{1 + f(x)}, \qquad
        C = \{ y : |y_i| \le \epsilon\,(|(A^+ x)_i| + 1) \}

    with A the identity, or a Gaussian matrix of few columns. The maximum is looked for by L-BFGS-B,
    which finds a lower bound of it. It starts twice: at y = 0, and at a random point of the box,
    since at an exact minimum there is no way up from 0.

    Args:
        closure: A closure or a risk.
        epsilon: :math:`\epsilon > 0`; default 1e-3, the paper's larger one (the other: 5e-4).
        subspace: Columns of A, at least 1; None takes the whole space. The paper's is 100.
        iterations: Of L-BFGS-B, at least 1; default 10, the paper's.
        seed: Of A and of the random start.

    Returns:
        :math:`\phi`, >= 0.

    Raises:
        ValueError: If an argument is outside its range.
        NonFiniteError: If the loss at the weights is not finite.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> round(keskar(closure, 0.1), 3)
        2.0

    References:
        Keskar, Mudigere, Nocedal, Smelyanskiy and Tang, On large-batch training for deep learning:
        generalization gap and sharp minima, 2017.
    """
    POSITIVE.check("keskar", "epsilon", epsilon)
    integer_from(1).check("keskar", "iterations", iterations)
    if subspace is not None:
        integer_from(1).check("keskar", "subspace", subspace)
    generator = np.random.default_rng(seed)
    with untouched(closure):
        start = closure.params.clone().flatten()
        flat = start.flat
        assert flat is not None
        weights = flat.double().cpu().numpy()
        base = float(closure.value())
        if not math.isfinite(base):
            raise NonFiniteError(f"keskar: the loss is {base} at the weights.")
        basis = None if subspace is None else generator.standard_normal((len(weights), subspace))
        inside = weights if basis is None else np.linalg.lstsq(basis, weights, rcond=None)[0]
        half = epsilon * (np.abs(inside) + 1.0)

        def fall(y: np.ndarray) -> tuple[float, np.ndarray]:
            point = weights + (y if basis is None else basis @ y)
            value, gradient = closure.value_and_grad(torch.from_numpy(point).to(flat))
            g = torch.cat([part.reshape(-1) for part in gradient]).double().cpu().numpy()
            return -float(value), -(g if basis is None else basis.T @ g)

        best = 0.0
        for y in (np.zeros_like(half), generator.uniform(-half, half)):
            options = {"maxiter": iterations}
            bounds = Bounds(-half, half)
            found = minimize(fall, y, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            best = max(best, -float(found.fun) - base)
        return 100.0 * best / (1.0 + base)


@final
@dataclass(frozen=True)
class Flatness:
    """How far one may walk before the loss has risen by ε, in random directions.

    Args:
        epsilon: ε.
        radii: The distance in each direction, rising; infinite where the loss did not rise so far.

    Example:
        >>> Flatness(0.1, np.array([1.0, 2.0, 4.0])).median
        2.0
    """

    epsilon: float
    radii: np.ndarray

    @property
    def median(self) -> float:
        """The middle one of the radii."""
        return float(np.median(self.radii))


def flatness(
    closure: AbstractClosure,
    epsilon: float = 0.1,
    *,
    directions: int = 20,
    normalisation: str = "unit",
    limit: float = 1e6,
    seed: int = 0,
) -> Flatness:
    r"""Epsilon-flatness: how large the region is in which the loss stays under L + ε.

    Dinh et al. define it as the volume of the largest connected set around the weights with
    :math:`L(\theta') < L(\theta) + \epsilon`. In n dimensions that cannot be computed; what is
    measured here are its radii,

    .. math:: r(u) = \sup\{ t : L(\theta + s u) < L(\theta) + \epsilon \;\;
        \text{for the } 0 \le s \le t \text{ looked at} \},

    in random directions u: the step is doubled until the loss has risen, then halved to 1 %.

    Args:
        closure: A closure or a risk.
        epsilon: ε > 0.
        directions: How many, at least 1.
        normalisation: Of the directions, as for :func:`random_axes`: with ``"unit"`` radii are
            lengths, with ``"filter"`` they are shares of the weights' norms.
        limit: The largest radius that is looked for, > 0.
        seed: Of the directions.

    Returns:
        The radii.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> round(flatness(closure, 0.25, directions=3).median, 2)
        0.5

    References:
        Hochreiter and Schmidhuber, Flat minima, 1997. Dinh, Pascanu, Bengio and Bengio, Sharp
        minima can generalize for deep nets, definition 2, 2017.
    """
    POSITIVE.check("flatness", "epsilon", epsilon)
    POSITIVE.check("flatness", "limit", limit)
    integer_from(1).check("flatness", "directions", directions)
    radii = []
    with untouched(closure):
        start = closure.params.clone()
        ceiling = float(closure.value()) + epsilon
        axes = random_axes(closure, normalisation, count=1, seed=seed)
        for k in range(directions):
            if k:
                axes = random_axes(closure, normalisation, count=1, seed=seed + k)
            direction = axes.directions[0]

            def over(t: float, direction: Vector = direction) -> bool:
                return not float(closure.value(start.add(direction, alpha=t))) < ceiling

            radii.append(_radius(over, limit))
    return Flatness(epsilon, np.sort(np.array(radii)))


def _radius(over: Callable[[float], bool], limit: float) -> float:
    """Where a loss is over its ceiling for the first time, walking in doubled steps, to 1 %."""
    low, high = 0.0, min(1e-3, limit)
    while not over(high):
        low, high = high, 2.0 * high
        if low >= limit:
            return math.inf
    while low == 0.0:
        half = high / 2
        if half < _SMALLEST:
            return 0.0
        if over(half):
            high = half
        else:
            low = half
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        if over(middle):
            high = middle
        else:
            low = middle
    return high


def _scale(closure: AbstractClosure, at: Vector, adaptive: str | None, eta: float) -> Vector | None:
    """T, entry by entry; None where it is the identity."""
    if adaptive is None:
        return None
    if adaptive == "element":
        return at.abs() + eta
    parts: list[Tensor] = []
    for p, layout in zip(at, layouts(closure), strict=True):
        if layout.axis is None or not p.numel():
            parts.append(p.abs() + eta)
            continue
        norms = torch.linalg.vector_norm(layout.units(p), dim=2)
        parts.append(layout.scaled(torch.ones_like(p), norms) + eta)
    return Vector(parts)


def _product(vector: Vector, scale: Vector | None) -> Vector:
    if scale is None:
        return vector.clone()
    return Vector(a * b for a, b in zip(vector, scale, strict=True))
