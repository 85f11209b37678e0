"""K-FAC's factors as plain state: running averages, inverses, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from thalweg.curvature.factors import Factors, second_moments
from thalweg.curvature.layer_records import Key, LayerRecord
from thalweg.errors import PROBABILITY, Domain, one_of


__all__ = [
    "FISHERS",
    "INTERVALS",
    "SHARE",
    "KFACOptions",
    "blocks_of",
    "precondition",
    "refresh_inverses",
    "take_factors",
    "take_scales",
]

Block = dict[str, Any]

FISHERS = one_of("exact", "monte-carlo", "empirical")
# A number in the state: torch's load_state_dict takes a text inside a nest apart.
_KINDS = ("linear", "embedding", "affine")
_EMBEDDING, _AFFINE = 1, 2


def _two_integers(value: Any) -> bool:
    first, second = value
    return all(isinstance(v, int) and v >= 1 for v in (first, second))


def _some(value: Any) -> bool:
    return PROBABILITY.contains(value) and value > 0


SHARE = Domain("a number in (0, 1]", _some)
INTERVALS = Domain("a pair of integers >= 1", _two_integers)


@final
@dataclass(frozen=True)
class KFACOptions:
    """What few want to change.

    Args:
        fisher: ``"monte-carlo"`` (labels drawn from the prediction, default), ``"exact"`` (as many
            backward passes as there are outputs) or ``"empirical"`` (the labels of the data).
        samples: Draws of labels.
        adaptive_damping: Levenberg-Marquardt: less damping where the loss falls as the quadratic
            model says, more where it does not. Needs ``objective.closure``.
        quadratic_model: Learning rate and momentum that minimise the quadratic model along the
            direction and the last step. Needs ``objective.closure``.
        share: Of the batch's samples, whose curvature the quadratic model takes, in (0, 1]: the
            first ones of a batch. The default 1 costs two gradients a step; the paper takes 1/8.
        constraint: The largest squared length of a step in the metric, in the loss's own units (a
            mean over many outputs wants a smaller one, and smaller damping); 0 for none.
        fallback_lr: AdamW's learning rate for parameters without factors.
        loss_fn: The loss, for labels to be drawn after plain ``loss.backward()``.
        seed: Of the draws.

    Example:
        >>> KFACOptions(fisher="exact").as_group()["fisher"]
        'exact'
    """

    fisher: str = "monte-carlo"
    samples: int = 1
    adaptive_damping: bool = False
    quadratic_model: bool = False
    share: float = 1.0
    constraint: float = 1e-3
    fallback_lr: float = 1e-3
    loss_fn: Callable[[Any, Any], Tensor] | None = None
    seed: int = 0

    def as_group(self) -> dict[str, Any]:
        """As hyper-parameters of a group: all but the loss."""
        return {name: value for name, value in vars(self).items() if name != "loss_fn"}


def take_factors(
    state: Any,
    params: Sequence[Tensor],
    factors: Mapping[Key, Factors],
    refused: set[int],
    decay: float,
) -> set[int]:
    """Move the running averages towards the factors of a batch.

    The first batch is taken as it is; later ones with the weight that a bias-corrected average
    gives its newest.

    Args:
        state: The optimizer's.
        params: The parameters that keys count.
        factors: Of the batch.
        refused: Parameters that are not to be factored.
        decay: Of the average.

    Returns:
        The indices of the parameters that have factors.
    """
    for i in refused:
        state.get(params[i], {}).pop("blocks", None)
    for key, found in factors.items():
        weight, bias, first, rows = key
        if weight in refused or (bias is not None and bias in refused):
            continue
        blocks = state[params[weight]].setdefault("blocks", {})
        block = blocks.setdefault(f"{first}:{rows}", {})
        if "count" not in block:
            block |= {
                "kind": _KINDS.index(found.kind),
                "bias": -1 if bias is None else bias,
                "first": first,
                "rows": rows,
                "count": 0,
                "inputs": torch.zeros_like(found.inputs),
                "outputs": torch.zeros_like(found.outputs),
            }
        block["count"] += 1
        newest = (1 - decay) / (1 - decay ** block["count"])
        for name in ("inputs", "outputs"):
            made = getattr(found, name)
            block[name] = block[name].to(made.dtype).lerp_(made, newest)
    covered: set[int] = set()
    for i, p in enumerate(params):
        for block in state.get(p, {}).get("blocks", {}).values():
            covered |= {i} if block["bias"] < 0 else {i, block["bias"]}
    return covered


def take_scales(
    state: Any,
    params: Sequence[Tensor],
    rows: Sequence[tuple[LayerRecord, float]],
    decay: float,
    renew: bool,
) -> None:
    """EKFAC: eigenvectors of the averages, and running second moments along them.

    Args:
        state: The optimizer's.
        params: The parameters that keys count.
        rows: Uses of layers, with their weights.
        decay: Of the average.
        renew: Whether the eigenvectors are computed again.
    """
    sums: dict[Key, Tensor] = {}
    for record, weight in rows:
        blocks = state[params[record.key[0]]].get("blocks", {})
        block = blocks.get(f"{record.key[2]}:{record.key[3]}")
        if block is None or record.kind == "affine":
            continue
        if (renew or "left_vectors" not in block) and record.key not in sums:
            _renew_basis(block)
        made = second_moments(record, block["left_vectors"], block["right_vectors"]) * weight
        sums[record.key] = made if record.key not in sums else sums[record.key] + made
    for key, made in sums.items():
        block = state[params[key[0]]]["blocks"][f"{key[2]}:{key[3]}"]
        block["moments"] += 1
        newest = (1 - decay) / (1 - decay ** block["moments"])
        block["scales"].lerp_(made, newest)


def _renew_basis(block: Block) -> None:
    """New eigenvectors; until they have moments of their own, the factors' eigenvalues stand in."""
    g, a = block["outputs"], block["inputs"]
    values, left = torch.linalg.eigh(g.double())
    others, right = (a.double(), a) if a.ndim == 1 else torch.linalg.eigh(a.double())
    scales = values.clamp_min(0.0)[:, None] * others.clamp_min(0.0)
    block["scales"] = (scales.T if a.ndim == 1 else scales).to(g).contiguous()
    block["left_vectors"], block["right_vectors"] = left.to(g), right.to(a)
    block["moments"] = block["count"]


