r"""LSQR: least squares by products with A and its transpose alone.

.. math:: \min_x \lVert A x - b\rVert^2 + \mu^2 \lVert x\rVert^2

over the growing spaces of Golub and Kahan's bidiagonalisation, where the residual is made as
small as it can be.

References:
    Paige and Saunders, LSQR: an algorithm for sparse linear equations and sparse least squares,
    1982.
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


__all__ = ["lsqr"]


def lsqr(
    forward: Product,
    adjoint: Product,
    b: Tensor,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    most: int | None = None,
) -> LeastSquaresSolution:
    r"""Least squares by LSQR; arguments and result are those of LSMR.

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
    limit = checked("lsqr", damping, tolerance, most)
    walk = Bidiagonal(forward, adjoint, b)
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
        c_damp, _, rho_hat = rotation(rho_bar, damping)
        phi_bar *= c_damp
        c, s, rho = rotation(rho_hat, walk.beta)
        theta, rho_bar = s * walk.alpha, -c * walk.alpha
        phi, phi_bar = c * phi_bar, s * phi_bar
        x += w * (phi / rho)
        w = walk.v - w * (theta / rho)
        normal = abs(phi_bar * walk.alpha * c) / start
        if normal <= tolerance or walk.ended:
            break
    return LeastSquaresSolution(x, made, normal, normal <= tolerance or walk.ended)
