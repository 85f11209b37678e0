"""The trace of an operator: the sum of its eigenvalues, from few products."""

from __future__ import annotations

import torch

from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.sampling import Plan, Scalar, check_square, gather, sketch_of


__all__ = ["trace"]

METHODS = ("auto", "hutchinson", "hutch++", "xtrace")


def trace(
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
    r"""Estimate :math:`\operatorname{tr} A = \mathbb E[\omega^\top A\,\omega]`.

    * ``"hutchinson"`` is the mean of :math:`\omega^\top A\,\omega`, one product a probe;
      ``distribution="gaussian"`` gives Girard's.
    * ``"hutch++"`` measures A exactly on a random image of it and the rest by Hutchinson.
    * ``"xtrace"`` does so with each probe in turn left out, two products a probe: the best for
      quickly falling spectra, such as of a trained network.
    * ``"auto"`` picks Hutchinson or XTrace by the samples' own spread after ten probes, and n
      products with unit vectors where that is no dearer.

    Args:
        A: A square operator; it need not be symmetric.
        method: One of the four names.
        probes: The number of probes. None: as many as the target or ``max_products`` allow.
        target: The relative standard error at which to stop, > 0.
        distribution: ``"rademacher"``, ``"gaussian"`` or ``"sphere"``; default Rademacher, for
            XTrace the sphere, which has the lower variance there (Epperly et al., section 2).
        seed: An integer, or a generator of the CPU's.
        max_products: Default 60, with a target 1000.
        progress: Show a progress bar.

    Returns:
        The estimate. Its standard error counts in that leave-one-out estimates share their probes.

    Raises:
        ValueError: If an argument is outside its range or the operator is not square.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> A = Dense(torch.diag(0.5 ** torch.arange(200.0)))
        >>> print(trace(A, "xtrace", probes=20))
        2.00000 ± 0.0000... (40 products, xtrace)

    References:
        Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian
        smoothing splines, 1990. Meyer, Musco, Musco and Woodruff, Hutch++: optimal stochastic
        trace estimation, 2021. Epperly, Tropp and Webber, XTrace: making the most of every sample
        in stochastic trace estimation, 2024.
    """
    check_square("trace", A)
    plan = Plan(
        "trace", method, METHODS, probes, target, max_products, distribution, seed, progress
    )
    sketch = sketch_of([A], plan)
    scalar = Scalar(sketch, [(None, 0)])
    kind = gather(sketch, scalar, plan)
    if kind == "exact":
        products = sketch.products + A.shape[0]
        value = float(A.to_dense().diagonal().double().sum())
        return Estimate(value, 0.0, products, kind, A.shape[0])
    return scalar.estimate(kind)
