r"""Golub and Kahan's bidiagonalisation, :math:`A V_k = U_{k+1} B_k`, by products alone.

References:
    Golub and Kahan, Calculating the singular values and pseudo-inverse of a matrix, 1965.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.numerics.lanczos import inner


__all__ = ["Bidiagonal", "LeastSquaresSolution", "checked", "rotation"]

Product = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class LeastSquaresSolution:
    r"""What was found.

    Args:
        x: The solution.
        iterations: Each is one product with A and one with its transpose.
        normal: :math:`\lVert A^\top(b - A x) - \mu^2 x\rVert` over
            :math:`\lVert A^\top b\rVert`, as the recurrence has it.
        converged: Whether that is within the tolerance.

    Example:
        >>> LeastSquaresSolution(torch.ones(2), 3, 1e-12, True).iterations
        3
    """

    x: Tensor
    iterations: int
    normal: float
    converged: bool


@final
class Bidiagonal:
    """Golub and Kahan's process: beta u = A v - alpha u, alpha v = A'u - beta v.

    Args:
        forward: v -> A v.
        adjoint: u -> A'u.
        b: Where it starts, flat.

    Example:
        >>> walk = Bidiagonal(lambda v: 2 * v, lambda u: 2 * u, torch.tensor([3.0, 4.0]))
        >>> walk.beta, walk.alpha
        (5.0, 2.0)
    """

    def __init__(self, forward: Product, adjoint: Product, b: Tensor) -> None:
        self._forward, self._adjoint = forward, adjoint
        self.beta = math.sqrt(inner(b, b))
        self.u = b / self.beta if self.beta else b.clone()
        self.v = adjoint(self.u)
        self.alpha = math.sqrt(inner(self.v, self.v))
        if self.alpha:
            self.v = self.v / self.alpha
        self.most = 4 * min(b.numel(), self.v.numel())
        self._tiny = torch.finfo(b.dtype).eps * max(self.alpha, 0.0)

    @property
    def ended(self) -> bool:
        """Whether the space is complete: nothing is left but rounding."""
        return min(self.alpha, self.beta) <= self._tiny

    def advance(self) -> None:
        """One product with A and one with its transpose."""
        self.u = self._forward(self.v) - self.alpha * self.u
        self.beta = math.sqrt(inner(self.u, self.u))
        if self.beta > 0:
            self.u = self.u / self.beta
        self.v = self._adjoint(self.u) - self.beta * self.v
        self.alpha = math.sqrt(inner(self.v, self.v))
        if self.alpha > 0:
            self.v = self.v / self.alpha


def rotation(a: float, b: float) -> tuple[float, float, float]:
    """Cosine, sine and length of the rotation that takes (a, b) to (length, 0).

    Example:
        >>> rotation(3.0, 4.0)
        (0.6, 0.8, 5.0)
    """
    length = math.hypot(a, b)
    return (a / length, b / length, length) if length else (1.0, 0.0, 0.0)


def checked(where: str, damping: float, tolerance: float, most: int | None) -> int | None:
    """The limit of iterations, once the arguments of a solver are looked at.

    Raises:
        ValueError: If one is out of range.
    """
    for name, value in (("damping", damping), ("tolerance", tolerance)):
        if not value >= 0:
            raise bad_argument(where, name, value, "a number >= 0")
    if most is not None and not most >= 1:
        raise bad_argument(where, "most", most, "an integer >= 1, or None")
    return most
