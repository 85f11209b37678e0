"""The diagonal of an operator, entry by entry, from few products."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.sampling import Plan, check_square, gather, sketch_of
from thalweg.errors import bad_argument
from thalweg.numerics.sketch import Sketch


__all__ = ["diagonal"]

METHODS = ("auto", "hutchinson", "xdiag")


def diagonal(
    A: AbstractOperator,
    method: str = "auto",
    *,
    probes: int | None = None,
    target: float | None = None,
    distribution: str = "rademacher",
    seed: int | torch.Generator = 0,
    max_products: int | None = None,
    progress: bool = False,
) -> Estimate:
    r"""Estimate :math:`\operatorname{diag} A`.

    * ``"hutchinson"``: :math:`\sum_k \omega_k \odot A\omega_k \,/\, \sum_k \omega_k^2`, entry by
      entry, one product a probe. For an entry this is a regression through the origin, whose
      standard error is stated; with Gaussian probes its interval is exact.
    * ``"xdiag"``: A exactly on a basis of its images, the rest by the probe that is left out of
      the basis, two products a probe. Takes Rademacher probes.
    * ``"auto"`` picks one by what the basis of ten probes leaves over.

    Args:
        A: A square operator.
        method: One of the three names.
        probes: The number of probes. None: as many as the target or ``max_products`` allow.
        target: Stop where the norm of the standard errors is this share of the diagonal's norm.
        distribution: ``"rademacher"`` or, for Hutchinson, ``"gaussian"`` or ``"sphere"``.
        seed: An integer, or a generator of the CPU's.
        max_products: Default 60, with a target 1000.
        progress: Show a progress bar.

    Returns:
        n entries and n standard errors, of the operator's type and on its device.

    Raises:
        ValueError: If an argument is outside its range or the operator is not square.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> diagonal(Dense(torch.diag(torch.tensor([1.0, 2.0]))), "hutchinson", probes=2).value
        tensor([1., 2.])

    References:
        Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, 2007. Epperly, Tropp
        and Webber, XTrace: making the most of every sample in stochastic trace estimation, 2024.
    """
    check_square("diagonal", A)
    if distribution != "rademacher" and method != "hutchinson":
        allowed = f"'rademacher' with method={method!r}"
        raise bad_argument("diagonal", "distribution", distribution, allowed)
    plan = Plan(
        "diagonal", method, METHODS, probes, target, max_products, distribution, seed, progress
    )
    sketch = sketch_of([A], plan)
    entries = _Entries(sketch)
    kind = gather(sketch, entries, plan)
    if kind == "exact":
        products = sketch.products + A.shape[0]
        exact = A.to_dense().diagonal().clone()
        return Estimate(exact, torch.zeros_like(exact), products, kind, A.shape[0])
    value, stderr = entries.measured(kind)
    count = sketch.products if kind == "hutchinson" else sketch.products // 2
    return Estimate(value.to(A.dtype), stderr.to(A.dtype), sketch.products, kind, count)


@final
class _Entries:
    """Running sums of the regression of images on probes, entry by entry."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch = sketch
        self._count = 0
        n, device = sketch.source.n, sketch.source.device
        self._sums = torch.zeros(3, n, dtype=torch.float64, device=device)
        sketch.watchers.append(self._watch)

    def _watch(self, probes: Tensor, images: list[Tensor]) -> None:
        for probe, image in zip(probes.T.double(), images[0].T.double(), strict=True):
            self._sums += torch.stack([probe * image, probe * probe, image * image])
        self._count += probes.shape[1]

    def relative(self, kind: str) -> float:
        """The norm of the standard errors over that of the diagonal."""
        value, stderr = self.measured(kind)
        error = float(stderr.square().sum())
        # The estimate's square holds the error's, which is not the diagonal's.
        size = float(value.square().sum()) - error
        return math.sqrt(error / size) if size > 0 else (math.inf if error else 0.0)

    def measured(self, kind: str) -> tuple[Tensor, Tensor]:
        """The estimates and their standard errors."""
        if kind != "hutchinson":
            return self._sketch.leave_one_out().diagonals()
        cross, square, image = self._sums
        value = cross / square
        rest = (image - value * cross).clamp_min(0.0) / max(1, self._count - 1)
        return value, (rest / square).sqrt()
