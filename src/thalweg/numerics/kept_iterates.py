r"""Conjugate gradients that stop by the model's value and keep some iterates on the way.

A later iterate is better for the model and not always for f: a method that tries the kept ones from
the last back loses nothing but a few values of f.

References:
    Martens, Deep learning via Hessian-free optimization, 2010, sections 4.4 to 4.6.
    Martens and Sutskever, Training deep and recurrent networks with Hessian-free optimization,
    2012.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.numerics.conjugate_directions import ConjugateDirections, Product
from thalweg.numerics.lanczos import inner


__all__ = ["Iterates", "kept_iterates"]

_RATIO = 1.3  # between the counts at which iterates are kept
_WINDOW, _SHARE = 10, 0.1  # over how many iterations progress is measured: the larger of the two


@final
@dataclass(frozen=True)
class Iterates:
    """What conjugate gradients on a model passed through.

    Args:
        points: The kept iterates, the last one included; at least one unless b is 0.
        iterations: Made.
        products: Taken, the one for the start included.
        why: ``"progress"``, ``"residual"``, ``"negative"`` or ``"limit"``.

    Example:
        >>> found = kept_iterates(lambda v: 2 * v, torch.ones(3))
        >>> found.points[-1].tolist(), found.iterations
        ([0.5, 0.5, 0.5], 1)
    """

    points: list[Tensor]
    iterations: int
    products: int
    why: str


def kept_iterates(
    product: Product,
    b: Tensor,
    start: Tensor | None = None,
    *,
    progress: float = 5e-4,
    most: int = 250,
    preconditioner: Product | None = None,
) -> Iterates:
    r"""Minimise :math:`\varphi(x) = \tfrac12 x^\top A x - b^\top x`, keeping iterates.

    It stops at iteration i where :math:`\varphi_i < 0` and the last k iterations brought less than
    k times ``progress`` of what was gained, :math:`(\varphi_i - \varphi_{i-k}) / \varphi_i <
    k\,\epsilon`, with k = max(10, i / 10); or where the residual is rounding; or at negative
    curvature.

    Args:
        product: v -> A v on flat tensors.
        b: The right-hand side, flat.
        start: Where to start; None is 0.
        progress: :math:`\epsilon`; default 5e-4 (Martens).
        most: Iterations at most.
        preconditioner: v -> P v, symmetric and positive, near the inverse of A.

    Returns:
        Iterates after 1, 2, 3, 4, 5, 7, 9, ... iterations (powers of 1.3) and the last.

    Raises:
        NonFiniteError: If a product has a NaN or an infinite entry.
    """
    x = torch.zeros_like(b) if start is None else start.clone()
    residual = b if start is None else b - product(x)
    extra = 0 if start is None else 1
    value = -0.5 * (inner(x, b) + inner(x, residual))
    enough = torch.finfo(b.dtype).eps * math.sqrt(inner(b, b))
    cg = ConjugateDirections(product, residual, preconditioner)
    values, points, due, why = [value], [], 1, "limit"
    while cg.products < most:
        if math.sqrt(cg.squares) <= enough:
            why = "residual"
            break
        direction, slope, curvature = cg.direction, cg.slope, cg.look()
        if not math.isfinite(curvature):
            text = f"kept_iterates: product {cg.products} has a NaN or an infinite entry."
            raise NonFiniteError(text)
        if not curvature > 0.0:
            why = "negative"
            if not points and start is None:  # downhill all the same, as far as if it were positive
                x.add_(direction, alpha=slope / (abs(curvature) or slope))
            break
        x.add_(direction, alpha=cg.move())
        value -= 0.5 * slope**2 / curvature
        values.append(value)
        i = len(values) - 1
        if i >= due:
            points.append(x.clone())
            due = max(math.ceil(due * _RATIO), due + 1)
        k = max(_WINDOW, math.ceil(_SHARE * i))
        if i > k and value < 0.0 and (value - values[i - k]) / value < k * progress:
            why = "progress"
            break
    if not points or not torch.equal(points[-1], x):
        points.append(x)
    return Iterates(points, len(values) - 1, cg.products + extra, why)
