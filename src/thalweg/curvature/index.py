r"""Negative curvature: how many directions there are, and the steepest of them.

The number of negative eigenvalues of a network's Hessian depends on where zero ends: the same
trained network has 52 eigenvalues below :math:`-10^{-3}\lambda_{\max}`, 393 below
:math:`-10^{-6}\lambda_{\max}` and 550 below zero. So a tolerance is asked for, and the number of
eigenvalues inside it is returned beside the count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal, ldl
from torch import Tensor

from thalweg.curvature.density import density_of, tridiagonals
from thalweg.curvature.eigen import Eigenpairs, eigsh
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.symmetric import check_symmetric, dense_matrix
from thalweg.errors import FRACTION, POSITIVE, bad_argument, integer_from, one_of
from thalweg.numerics.lanczos import ROUNDING, Tridiagonal
from thalweg.numerics.quadrature import gauss
from thalweg.vectors import Vector


__all__ = ["NegativeCurvature", "NegativeEigenvalues", "negative_curvature", "negative_eigenvalues"]

_DENSE = 1500  # rows up to which "auto" forms the matrix
_FEWEST = 4  # probes before a spread is believed


@final
@dataclass(frozen=True)
class NegativeEigenvalues:
    r"""The number of eigenvalues below :math:`-\tau`, and of those within :math:`\pm\tau`.

    Args:
        count: The number below; an integer if it was counted.
        stderr: Its standard error, over the probes and the last steps; 0 if it was counted.
        swing: The part of it from the steps, which more probes do not lessen.
        inside: The number within the tolerance, which are taken for zero.
        inside_stderr: Its standard error.
        low: At least so many are below, by the quadrature's own bounds, the noise of the probes
            not counted.
        high: At most so many are.
        tolerance: The tolerance as it was asked for.
        threshold: :math:`\tau`.
        n: The number of all eigenvalues.
        products: Products spent.
        method: ``"inertia"`` or ``"lanczos"``.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> found = negative_eigenvalues(Dense(torch.diag(torch.tensor([-1.0, 1e-9, 4.0]))), 1e-3)
        >>> print(found)
        1 of 3 below -0.004, 1 within ±0.004 (3 products, inertia)
    """

    count: float
    stderr: float
    swing: float
    inside: float
    inside_stderr: float
    low: float
    high: float
    tolerance: float
    threshold: float
    n: int
    products: int
    method: str

    @property
    def fraction(self) -> float:
        """The share of the eigenvalues that are below."""
        return self.count / self.n

    def __str__(self) -> str:
        below = _shown(self.count, self.stderr)
        inside = _shown(self.inside, self.inside_stderr)
        tau = f"{self.threshold:.3g}"
        cost = f"({self.products} products, {self.method})"
        return f"{below} of {self.n} below -{tau}, {inside} within ±{tau} {cost}"


@final
@dataclass(frozen=True)
class NegativeCurvature:
    r"""A direction v of negative curvature, or the best that was found.

    Args:
        value: :math:`v^\top A v / v^\top v`, which lies above the smallest eigenvalue.
        vector: v, n entries of unit length.
        residual: :math:`\|A v - \mathrm{value}\, v\|`: an eigenvalue lies within it.
        found: Whether the value is below minus the tolerance, and below rounding. A product shows
            this, so no bound is needed.
        products: Products spent.
        converged: Whether the search ended by its residual; if not found, whether to believe it.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> saddle = negative_curvature(Dense(torch.tensor([[1.0, 2.0], [2.0, 1.0]])))
        >>> saddle.found, round(saddle.value, 6)
        (True, -1.0)
    """

    value: float
    vector: Tensor
    residual: float
    found: bool
    products: int
    converged: bool


def negative_eigenvalues(
    A: AbstractOperator,
    tolerance: float,
    *,
    scale: float | None = None,
    method: str = "auto",
    steps: int = 80,
    probes: int | None = None,
    target: float | None = None,
    seed: int | torch.Generator = 0,
    progress: bool = False,
) -> NegativeEigenvalues:
    r"""Count the eigenvalues below :math:`-\tau`, where :math:`\tau` is ``tolerance * scale``.

    * ``"inertia"``: Sylvester's law. :math:`A + \tau I = P L D L^\top P^\top` has as many negative
      eigenvalues as the block-diagonal D, exactly, for n products and two factorisations.
    * ``"lanczos"``: n times the share that random probes see below, averaged over the last quarter
      of their steps. The error holds the spread of the probes and half of the swing over those
      steps; ``low`` and ``high`` are the bounds of Chebyshev, Markov and Stieltjes.
    * ``"auto"``: the first up to 1500 rows.

    Args:
        A: A symmetric operator.
        tolerance: What counts as zero, in (0, 1) if ``scale`` is None, else > 0.
        scale: The size to which the tolerance is relative; 1.0 makes it absolute. Default: the
            largest magnitude of an eigenvalue.
        method: One of the three names.
        steps: Lanczos steps of each probe.
        probes: The number of probes; default 10.
        target: The standard error at which to stop, in eigenvalues as a share of n, > 0; with it
            ``probes`` is the most that are tried, 200 by default. It stops earlier where the steps
            and not the probes make the error.
        seed: An integer, or a generator of the CPU's.
        progress: Show a progress bar.

    Returns:
        The counts, with their errors and the tolerance.

    Raises:
        ValueError: If A is not symmetric, or an argument is outside its range.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> from thalweg.curvature.operator import Expression
        >>> scale = torch.linspace(-1, 3, 4000)[:, None]
        >>> A = Expression((4000, 4000), lambda v: scale * v, symmetric=True)
        >>> found = negative_eigenvalues(A, 1e-3, probes=4)
        >>> found.low <= 997 <= found.high, abs(found.count - 997) < 40
        (True, True)

    References:
        Lin, Saad and Yang, Approximating spectral densities of large matrices, 2016. Bunch and
        Kaufman, Some stable methods for calculating inertia and solving symmetric linear systems,
        1977.
    """
    where = "negative_eigenvalues"
    one_of("auto", "lanczos", "inertia").check(where, "method", method)
    POSITIVE.check(where, "tolerance", tolerance)
    if scale is None:
        FRACTION.check(where, "tolerance", tolerance)
    else:
        POSITIVE.check(where, "scale", scale)
    check_symmetric(where, A)
    if method == "inertia" or (method == "auto" and A.shape[0] <= _DENSE):
        return _by_inertia(A, tolerance, scale)
    if target is not None:
        POSITIVE.check(where, "target", target)
    most = probes if probes is not None else (10 if target is None else 200)
    integer_from(1).check(where, "probes", most)
    runs: list[Tridiagonal] = []
    look = most if target is None else min(_FEWEST, most)
    options = {"seed": seed, "reorthogonalize": False, "progress": progress, "where": where}
    for run in tridiagonals(A, steps, most, **options):
        runs.append(run)
        if len(runs) == look < most:
            found = _by_lanczos(runs, A.shape[0], tolerance, scale)
            # More probes do not make the steps finer.
            if found.stderr <= max(target or 0.0, 1.1 * found.swing / found.n) * found.n:
                return found
            look = min(most, math.ceil(1.5 * look))
    return _by_lanczos(runs, A.shape[0], tolerance, scale)


def negative_curvature(
    A: AbstractOperator,
    tolerance: float = 0.0,
    *,
    tol: float = 0.1,
    gradient: Tensor | Vector | None = None,
    start: Tensor | Vector | Eigenpairs | None = None,
    max_products: int | None = None,
    seed: int | torch.Generator = 0,
    progress: bool = False,
) -> NegativeCurvature:
    r"""The direction of the most negative curvature.

    Args:
        A: A symmetric operator.
        tolerance: :math:`\tau \ge 0`, absolute: curvature above :math:`-\tau` counts as none.
        tol: Relative residual at which to stop, > 0. A descent method needs no sharp direction.
        gradient: If given, v is turned so that it does not go uphill: :math:`g^\top v \le 0`.
        start: Vectors to start from, such as an earlier result's.
        max_products: At most so many products; default 340.
        seed: An integer, or a generator of the CPU's.
        progress: Show a progress bar.

    Returns:
        The direction, and whether its curvature is below the tolerance.

    Raises:
        ValueError: If A is not symmetric, or an argument is outside its range.
        NonFiniteError: If a product has a NaN or an infinite entry.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        allowed = "a number in [0, inf)"
        raise bad_argument("negative_curvature", "tolerance", tolerance, allowed)
    options = {"tol": tol, "start": start, "seed": seed, "progress": progress}
    pairs = eigsh(A, 1, "SA", max_products=max_products, **options)
    vector, value = pairs.vectors[:, 0], float(pairs.values[0])
    if gradient is not None:
        if isinstance(gradient, Vector):
            gradient = torch.cat([part.detach().reshape(-1) for part in gradient])
        if float(gradient.to(vector) @ vector) > 0:
            vector = -vector
    rounding = ROUNDING * torch.finfo(vector.dtype).eps * max(map(abs, pairs.ends))
    return NegativeCurvature(
        value,
        vector,
        float(pairs.residuals[0]),
        value < -max(tolerance, rounding),
        pairs.products,
        pairs.converged,
    )


