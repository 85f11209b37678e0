r"""Conjugate gradients: solve :math:`A x = b` with products alone, A symmetric and positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.numerics.conjugate_directions import ConjugateDirections, Product
from thalweg.numerics.lanczos import inner


__all__ = ["Solution", "conjugate_gradient"]


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
    enough = tolerance * inner(b, b) ** 0.5
    if not b.any():  # the solution is 0, whatever the start
        return Solution(torch.zeros_like(b), torch.zeros_like(b), 0, True)
    cg = ConjugateDirections(product, residual, preconditioner)
    for iteration in range(limit):
        if cg.squares**0.5 <= enough:
            return Solution(made, cg.residual, iteration, True)
        direction = cg.direction
        if not cg.look() > 0:
            return Solution(made, cg.residual, iteration + 1, False, direction)
        made.add_(direction, alpha=cg.move())
    return Solution(made, cg.residual, limit, cg.squares**0.5 <= enough)
