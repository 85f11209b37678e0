"""The Frobenius norm of an operator: the root of the sum of its squared entries."""

from __future__ import annotations

import torch

from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.sampling import Plan, Scalar, check_square, gather, sketch_of


__all__ = ["frobenius"]

METHODS = ("auto", "hutchinson", "xtrace")


def frobenius(
    A: AbstractOperator,
    method: str = "auto",
    *,
    probes: int | None = None,
    target: float | None = None,
    distribution: str | None = None,
    seed: int | torch.Generator = 0,
    max_products: int | None = None,
    progress: bool = False,
) -> Estimate:
    r"""Estimate :math:`\|A\|_F = \sqrt{\mathbb E\,\|A\omega\|^2}`.

    ``"hutchinson"`` takes the mean over probes, one product each; ``"xtrace"`` measures A exactly
    on a basis of its images and the rest by probes, two products each, which is sharper by far
    where few eigenvalues carry the norm; ``"auto"`` picks as :func:`~thalweg.curvature.trace` does.

    Args:
        A: A square operator. Where it is not symmetric, ``"xtrace"`` is right but no sharper.
        method: One of the three names.
        probes: The number of probes. None: as many as the target or ``max_products`` allow.
        target: The relative standard error at which to stop, > 0.
        distribution: ``"rademacher"``, ``"gaussian"`` or ``"sphere"``.
        seed: An integer, or a generator of the CPU's.
        max_products: Default 60, with a target 1000.
        progress: Show a progress bar.

    Returns:
        The norm; its standard error is that of the square over twice the norm.

    Raises:
        ValueError: If an argument is outside its range or the operator is not square.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> frobenius(Dense(torch.diag(torch.tensor([3.0, 4.0])))).value
        5.0
    """
    check_square("frobenius", A)
    plan = Plan(
        "frobenius", method, METHODS, probes, target, max_products, distribution, seed, progress
    )
    sketch = sketch_of([A], plan)
    scalar = Scalar(sketch, [(0, 0)], lambda traces: traces[0].clamp_min(0.0).sqrt())
    kind = gather(sketch, scalar, plan)
    if kind == "exact":
        products = sketch.products + A.shape[0]
        value = float(torch.linalg.vector_norm(A.to_dense(), dtype=torch.float64))
        return Estimate(value, 0.0, products, kind, A.shape[0])
    return scalar.estimate(kind)
