"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's factors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack, final

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.errors import FRACTION, POSITIVE, Domain, integer_from, pair_of
from thalweg.numerics.matrix_roots import eigen, refined_basis
from thalweg.optim.adam import adam_direction
from thalweg.optim.metadata import Range, Reference, Slot, SOAPCommon
from thalweg.optim.seams import Group, Scaled, State
from thalweg.optim.structured import (
    AbstractStructured,
    Lot,
    add_gram_,
    batched,
    products,
    sides_of,
)
from thalweg.vectors import Vector


__all__ = ["SOAP"]

Sides = dict[str, dict[int, Tensor]]


@final
class SOAP(AbstractStructured):
    r"""Adam in the eigenbasis of Shampoo's two factors.

    .. math::
        L &\leftarrow \beta_2 L + (1-\beta_2)\, G G^\top, &
        R &\leftarrow \beta_2 R + (1-\beta_2)\, G^\top G, \\
        G' &= Q_L^\top G\, Q_R, &
        \theta &\leftarrow \theta - \eta\, Q_L\, \mathrm{Adam}(G')\, Q_R^\top ,

    with the columns of :math:`Q_L, Q_R` near the eigenvectors of L and R: an eigendecomposition at
    the first step, and one step of the power method with a QR decomposition every ``interval``
    steps after that. Momentum is kept in the basis and turned with it, which is the same in exact
    arithmetic as keeping it outside and saves two products a step.

    Convolutions are read as (outputs) x (inputs and places). A side longer than ``limit``, or of
    length 1, has the identity for its basis. Vectors, scalars and matrices without a basis are
    moved by Adam.

    The published code spends its first step on the factors alone and moves nothing. Here the first
    step moves as well. What in the basis is a rounding error of the largest entry is taken as zero
    (at the first step, where the gradient is diagonal in its own eigenbasis, below the root of the
    precision; later below :math:`4 \sqrt n` times the precision): Adam would turn it into a step
    as long as any, and a unit that gets no gradient would walk at random. A factor that is NaN or
    infinite keeps its last basis, with a warning.

    Beside an m x n matrix 2 (mn + m^2 + n^2) entries are kept, which for a square one in float32 is
    24 bytes a parameter (AdamW: 8); beside a vector, two for each entry.

    Args:
        params: Parameters, groups or named parameters.
        lr: :math:`\eta` >= 0; default 3e-3, the published code's.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1); default (0.95, 0.95), the published
            code's. The second is also that of the factors.
        eps: Adam's, > 0; default 1e-8.
        interval: Steps between refreshes of the bases, >= 1; default 10, the paper's.
        limit: The longest side that gets a basis, >= 0; default 4096 (published code: 10,000, whose
            first decomposition takes minutes). 0 is Adam.
        weight_decay: Decoupled decay, >= 0; default 0.01, the published code's.
        **common: ``statistics_interval`` (steps between the gradients that enter the factors;
            default 1, the paper's; a larger one saves up to a third of a step's products and keeps
            the same memory in steps); ``l1``, ``decoupled_weight_decay`` (here True by default),
            ``maximize``, ``foreach``: many matrices at once (None: small ones, and all on
            accelerators).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = SOAP([w], lr=0.1, weight_decay=0.0)
        >>> w.grad = torch.tensor([[3.0, 4.0], [0.0, 0.0]])  # one singular pair
        >>> optimizer.step()
        >>> [[round(v, 4) for v in row] for row in w.tolist()]
        [[-0.06, -0.08], [0.0, 0.0]]

    References:
        Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and Kakade, SOAP: improving and
        stabilizing Shampoo using Adam, 2024.
    """

    reference: ClassVar[Reference] = Reference(
        "Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade",
        "SOAP: improving and stabilizing Shampoo using Adam",
        2024,
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("exp_avg"), Slot("exp_avg_sq"))
    kept: ClassVar[str] = "exp_avg, exp_avg_sq, two factors and two bases of a matrix"
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 0.1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "betas": pair_of(FRACTION),
        "eps": POSITIVE,
        "interval": integer_from(1),
        "limit": integer_from(0),
        "statistics_interval": integer_from(1),
    }

    def __init__(
        self,
        params: Any,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        interval: int = 10,
        limit: int = 4096,
        weight_decay: float = 0.01,
        **common: Unpack[SOAPCommon],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "interval": interval,
            "limit": limit,
            "weight_decay": weight_decay,
            "statistics_interval": 1,
        }
        super().__init__(params, own, common)

    def takes(self, shape: torch.Size, group: Group, name: str | None) -> bool:
        """Whatever has a side that gets a basis."""
        return len(shape) > 1 and any(1 < side <= group["limit"] for side in sides_of(shape))

    def elementwise(self, grad: Any, state: State, group: Group) -> Any:
        """Adam."""
        return adam_direction(grad, state, {**group, "amsgrad": False})

    def directions(self, lot: Lot, group: Group) -> list[Scaled]:
        """The rule."""
        fresh = "exp_avg" not in lot.members[0].store
        factors, bases = _sided(lot, group["limit"] if fresh else None)
        means, seconds = lot.slot("exp_avg"), lot.slot("exp_avg_sq")
        decay = group["betas"][1] ** group["statistics_interval"]
        if fresh:
            _absorb(factors, lot.grads, decay)
            _begin(factors, bases)
        turned = [_cleared(part, fresh) for part in _turned(lot.grads, bases)]
        state = State({"exp_avg": Vector(means), "exp_avg_sq": Vector(seconds)}, lot.step)
        rule = self.elementwise(Vector(turned), state, group)
        found = _turned(rule.over.div(rule.under), bases, back=True)
        if not fresh:
            if lot.step % group["statistics_interval"] == 0:
                _absorb(factors, lot.grads, decay)
            if lot.step % group["interval"] == 0:
                _refresh(factors, bases, means, seconds)
        return [Scaled(u, rule.factor) for u in found]