def blocks_of(
    state: Any, params: Sequence[Tensor]
) -> Iterator[tuple[tuple[Tensor, Tensor | None], Block]]:
    """Each block with its weight and bias."""
    for p in params:
        for block in state.get(p, {}).get("blocks", {}).values():
            bias = None if block["bias"] < 0 else params[block["bias"]]
            yield (p, bias), block


def refresh_inverses(block: Block, damping: float) -> None:
    """Invert the damped factors; where that fails, keep the last good inverses.

    Args:
        block: The layer's.
        damping: lambda.
    """
    a, g = block["inputs"], block["outputs"]
    block["damping"] = damping
    if "scales" in block:  # EKFAC needs no inverses
        block["left"], block["right"] = block["left_vectors"], block["right_vectors"]
        return
    if block["kind"] == _AFFINE:
        eye = torch.eye(2, dtype=g.dtype, device=g.device)
        block["left"] = torch.linalg.inv(g.double() + damping * eye.double()).to(g)
        block["right"] = a
        return
    mean_a, mean_g = (float(_diagonal(m).mean()) for m in (a, g))
    pi = (mean_a / mean_g) ** 0.5 if mean_a > 0 and mean_g > 0 else 1.0
    root = damping**0.5
    left = _inverse(g, root / pi)
    right = 1.0 / (a + root * pi) if a.ndim == 1 else _inverse(a, root * pi)
    if left is not None and right is not None:
        block["left"], block["right"] = left, right
    elif "left" not in block:  # nothing good yet: no preconditioning
        block["left"] = torch.eye(len(g), dtype=g.dtype, device=g.device)
        block["right"] = torch.ones_like(a) if a.ndim == 1 else torch.eye(len(a)).to(a)


def precondition(
    block: Block, weight: Tensor, bias: Tensor | None, directions: dict[Tensor, Tensor]
) -> None:
    """Put the preconditioned gradients of a weight and its bias into ``directions``."""
    taken = slice(block["first"], block["first"] + block["rows"])
    taken = taken if block["rows"] else slice(None)
    assert weight.grad is not None
    left = block["left"]
    g = weight.grad[taken].to(left.dtype)
    b = None
    if bias is not None:
        b = torch.zeros_like(bias[taken]) if bias.grad is None else bias.grad[taken]
        b = b.to(left.dtype)
    if block["kind"] == _AFFINE:
        new, new_bias = _affine(left, g, torch.zeros_like(g) if b is None else b)
    else:
        new, new_bias = _solved(block, g.reshape(len(g), -1), b)
        new = new.view(g.shape)
    for p, part in ((weight, new), (bias, new_bias)):
        if p is None or part is None or p.grad is None:
            continue
        if block["rows"]:
            directions.setdefault(p, torch.zeros_like(p))[taken] = part.to(p.dtype)
        else:
            directions[p] = part.to(p.dtype)


def _solved(block: Block, g: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The damped inverse times a gradient, by inverses or along eigenvectors."""
    if block["kind"] == _EMBEDDING:
        return _solved_rows(block, g), None
    if "scales" not in block:
        return _times(_beside(block["left"], g, bias), block["right"], bias is not None)
    left, right = block["left_vectors"], block["right_vectors"]
    along = _beside(left.T, g, bias) @ right
    along.div_(block["scales"] + block["damping"])
    return _times(left @ along, right.T, bias is not None)


def _solved_rows(block: Block, g: Tensor) -> Tensor:
    """The same where the inputs' factor is diagonal: a row for each word."""
    if "scales" not in block:
        return block["right"][:, None] * (g @ block["left"])
    left, scales = block["left_vectors"], block["scales"] + block["damping"]
    return (g @ left / scales) @ left.T


def _beside(left: Tensor, g: Tensor, bias: Tensor | None) -> Tensor:
    """Left times (g, bias), whose copy beside each other is saved."""
    if bias is None:
        return left @ g
    rows, columns = len(left), g.shape[1]
    made = g.new_empty(rows, columns + 1)
    torch.mm(left, g, out=made[:, :columns])
    made[:, columns] = left @ bias
    return made


def _times(half: Tensor, right: Tensor, biased: bool) -> tuple[Tensor, Tensor | None]:
    """Half times right, the last column apart where it is the bias's."""
    if not biased:
        return half @ right, None
    return half @ right[:, :-1], half @ right[:, -1]


def _affine(blocks: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    pair = torch.stack([weight.reshape(-1), bias.reshape(-1)], -1)
    made = torch.einsum("dij,dj->di", blocks, pair)
    return made[:, 0].view(weight.shape), made[:, 1].view(bias.shape)


def _inverse(matrix: Tensor, damping: float) -> Tensor | None:
    """The inverse of the damped matrix by Cholesky, in float64 where float32 fails; else None."""
    for dtype in (matrix.dtype, torch.float64):
        damped = matrix.to(dtype, copy=True)
        damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not bool(failed):
            inverse = torch.cholesky_inverse(factor)
            if bool(inverse.isfinite().all()):
                return inverse.to(matrix.dtype)
    return None


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix if matrix.ndim == 1 else matrix.diagonal()
