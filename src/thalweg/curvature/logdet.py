"""The logarithm of a determinant: of a Laplace approximation, of a volume."""

from __future__ import annotations

import math

import numpy as np
import torch

from thalweg.curvature.density import tridiagonals
from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.symmetric import check_symmetric, dense_eigh, working_dtype
from thalweg.errors import POSITIVE, bad_argument, integer_from, one_of
from thalweg.numerics.lanczos import ROUNDING, Tridiagonal
from thalweg.numerics.quadrature import gauss


__all__ = ["logdet"]

_DENSE = 500  # rows up to which n products and a LAPACK are the better way
_FEWEST = 4  # probes before a spread is believed


def logdet(
    A: AbstractOperator,
    method: str = "auto",
    *,
    steps: int = 80,
    probes: int | None = None,
    target: float | None = None,
    seed: int | torch.Generator = 0,
    reorthogonalize: bool = False,
    progress: bool = False,
) -> Estimate:
    r"""Estimate :math:`\log\det A = \operatorname{tr} \log A` of a positive definite operator.

    Stochastic Lanczos quadrature: the mean over random probes of :math:`n \sum_j w_j
    \log\theta_j`. The standard error holds the spread of the probes, what the quadrature was
    still to change by the rate of its last steps, and rounding. An operator that is only
    semidefinite, as a Gauss-Newton matrix, has minus infinity and is refused; ``A.damped(d)`` has a
    value.

    Args:
        A: A symmetric positive definite operator.
        method: ``"lanczos"``; ``"dense"``, LAPACK on n products; ``"auto"`` takes the second up to
            500 rows.
        steps: Lanczos steps of each probe. About :math:`\sqrt{\kappa}` times a few are needed.
        probes: The number of probes; default 10.
        target: The standard error at which to stop, as a share of the value, > 0; with it
            ``probes`` is the most that are tried, 200 by default.
        seed: An integer, or a generator of the CPU's.
        reorthogonalize: As in :func:`~thalweg.curvature.density.spectral_density`.
        progress: Show a progress bar.

    Returns:
        The estimate; exact up to rounding where it is dense.

    Raises:
        ValueError: If an argument is outside its range, or A has an eigenvalue that is not
            positive.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> from thalweg.curvature.operator import Expression
        >>> scale = torch.linspace(1, 2, 1000)[:, None]
        >>> A = Expression((1000, 1000), lambda v: scale * v, symmetric=True)
        >>> abs(float(logdet(A, steps=20)) - scale.log().sum().item()) < 0.01
        True

    References:
        Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, 2017.
    """
    one_of("auto", "lanczos", "dense").check("logdet", "method", method)
    check_symmetric("logdet", A)
    if target is not None:
        POSITIVE.check("logdet", "target", target)
    most = probes if probes is not None else (10 if target is None else 200)
    integer_from(1).check("logdet", "probes", most)
    if method == "dense" or (method == "auto" and A.shape[0] <= _DENSE):
        return _dense(A)
    values: list[float] = []
    shared: list[float] = []
    spent = 0
    options = {"seed": seed, "reorthogonalize": reorthogonalize, "progress": progress}
    for run in tridiagonals(A, steps, most, where="logdet", **options):
        value, error = _from_run(A, run)
        values.append(value)
        shared.append(error)
        spent += len(run.diagonal)
        if target is not None and len(values) >= _FEWEST:
            mean, stderr = _mean(values, shared)
            if stderr <= target * abs(mean):
                break
    mean, stderr = _mean(values, shared)
    return Estimate(mean, stderr, spent, "lanczos quadrature", len(values))


def _dense(A: AbstractOperator) -> Estimate:
    values, _ = dense_eigh("logdet", A)
    _check_positive(A, values)
    return Estimate(float(np.log(values).sum()), 0.0, A.shape[0], "dense", 1)


def _from_run(A: AbstractOperator, run: Tridiagonal) -> tuple[float, float]:
    """A probe's value, and the error that all probes have in common."""
    nodes, weights = gauss(run)
    _check_positive(A, nodes)
    value = float(weights @ np.log(nodes))
    # What rounding of A's products does to the logarithm, to first order.
    error = torch.finfo(working_dtype(A)).eps * float(weights @ (nodes.max() / nodes))
    if run.residual > 0.0:  # else the Krylov space is invariant, and the quadrature exact
        error += _remaining(run, value)
    return A.shape[0] * value, A.shape[0] * error


def _remaining(run: Tridiagonal, value: float) -> float:
    """The error of the quadrature, had it gone on converging at the rate of its last half."""
    steps = len(run.diagonal)
    half, later = (
        float(weights @ np.log(nodes))
        for nodes, weights in (gauss(run, max(1, steps * part // 4)) for part in (2, 3))
    )
    change, before = abs(value - later), abs(later - half)
    rate = min(change / before, 0.95) if before > 0 else 0.0
    return change * max(1.0, rate / (1 - rate))


def _mean(values: list[float], shared: list[float]) -> tuple[float, float]:
    """The mean of the probes, and its standard error with the quadrature's share."""
    count = len(values)
    spread = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return float(np.mean(values)), math.hypot(spread, float(np.mean(shared)))


def _check_positive(A: AbstractOperator, values: np.ndarray) -> None:
    """Refuse a value that is not above the rounding of the operator's products."""
    rounding = ROUNDING * torch.finfo(working_dtype(A)).eps * float(np.abs(values).max())
    lowest = float(values.min())
    if lowest <= rounding:
        allowed = (
            f"positive definite; it has an eigenvalue at or below {lowest:.3g} (rounding is "
            f"{rounding:.1g}). A.damped(d) with d > {max(-lowest, 0.0):.3g} is"
        )
        raise bad_argument("logdet", "A", A, allowed)
