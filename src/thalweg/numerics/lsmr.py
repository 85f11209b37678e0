r"""LSQR and LSMR: least squares by products with A and its transpose alone.

Both run Golub and Kahan's bidiagonalisation, :math:`A V_k = U_{k+1} B_k`, and solve

.. math:: \min_x \lVert A x - b\rVert^2 + \mu^2 \lVert x\rVert^2

over :math:`x \in \operatorname{span} V_k`: LSQR makes the residual as small as it can be there,
LSMR that of the normal equations, so that it may be stopped early at a gradient of known size.

References:
    Paige and Saunders, LSQR: an algorithm for sparse linear equations and sparse least squares,
    1982; Fong and Saunders, LSMR: an iterative algorithm for sparse least-squares problems, 2011.
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


__all__ = ["LeastSquaresSolution", "lsmr", "lsqr"]

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
        >>> lsmr(lambda v: 2 * v, lambda u: 2 * u, torch.ones(2)).x
        tensor([0.5000, 0.5000])
    """

    x: Tensor
    iterations: int
    normal: float
    converged: bool


def lsmr(
    forward: Product,
    adjoint: Product,
    b: Tensor,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    most: int | None = None,
) -> LeastSquaresSolution:
    r"""Least squares by LSMR.

    Args:
        forward: v -> A v.
        adjoint: u -> A'u.
        b: The right-hand side, flat.
        damping: :math:`\mu \ge 0`.
        tolerance: Stop where the gradient is at most this share of :math:`\lVert A^\top b\rVert`.
        most: Iterations at most; None: four times the shorter side.

    Returns:
        The solution; the shortest one where it is not unique.

    Raises:
        ValueError: If an argument is negative.

    Example:
        >>> A = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> b = torch.tensor([1.0, 2.0, 3.0])
        >>> lsmr(lambda v: A @ v, lambda u: A.T @ u, b).x.round(decimals=5)
        tensor([1., 1.])
    """
    limit = _checked("lsmr", damping, tolerance, most)
    walk = _Bidiagonal(forward, adjoint, b)
    limit = limit or walk.most
    start = walk.alpha * walk.beta  # the length of A'b
    x = torch.zeros_like(walk.v)
    if start == 0.0:
        return LeastSquaresSolution(x, 0, 0.0, True)
    h, across = walk.v.clone(), torch.zeros_like(walk.v)
    alpha_bar, zeta_bar = walk.alpha, start
    rho, rho_bar, c_bar, s_bar = 1.0, 1.0, 1.0, 0.0
    normal, made = 1.0, 0
    for _ in range(limit):
        walk.advance()
        made += 1
        _, _, alpha_hat = _rotation(alpha_bar, damping)  # the damping's rows
        rho_before, rho_bar_before = rho, rho_bar
        c, s, rho = _rotation(alpha_hat, walk.beta)
        theta, alpha_bar = s * walk.alpha, c * walk.alpha
        theta_bar = s_bar * rho
        c_bar, s_bar, rho_bar = _rotation(c_bar * rho, theta)
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
        across = h - across * (theta_bar * rho / (rho_before * rho_bar_before))
        x += across * (zeta / (rho * rho_bar))
        h = walk.v - h * (theta / rho)
        normal = abs(zeta_bar) / start
        if normal <= tolerance or walk.ended:
            break
    return LeastSquaresSolution(x, made, normal, normal <= tolerance or walk.ended)


def lsqr(
    forward: Product,
    adjoint: Product,
    b: Tensor,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    most: int | None = None,
) -> LeastSquaresSolution:
    r"""Least squares by LSQR; arguments and result as :func:`lsmr` has them.

    Args:
        forward: v -> A v.
        adjoint: u -> A'u.
        b: The right-hand side, flat.
        damping: :math:`\mu \ge 0`.
        tolerance: Stop where the gradient is at most this share of :math:`\lVert A^\top b\rVert`.
        most: Iterations at most; None: four times the shorter side.

    Example:
        >>> lsqr(lambda v: 2 * v, lambda u: 2 * u, torch.ones(2), damping=2.0).x
        tensor([0.2500, 0.2500])
    """
    limit = _checked("lsqr", damping, tolerance, most)
    walk = _Bidiagonal(forward, adjoint, b)
    limit = limit or walk.most
    start = walk.alpha * walk.beta
    x = torch.zeros_like(walk.v)
    if start == 0.0:
        return LeastSquaresSolution(x, 0, 0.0, True)
    w = walk.v.clone()
    phi_bar, rho_bar = walk.beta, walk.alpha
    normal, made = 1.0, 0
    for _ in range(limit):
        walk.advance()
        made += 1
        c_damp, _, rho_hat = _rotation(rho_bar, damping)
        phi_bar *= c_damp
        c, s, rho = _rotation(rho_hat, walk.beta)
        theta, rho_bar = s * walk.alpha, -c * walk.alpha
        phi, phi_bar = c * phi_bar, s * phi_bar
        x += w * (phi / rho)
        w = walk.v - w * (theta / rho)
        normal = abs(phi_bar * walk.alpha * c) / start
        if normal <= tolerance or walk.ended:
            break
    return LeastSquaresSolution(x, made, normal, normal <= tolerance or walk.ended)


@final
class _Bidiagonal:
    """Golub and Kahan's process: beta u = A v - alpha u, alpha v = A'u - beta v."""

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


def _rotation(a: float, b: float) -> tuple[float, float, float]:
    """Cosine, sine and length of the rotation that takes (a, b) to (length, 0)."""
    length = math.hypot(a, b)
    return (a / length, b / length, length) if length else (1.0, 0.0, 0.0)


def _checked(where: str, damping: float, tolerance: float, most: int | None) -> int | None:
    for name, value in (("damping", damping), ("tolerance", tolerance)):
        if not value >= 0:
            raise bad_argument(where, name, value, "a number >= 0")
    if most is not None and not most >= 1:
        raise bad_argument(where, "most", most, "an integer >= 1, or None")
    return most
