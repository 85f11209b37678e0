r"""LSMR: least squares by products with A and its transpose alone.

.. math:: \min_x \lVert A x - b\rVert^2 + \mu^2 \lVert x\rVert^2

over the growing spaces of Golub and Kahan's bidiagonalisation, where the residual of the normal
equations is made as small as it can be: it may be stopped early at a gradient of known size.

References:
    Fong and Saunders, LSMR: an iterative algorithm for sparse least-squares problems, 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thalweg.numerics.bidiagonal import (
    Bidiagonal,
    LeastSquaresSolution,
    Product,
    checked,
    rotation,
)


__all__ = ["lsmr"]


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
    limit = checked("lsmr", damping, tolerance, most)
    walk = Bidiagonal(forward, adjoint, b)
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
        _, _, alpha_hat = rotation(alpha_bar, damping)  # the damping's rows
        rho_before, rho_bar_before = rho, rho_bar
        c, s, rho = rotation(alpha_hat, walk.beta)
        theta, alpha_bar = s * walk.alpha, c * walk.alpha
        theta_bar = s_bar * rho
        c_bar, s_bar, rho_bar = rotation(c_bar * rho, theta)
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
        across = h - across * (theta_bar * rho / (rho_before * rho_bar_before))
        x += across * (zeta / (rho * rho_bar))
        h = walk.v - h * (theta / rho)
        normal = abs(zeta_bar) / start
        if normal <= tolerance or walk.ended:
            break
    return LeastSquaresSolution(x, made, normal, normal <= tolerance or walk.ended)
