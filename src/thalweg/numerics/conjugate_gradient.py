r"""Conjugate gradients: solve :math:`A x = b` with products alone, A symmetric and positive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["Solution", "conjugate_gradient"]

Product = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class Solution:
    """What conjugate gradients found.

    Args:
        x: The solution.
        residual: b - A x, as the recurrence has it.
        iterations: Products taken, besides the one for a start that is not zero.
        converged: Whether the residual is within the tolerance.
        negative: A direction d with d'Ad <= 0, where one was met; x is as it was before it.

    Example:
        >>> conjugate_gradient(lambda v: 2 * v, torch.ones(2)).x
        tensor([0.5000, 0.5000])
    """

    x: Tensor
    residual: Tensor
    iterations: int
    converged: bool
    negative: Tensor | None = None


def conjugate_gradient(
    product: Product,
    b: Tensor,
    x: Tensor | None = None,
    tolerance: float = 1e-5,
    most: int | None = None,
    preconditioner: Product | None = None,
) -> Solution:
    r"""Minimise :math:`\tfrac12 x^\top A x - b^\top x` over growing Krylov spaces.

    Args:
        product: v -> A v on flat tensors.
        b: The right-hand side, flat.
        x: The start; None is zero.
        tolerance: Stop where :math:`\lVert b - A x\rVert \le` tolerance :math:`\lVert b\rVert`.
        most: Iterations at most; None allows twice the length of b.
        preconditioner: v -> P v with P close to the inverse of A, symmetric and positive.

    Returns:
        The solution; where negative curvature was met, what was found before it, and the direction.

    Raises:
        ValueError: If the tolerance is negative or ``most`` is.

    Example:
        >>> A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
        >>> (A @ conjugate_gradient(lambda v: A @ v, torch.tensor([1.0, 2.0])).x).round(decimals=4)
        tensor([1., 2.])

    References:
        Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, 1952.
    """
    if not tolerance >= 0:
        raise bad_argument("conjugate_gradient", "tolerance", tolerance, "a number >= 0")
    if most is not None and not most >= 0:
        raise bad_argument("conjugate_gradient", "most", most, "an integer >= 0, or None")
    limit = 2 * b.numel() if most is None else most
    made = torch.zeros_like(b) if x is None else x.clone()
    residual = b.clone() if x is None else b - product(made)
    enough = tolerance * _dot(b, b) ** 0.5
    if not b.any():  # the solution is 0, whatever the start
        return Solution(torch.zeros_like(b), torch.zeros_like(b), 0, True)
    z = residual if preconditioner is None else preconditioner(residual)
    direction, slope = z.clone(), _dot(residual, z)
    for iteration in range(limit):
        if _dot(residual, residual) ** 0.5 <= enough:
            return Solution(made, residual, iteration, True)
        turned = product(direction)
        curvature = _dot(direction, turned)
        if not curvature > 0:
            return Solution(made, residual, iteration + 1, False, direction)
        length = slope / curvature
        made.add_(direction, alpha=length)
        residual = residual.sub(turned, alpha=length)
        z = residual if preconditioner is None else preconditioner(residual)
        before, slope = slope, _dot(residual, z)
        direction = direction.mul_(slope / before).add_(z)
    return Solution(made, residual, limit, _dot(residual, residual) ** 0.5 <= enough)


def _dot(a: Tensor, b: Tensor) -> float:
    """In float64: in float32 long sums lose what the recurrence needs."""
    return float(torch.dot(a.double(), b.double()))
