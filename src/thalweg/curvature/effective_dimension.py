"""The effective dimension: how many directions an operator determines against a damping."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from rich.progress import Progress
from torch import Tensor

from thalweg.curvature.estimate import Estimate, mean_estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.sampling import Plan, check_square
from thalweg.errors import POSITIVE, NonFiniteError, bad_argument, integer_from
from thalweg.numerics.probes import Probes
from thalweg.numerics.tall import column_dots


__all__ = ["effective_dimension"]

_PROBES = 10  # drawn at a time
_SHARE = 1e-3  # of a sample that its truncation may be off


def effective_dimension(
    A: AbstractOperator,
    damping: float,
    *,
    probes: int | None = None,
    target: float | None = None,
    distribution: str = "rademacher",
    seed: int | torch.Generator = 0,
    max_products: int = 1000,
    max_iterations: int = 200,
    progress: bool = False,
) -> Estimate:
    r"""Estimate :math:`d(\delta) = \operatorname{tr}\,A (A + \delta I)^{-1}`.

    It counts the eigenvalues that stand out against the damping :math:`\delta`: each one has the
    part :math:`\lambda / (\lambda + \delta)`. A probe's sample :math:`\omega^\top A
    (A+\delta I)^{-1}\omega` is Gauss quadrature on the coefficients of conjugate gradients, which
    stops where the residual r bounds what is missing, :math:`\|r\|^2`, by a thousandth of it.

    Args:
        A: A symmetric positive semi-definite operator: a GGN, a Fisher matrix, a covariance.
        damping: The damping :math:`\delta`, > 0.
        probes: The number of probes; default 10, with a target as many as it takes.
        target: The relative standard error at which to stop, > 0.
        distribution: ``"rademacher"``, ``"gaussian"`` or ``"sphere"``.
        seed: An integer, or a generator of the CPU's.
        max_products: After which a target is given up.
        max_iterations: Of conjugate gradients, for each probe.
        progress: Show a progress bar.

    Returns:
        The estimate; a truncation by ``max_iterations`` is counted in its standard error.

    Raises:
        ValueError: If an argument is outside its range, or the operator has a negative eigenvalue.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> A = Dense(torch.diag(torch.tensor([9.0] * 5 + [0.0] * 45)))
        >>> print(effective_dimension(A, damping=1.0))
        4.5... (20 products, conjugate gradients)
    """
    where = "effective_dimension"
    check_square(where, A)
    if not A.symmetric:
        raise bad_argument(where, "A", A, "a symmetric operator")
    POSITIVE.check(where, "damping", damping)
    integer_from(1).check(where, "max_iterations", max_iterations)
    Plan(where, "hutchinson", ("hutchinson",), probes, target, max_products, distribution)
    source = Probes(A.shape[0], distribution, seed, A.dtype, A.device)
    least = probes or _PROBES
    samples, missing, spent = torch.zeros(0, dtype=torch.float64), 0.0, 0
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task(where, total=max_products)
        while True:
            found, gap, products = _samples(A, damping, source.draw(least), max_iterations)
            samples = torch.cat([samples, found])
            missing, spent = max(missing, gap), spent + products
            bar.advance(task, products)
            estimate = mean_estimate(samples, spent, "conjugate gradients")
            estimate = replace(estimate, stderr=math.hypot(float(estimate.stderr), missing))
            enough = target is None or float(estimate.stderr) <= target * float(estimate.value)
            # Another round costs about what this one did.
            if enough or spent + products > max_products:
                return estimate


def _samples(
    A: AbstractOperator, damping: float, probes: Tensor, iterations: int
) -> tuple[Tensor, float, int]:
    """A sample for each probe, the mean by which they may be too large, and the products."""
    size = column_dots(probes, probes)
    residual, direction = probes.clone(), probes.clone()
    squared, quadrature = size.clone(), torch.zeros_like(size)
    largest, count = 0.0, probes.shape[1]
    products = 0
    for _ in range(iterations):
        products += count
        image = A.apply(direction)
        length, bend = column_dots(direction, direction), column_dots(direction, image)
        if not bool(bend.isfinite().all()):
            raise NonFiniteError("effective_dimension: a product holds NaN or infinite entries.")
        going = length > 0
        largest = max(largest, float((bend.abs() / length.clamp_min(1e-300)).max()))
        _check_positive(bend, length, damping, largest, A.dtype)
        along = torch.where(going, squared / (bend + damping * length).clamp_min(1e-300), 0.0)
        quadrature += along * squared
        residual -= (image + damping * direction) * along.to(A.dtype)
        before, squared = squared, column_dots(residual, residual)
        value = size - damping * quadrature
        if bool((squared <= _SHARE * value.abs() + _rounding(A, size)).all()):
            break
        factor = torch.where(going, squared / before.clamp_min(1e-300), 0.0)
        direction = residual + direction * factor.to(A.dtype)
    # Truncated, the quadrature of 1 / (x + damping) is too small, the sample too large.
    return value.cpu(), float(squared.mean()), products


def _rounding(A: AbstractOperator, size: Tensor) -> Tensor:
    return (8 * torch.finfo(A.dtype).eps) ** 2 * size


def _check_positive(
    bend: Tensor, length: Tensor, damping: float, largest: float, dtype: torch.dtype
) -> None:
    allowance = 1e-2 * damping + 100 * torch.finfo(dtype).eps * largest
    if bool((bend < -allowance * length).any()):
        raise ValueError(
            "effective_dimension(A=...): A has a negative eigenvalue; the effective dimension is "
            "of a positive semi-definite operator, such as a GGN, a Fisher matrix or a covariance."
        )
