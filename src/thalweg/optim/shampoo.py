"""Shampoo: each side of a matrix gradient whitened by the inverse root of its second moment."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Unpack, final

import torch
from torch import Tensor

from thalweg.errors import FRACTION, NON_NEGATIVE, Domain, integer_from, one_of, pair_of
from thalweg.numerics.matrix_roots import inverse_root
from thalweg.optim.metadata import Range, Reference, ShampooCommon, Slot
from thalweg.optim.seams import Group, State
from thalweg.optim.structured import AbstractStructured, Lot, add_gram_
from thalweg.optim.tiles import Tiling, tiling


__all__ = ["Shampoo"]

_SMALL = 128  # the longest side of tiles that are copied together: one call then costs more
_SHORT, _LONG = 1e-12, 1e12  # between them no square that counts leaves the range of float32
_FLOOR = Domain("a number in (0, 1)", lambda value: FRACTION.contains(value) and value > 0)  # type: ignore[operator]


@final
class Shampoo(AbstractStructured):
    r"""A matrix preconditioner on each side of the gradient.

    .. math::
        L \leftarrow \beta_2 L + (1-\beta_2)\, G G^\top, \qquad
        R \leftarrow \beta_2 R + (1-\beta_2)\, G^\top G, \qquad
        \theta \leftarrow \theta - \eta\, s\, L^{-1/4} M R^{-1/4} ,

    with M the running average of gradients (:math:`\beta_1`), both averages corrected for their
    start, or the paper's plain sums (``statistics="sum"``). Grafting takes the direction from
    Shampoo and the length from another method: :math:`s` makes the step of each tile as long as
    that of SGD, Adagrad or Adam would be. A vector has one factor, with the root -1/2; convolutions
    are read as (outputs) x (inputs and places); sides of length 1 are dropped.

    Dimensions longer than ``block_size`` are cut into equal tiles, each with factors of its own
    (:class:`~thalweg.optim.tiles.Tiling`): a tile is preconditioned as a parameter of its shape
    would be. Vectors longer than ``block_size`` have no factor and take the grafted step.

    The roots are refreshed after the first step's statistics, at steps 2, 4, 8, ... below
    ``interval`` and every ``interval`` steps: there is no step with a root of zero or of one
    gradient alone for long. Eigenvalues are lifted to ``floor`` times the largest, so that what a
    rank-deficient factor has not seen is scaled up by a bounded amount. A root that cannot be found
    in float64 either (NaN in the statistics) leaves the last good one, with a warning.

    Beside an m x n tile 2 (m^2 + n^2) entries are kept, beside each entry of a parameter one for
    :math:`\beta_1` and one for Adagrad's or Adam's length: at the defaults 24 bytes a parameter for
    a square float32 matrix (AdamW: 8).

    Args:
        params: Parameters, groups or named parameters.
        lr: :math:`\eta` >= 0; default 1e-3, as Adam's, which gives the length.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1); default (0.9, 0.999), Adam's.
        eps: Of the grafted method, >= 0; default 1e-8.
        grafting: ``"adam"`` (default), ``"adagrad"``, ``"sgd"`` or ``"none"`` (s = 1, the paper).
        interval: Steps between refreshes of the roots, >= 1; default 10.
        block_size: The longest side of a tile, >= 1; default 1024.
        weight_decay: >= 0; default 0.
        **common: ``statistics`` (``"ema"``, default, or ``"sum"``), ``statistics_interval`` (steps
            between the gradients that enter them; default 1), ``floor`` (in (0, 1), default 1e-4),
            ``start`` (steps of the grafted method alone before the preconditioned ones, default
            0); ``l1``, ``decoupled_weight_decay`` (here True by default), ``maximize``,
            ``foreach``: many matrices at once (None: small ones, and all on accelerators).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = Shampoo([w], lr=0.1, betas=(0.0, 0.5), grafting="none")
        >>> w.grad = torch.diag(torch.tensor([100.0, 1.0]))
        >>> optimizer.step()  # both singular values become 1
        >>> [[round(v, 4) for v in row] for row in w.tolist()]
        [[-0.1, 0.0], [0.0, -0.1]]

    References:
        Gupta, Koren and Singer, Shampoo: preconditioned stochastic tensor optimization, 2018; Anil,
        Gupta, Koren, Regan and Singer, Scalable second order optimization for deep learning, 2020
        (blocks, grafting, intervals).
    """

    reference: ClassVar[Reference] = Reference(
        "Gupta, Koren, Singer", "Shampoo: preconditioned stochastic tensor optimization", 2018
    )
    slots: ClassVar[tuple[Slot, ...]] = ()
    kept: ClassVar[str] = "exp_avg, exp_avg_sq, a factor and its root for each side"
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 0.1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "betas": pair_of(FRACTION),
        "eps": NON_NEGATIVE,
        "grafting": one_of("adam", "adagrad", "sgd", "none"),
        "interval": integer_from(1),
        "block_size": integer_from(1),
        "statistics": one_of("ema", "sum"),
        "statistics_interval": integer_from(1),
        "floor": _FLOOR,
        "start": integer_from(0),
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        grafting: str = "adam",
        interval: int = 10,
        block_size: int = 1024,
        weight_decay: float = 0.0,
        **common: Unpack[ShampooCommon],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "grafting": grafting,
            "interval": interval,
            "block_size": block_size,
            "weight_decay": weight_decay,
            "statistics": "ema",
            "statistics_interval": 1,
            "floor": 1e-4,
            "start": 0,
        }
        super().__init__(params, own, common)

    def takes(self, shape: torch.Size, group: Group, name: str | None) -> bool:
        """Every parameter."""
        return True

    def elementwise(self, grad: Any, state: State, group: Group) -> Any:
        """No parameter is left to this; it would go along its gradient."""
        return grad

    def directions(self, lot: Lot, group: Group) -> list[Tensor]:
        """The rule."""
        means, share = _means(lot, group)
        plain, factor = _grafted(lot, means, group)
        found: list[Any] = [None] * len(means)
        for plan, places in _alike(lot, group):
            held = {
                side: [lot.own(i, side, (plan.count, n, n)) for i in places]
                for side, n in plan.sides.items()
            }
            factors = {side: _stacked(tensors) for side, tensors in held.items()}
            _absorb(factors, held, _tiles(plan, lot.grads, places), lot.step, group)
            if lot.step <= group["start"] or not factors:
                for i in places:
                    found[i] = plain[i] * (share * factor)
                continue
            roots = _roots(lot, places, factors, group)
            u = _tiles(plan, means, places)
            if "left" in roots:
                u = torch.bmm(roots["left"], u)
            if "right" in roots:
                u = torch.bmm(u, roots["right"])
            if group["grafting"] == "none":
                u.mul_(share)
            else:
                u.mul_(_ratio(_tiles(plan, plain, places), u).mul_(share * factor))
            for i, own in zip(places, u.split(plan.count), strict=True):
                found[i] = plan.paste(own)
        return found


def _alike(lot: Lot, group: Group) -> Iterable[tuple[Tiling, list[int]]]:
    """The matrices that are cut alike: together, but on a CPU only where they are small."""
    alike: dict[Any, list[int]] = {}
    plans = [tiling(member.param.shape, group["block_size"]) for member in lot.members]
    for i, (plan, grad) in enumerate(zip(plans, lot.grads, strict=True)):
        together = grad.is_cuda or max(plan.tile) <= _SMALL
        alike.setdefault(plan.shape if together else i, []).append(i)
    return [(plans[places[0]], places) for places in alike.values()]


def _tiles(plan: Tiling, matrices: Sequence[Tensor], places: list[int]) -> Tensor:
    return _stacked([plan.cut(matrices[i]) for i in places])


def _stacked(tensors: list[Tensor]) -> Tensor:
    """One batch of many; of one, itself."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _unstacked(batch: Tensor, tensors: list[Tensor]) -> None:
    """Write a batch back to where it is from."""
    if batch is not tensors[0]:
        torch._foreach_copy_(tensors, list(batch.split(len(tensors[0]))))