def _by_lanczos(
    runs: list[Tridiagonal], n: int, tolerance: float, scale: float | None
) -> NegativeEigenvalues:
    density = density_of(runs, n)
    threshold = tolerance * (max(map(abs, density.edges)) if scale is None else scale)
    shares = [_shares(run, threshold) for run in runs]
    count, stderr, swing = _with_error([below for below, _ in shares])
    inside, inside_stderr, _ = _with_error([within for _, within in shares])
    low, high = density.bracket(-threshold)
    return NegativeEigenvalues(
        n * count,
        n * stderr,
        n * swing,
        n * inside,
        n * inside_stderr,
        n * low,
        n * high,
        tolerance,
        threshold,
        n,
        density.products,
        "lanczos",
    )


def _shares(run: Tridiagonal, threshold: float) -> tuple[list[float], list[float]]:
    """The mass below and inside, after each of the last quarter of the steps."""
    steps = len(run.diagonal)
    # An invariant Krylov space gives the measure itself.
    first = steps if run.residual == 0.0 else max(1, 3 * steps // 4)
    rules = [gauss(run, count) for count in range(first, steps + 1)]
    below = [float(weights[nodes < -threshold].sum()) for nodes, weights in rules]
    within = [float(weights[np.abs(nodes) <= threshold].sum()) for nodes, weights in rules]
    return below, within


def _with_error(shares: list[list[float]]) -> tuple[float, float, float]:
    """The mean over probes and steps; the error over probes with half the swing over steps.

    A share jumps by a whole weight when a node crosses the threshold from one step to the next.
    Its mean over steps is nearer to the truth than its last value, and how far it swings is the
    only sign of the error that all probes have in common.
    """
    means = np.array([np.mean(row) for row in shares])
    swing = float(np.mean([np.std(row) for row in shares])) / 2
    count = len(means)
    spread = float(means.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return float(means.mean()), math.hypot(spread, swing), swing


def _by_inertia(A: AbstractOperator, tolerance: float, scale: float | None) -> NegativeEigenvalues:
    matrix = dense_matrix("negative_eigenvalues", A)
    n = len(matrix)
    # The 2-norm is the largest magnitude of an eigenvalue.
    threshold = tolerance * (float(np.linalg.norm(matrix, 2)) if scale is None else scale)
    below = _negative(matrix, threshold)
    inside = n - _negative(-matrix, threshold) - below
    return NegativeEigenvalues(
        below, 0.0, 0.0, inside, 0.0, below, below, tolerance, threshold, n, n, "inertia"
    )


def _negative(matrix: np.ndarray, threshold: float) -> int:
    """The number of eigenvalues below -threshold, by Sylvester's law."""
    _, blocks, _ = ldl(matrix + threshold * np.eye(len(matrix)), overwrite_a=True)
    diagonal, off = np.diag(blocks).copy(), np.diag(blocks, -1).copy()
    values = np.asarray(eigh_tridiagonal(diagonal, off, eigvals_only=True))
    return int(np.sum(values < 0))


def _shown(count: float, stderr: float) -> str:
    return f"{count:.0f}" if stderr == 0 else f"{count:.0f} ± {stderr:.0f}"
