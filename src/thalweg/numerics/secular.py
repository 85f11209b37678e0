r"""The trust-region problem in the eigenbasis, where it is one equation in one unknown.

With eigenvalues :math:`\lambda_i` and the gradient's coordinates :math:`\gamma_i`, the minimiser of

.. math:: \gamma^\top p + \tfrac12 \sum_i \lambda_i p_i^2 \quad\text{over}\quad \|p\| \le r

is :math:`p_i = -\gamma_i / (\lambda_i + \sigma)` for the smallest
:math:`\sigma \ge \max(0, -\lambda_1)` at which its length is at most r. The unknown is kept as
:math:`\tau = \sigma - \max(0, -\lambda_1)`, since beside the pole :math:`\sigma` has no digits left
for it. :math:`1 / \|p(\tau)\|` is concave, so Newton's method from the left of the root climbs to
it and cannot pass it.

Where the coordinates along the lowest eigenvalue are zero, p may be shorter than r at the pole: the
hard case. The rest of the length is then taken along an eigenvector of the lowest eigenvalue.

References:
    More and Sorensen, Computing a trust region step, 1983.
    Conn, Gould and Toint, Trust-region methods, 2000, section 7.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from thalweg.errors import bad_argument


__all__ = ["Secular", "secular"]


@final
@dataclass(frozen=True)
class Secular:
    r"""A solution in coordinates of the eigenbasis.

    Args:
        step: p.
        multiplier: :math:`\sigma`.
        boundary: Whether the length of p is the radius.
        hard: Whether a part of p along the lowest eigenvector was added.
        decrease: What the model falls by, >= 0; a sum of terms that are not negative.

    Example:
        >>> secular(np.array([1.0, 2.0]), np.array([2.0, 0.0]), 1.0).step.tolist()
        [-1.0, 0.0]
    """

    step: np.ndarray
    multiplier: float
    boundary: bool
    hard: bool
    decrease: float


def secular(
    values: np.ndarray,
    coordinates: np.ndarray,
    radius: float,
    *,
    tolerance: float = 1e-13,
    rounding: float = 0.0,
    most: int = 100,
) -> Secular:
    r"""Minimise a diagonal quadratic within a ball.

    Levenberg's and Marquardt's step is the same equation: with the singular values s of
    :math:`J D^{-1}`, the values are :math:`s^2`, the coordinates :math:`s\,(U^\top r)`, and
    :math:`\sigma` is the damping.

    Args:
        values: Eigenvalues, in any order.
        coordinates: The gradient's coordinates.
        radius: The radius r > 0.
        tolerance: How far the length may be from r, as a share of r, where the boundary binds.
        rounding: Values below this share of the largest, and coordinates below this share of the
            gradient's length, are zero where both are: what an eigenvalue solver leaves of a
            direction along which the function does not change.
        most: Newton steps at most; about five are usual.

    Returns:
        The solution.

    Raises:
        ValueError: If the radius is not positive and finite, or an entry is not finite.

    Example:
        >>> found = secular(np.array([-1.0, 2.0]), np.array([0.0, 3.0]), 2.0)
        >>> found.step.round(3).tolist(), found.multiplier, found.hard
        ([-1.732, -1.0], 1.0, True)
    """
    if not (radius > 0 and math.isfinite(radius)):
        raise bad_argument("secular", "radius", radius, "a finite number > 0")
    if not (np.isfinite(values).all() and np.isfinite(coordinates).all()):
        raise bad_argument("secular", "values", "NaN or infinite entries", "finite")
    if not len(values):
        return Secular(np.zeros(0), 0.0, False, False, 0.0)
    # In units of the largest value and of the radius nothing overflows.
    unit = float(np.abs(values).max()) or float(np.linalg.norm(coordinates)) / radius
    if unit == 0.0:
        return Secular(np.zeros_like(values), 0.0, False, False, 0.0)
    lam, gamma = values / unit, coordinates / (unit * radius)
    flat = np.abs(lam) <= rounding
    if rounding and flat.any():
        quiet = flat & (np.abs(gamma) <= rounding * np.linalg.norm(gamma))
        lam, gamma = np.where(quiet, 0.0, lam), np.where(quiet, 0.0, gamma)
    shift = max(0.0, -float(lam.min()))
    apart = lam + shift
    p, tau = _root(apart, gamma, tolerance, most)
    length = float(np.linalg.norm(p))
    boundary, hard = tau > 0.0 or length >= 1.0 - tolerance, False
    if not boundary and shift > 0.0:
        lowest = int(np.argmin(lam))
        p[lowest] = -math.copysign(math.sqrt(1.0 - length**2), gamma[lowest])
        boundary = hard = True
    sigma = shift + tau
    fall = 0.5 * float(np.sum((apart + tau) * p**2)) + 0.5 * sigma * float(np.sum(p**2))
    return Secular(p * radius, sigma * unit, boundary, hard, fall * unit * radius**2)


def _root(
    apart: np.ndarray, gamma: np.ndarray, tolerance: float, most: int
) -> tuple[np.ndarray, float]:
    """The step of length 1, or the shorter one at 0, and its tau; all ``apart`` are >= 0."""
    size = np.abs(gamma)
    tau = max(float((size - apart).max()), 0.0)  # each coordinate alone has at most length 1 there
    p = _step(apart, gamma, tau)
    for _ in range(most):
        length = float(np.linalg.norm(p))
        if length <= 1.0 + tolerance:
            break
        steepness = -float(np.sum(p * _step(apart, p, tau)))
        further = tau + length**2 / steepness * (length - 1.0)
        if not further > tau:
            break
        tau = further
        p = _step(apart, gamma, tau)
    return p, tau


def _step(apart: np.ndarray, gamma: np.ndarray, tau: float) -> np.ndarray:
    """-gamma / (apart + tau), and 0 where gamma is 0."""
    return np.divide(-gamma, apart + tau, out=np.zeros_like(gamma), where=gamma != 0.0)