def _means(lot: Lot, group: Group) -> tuple[list[Tensor], float]:
    """The running averages of gradients, and the factor that corrects them for their start."""
    beta = group["betas"][0]
    if not beta:
        return lot.grads, 1.0
    means = lot.slot("exp_avg")
    torch._foreach_lerp_(means, lot.grads, 1 - beta)
    return means, 1 / (1 - beta**lot.step)


def _grafted(lot: Lot, means: list[Tensor], group: Group) -> tuple[list[Tensor], float]:
    """The steps of the grafted method (Adam, Adagrad, the averages themselves), and a factor.

    Adam's correction, the root of c = 1 - beta2^t, is taken out of m / (sqrt(v / c) + eps).
    """
    beta, grads = group["betas"][1], lot.grads
    if group["grafting"] in {"none", "sgd"}:
        return means, 1.0
    seconds, correction = lot.slot("exp_avg_sq"), 1.0
    if group["grafting"] == "adam":
        torch._foreach_mul_(seconds, beta)
        correction = math.sqrt(1 - beta**lot.step)
    weight = 1 - beta if group["grafting"] == "adam" else 1.0
    torch._foreach_addcmul_(seconds, grads, grads, weight)
    roots = torch._foreach_sqrt(seconds)
    torch._foreach_add_(roots, group["eps"] * correction)
    return list(torch._foreach_div(means, roots)), correction


