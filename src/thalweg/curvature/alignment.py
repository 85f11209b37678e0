"""How alike two operators are: gradient noise and curvature, most of all."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import final

import torch
from torch import Tensor

from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.sampling import Plan, Scalar, check_square, gather, sketch_of
from thalweg.errors import bad_argument


__all__ = ["Alignment", "alignment"]

METHODS = ("auto", "hutchinson", "xtrace")


@final
@dataclass(frozen=True)
class Alignment:
    r"""What :func:`alignment` found of C and H, all from the same products.

    Args:
        cosine: :math:`\operatorname{tr}(C H) / (\|C\|_F \|H\|_F)` for symmetric operators, in
            [-1, 1]: 1 where one is a positive multiple of the other.
        product: :math:`\operatorname{tr}(C^\top H)`.
        traces: The traces of C and of H.
        norms: Their Frobenius norms.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> A = Dense(torch.diag(torch.arange(1.0, 31.0)))
        >>> found = alignment(A, 2.0 * A)
        >>> round(found.cosine.value, 4), round(found.traces[1].value / found.traces[0].value, 4)
        (1.0, 2.0)
    """

    cosine: Estimate
    product: Estimate
    traces: tuple[Estimate, Estimate]
    norms: tuple[Estimate, Estimate]

    def __str__(self) -> str:
        return f"alignment {self.cosine}"


def alignment(
    C: AbstractOperator,
    H: AbstractOperator,
    method: str = "auto",
    *,
    probes: int | None = None,
    target: float | None = None,
    distribution: str | None = None,
    seed: int | torch.Generator = 0,
    max_products: int | None = None,
    progress: bool = False,
) -> Alignment:
    r"""Estimate the cosine between two operators, their traces and their norms.

    .. math:: \cos(C, H) = \frac{\operatorname{tr}(C^\top H)}{\|C\|_F\,\|H\|_F}, \qquad
              \operatorname{tr}(C^\top H) = \mathbb E[(C\omega)^\top H\omega].

    With C the covariance of per-sample gradients and H the Hessian it says whether gradient noise
    lies in the sharp directions, and :math:`\operatorname{tr}(CH)` is, up to :math:`\eta^2/2B`, the
    loss that noise costs in a step.

    Args:
        C: A square operator.
        H: A square operator of the same shape.
        method: ``"hutchinson"``, ``"xtrace"`` (with a basis of images of H), or ``"auto"``.
        probes: The number of probes, multiplied by both. None: by target or ``max_products``.
        target: The relative standard error of the cosine at which to stop, > 0.
        distribution: ``"rademacher"``, ``"gaussian"`` or ``"sphere"``.
        seed: An integer, or a generator of the CPU's.
        max_products: With each of the two; default 60, with a target 1000.
        progress: Show a progress bar.

    Returns:
        The estimates; of the cosine and norms, standard errors by the delta method.

    Raises:
        ValueError: If an argument is outside its range or the shapes differ.
    """
    check_square("alignment", C)
    check_square("alignment", H)
    if C.shape != H.shape:
        raise bad_argument("alignment", "H", H, f"an operator of shape {C.shape}")
    plan = Plan(
        "alignment", method, METHODS, probes, target, max_products, distribution, seed, progress
    )
    sketch = sketch_of([H, C], plan)
    scalar = Scalar(sketch, [(1, 0), (None, 1), (None, 0), (1, 1), (0, 0)], _cosine)
    kind = gather(sketch, scalar, plan)
    if kind == "exact":
        return _exact(C, H, 2 * sketch.products)
    product, trace_c, trace_h = (scalar.estimate(kind, itemgetter(i)) for i in range(3))
    norm_c = scalar.estimate(kind, lambda t: _root(t[3]))
    norm_h = scalar.estimate(kind, lambda t: _root(t[4]))
    return Alignment(scalar.estimate(kind), product, (trace_c, trace_h), (norm_c, norm_h))


def _root(square: Tensor) -> Tensor:
    return square.clamp_min(1e-300).sqrt()


def _cosine(traces: Tensor) -> Tensor:
    return traces[0] / (_root(traces[3]) * _root(traces[4]))


def _exact(C: AbstractOperator, H: AbstractOperator, spent: int) -> Alignment:
    first, second = C.to_dense().double(), H.to_dense().double()
    products = spent + 2 * len(first)

    def known(value: Tensor) -> Estimate:
        return Estimate(float(value), 0.0, products, "exact", len(first))

    product, squares = (first * second).sum(), (first.square().sum(), second.square().sum())
    return Alignment(
        known(product / (_root(squares[0]) * _root(squares[1]))),
        known(product),
        (known(first.trace()), known(second.trace())),
        (known(squares[0].sqrt()), known(squares[1].sqrt())),
    )