def _sided(lot: Lot, limit: int | None) -> tuple[Sides, Sides]:
    """The factors and bases by side and place; new ones where a side is within the limit."""
    factors: Sides = {"left": {}, "right": {}}
    bases: Sides = {"left": {}, "right": {}}
    for i, (_, grad, store, _) in enumerate(lot.members):
        for side, n in zip(factors, grad.shape, strict=True):
            if side in store if limit is None else 1 < n <= limit:
                factors[side][i] = lot.own(i, side, (n, n))
                bases[side][i] = lot.own(i, f"{side}_basis", (n, n), eye=True)
    return factors, bases


def _turned(matrices: Sequence[Tensor], bases: Sides, *, back: bool = False) -> list[Tensor]:
    """Q_L^T M Q_R, or back; with the identity where there is no basis."""
    found = list(matrices)
    for side, held in bases.items():
        turns = [q if back is (side == "left") else q.mT for q in held.values()]
        parts = [found[i] for i in held]
        pairs = (turns, parts) if side == "left" else (parts, turns)
        for i, part in zip(held, products(*pairs), strict=True):
            found[i] = part
    return found


def _cleared(matrix: Tensor, fresh: bool) -> Tensor:
    """Without the entries that are rounding errors of the largest; Adam would make them steps."""
    eps = torch.finfo(matrix.dtype).eps
    share = eps**0.5 if fresh else 4 * eps * max(matrix.shape) ** 0.5
    if not matrix.is_cuda:  # two passes
        low, high = matrix.aminmax()
        return F.hardshrink(matrix, share * max(-float(low), float(high)))
    size = matrix.abs()
    return torch.where(size > share * size.max(), matrix, 0.0)


def _absorb(factors: Sides, grads: Sequence[Tensor], beta: float) -> None:
    for side, held in factors.items():
        for i, factor in held.items():
            add_gram_(factor, grads[i] if side == "left" else grads[i].T, beta, 1 - beta)


def _begin(factors: Sides, bases: Sides) -> None:
    """The factors' eigenvectors, that of the largest value first."""
    for side, held in factors.items():
        found = batched(eigen, list(held.values()))
        for basis, (_, vectors, good) in zip(bases[side].values(), found, strict=True):
            if _fine(good):
                basis.copy_(vectors.flip(-1))


def _refresh(
    factors: Sides, bases: Sides, means: Sequence[Tensor], seconds: Sequence[Tensor]
) -> None:
    """Turn the bases, and with them what is kept in them; squares are only reordered."""
    outside = _turned(means, bases, back=True)
    for side, held in factors.items():
        old = list(bases[side].values())
        found = batched(refined_basis, list(held.values()), old)
        for (i, basis), (new, order, good) in zip(bases[side].items(), found, strict=True):
            if _fine(good):
                basis.copy_(new)
                axis = 0 if side == "left" else 1
                seconds[i].copy_(seconds[i].index_select(axis, order))
    for mean, second, turned in zip(means, seconds, _turned(outside, bases), strict=True):
        # Where no gradient has been, what turning leaves is a rounding error, to be divided by eps.
        mean.copy_(torch.where(second > 0, turned, 0.0))


def _fine(good: Tensor) -> bool:
    if bool(good):
        return True
    warnings.warn(
        "SOAP.step(): a factor is NaN or infinite; its last basis is kept.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