def _absorb(
    factors: dict[str, Tensor],
    held: dict[str, list[Tensor]],
    tiles: Tensor,
    step: float,
    group: Group,
) -> None:
    """Take this gradient into the sums or averages of G G^T and G^T G of each tile."""
    every = group["statistics_interval"]
    if step != 1 and step % every:
        return
    beta = group["betas"][1] ** every
    keep, weight = (beta, 1 - beta) if group["statistics"] == "ema" else (1.0, 1.0)
    for side, factor in factors.items():
        add_gram_(factor, tiles if side == "left" else tiles.mT, keep, weight)
        _unstacked(factor, held[side])


def _roots(
    lot: Lot, places: list[int], factors: dict[str, Tensor], group: Group
) -> dict[str, Tensor]:
    """The inverse roots, refreshed where it is time."""
    step, roots = int(lot.step), {}
    early = step < group["interval"] and step & (step - 1) == 0
    due = early or step % group["interval"] == 0
    for side, factor in factors.items():
        name, shape = f"{side}_root", (len(factor) // len(places), *factor.shape[1:])
        new = any(name not in lot.members[i].store for i in places)
        held = [lot.own(i, name, shape, eye=True) for i in places]
        root = _stacked(held)
        if due or new:
            root.copy_(_renewed(root, factor / _bias(step, group), 2 * len(factors), group))
            _unstacked(root, held)
        roots[side] = root
    return roots


def _renewed(old: Tensor, factor: Tensor, root: float, group: Group) -> Tensor:
    """New roots; where one cannot be found, the old one, with a warning."""
    found, good = inverse_root(factor, root, group["floor"])
    if bool(good.all()):
        return found
    warnings.warn(
        "Shampoo.step(): a root could not be found; the last good one is kept.",
        RuntimeWarning,
        stacklevel=2,
    )
    return torch.where(good[:, None, None], found, old)


def _bias(step: int, group: Group) -> float:
    """What the averages' weights sum to: by the gradients that have entered, not by the steps."""
    every = group["statistics_interval"]
    entered = step // every + (every > 1)
    return 1 - group["betas"][1] ** (every * entered) if group["statistics"] == "ema" else 1.0


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    """How much longer the tiles of one are than those of another."""
    lengths = [_norm(tiles, None) for tiles in (one, other)]
    known = [] if one.is_cuda else torch.cat(lengths).flatten().tolist()
    if one.is_cuda or not all(_SHORT < n < _LONG for n in known):
        lengths = [_norm(tiles, torch.float64) for tiles in (one, other)]
        lengths[1].clamp_(min=1e-300)
    return (lengths[0] / lengths[1]).to(one.dtype)


def _norm(tiles: Tensor, dtype: torch.dtype | None) -> Tensor:
    return torch.linalg.vector_norm(tiles, dim=(-2, -1), keepdim=True, dtype=dtype)
