r"""What each layer saw and what came back to it: the material of Kronecker factors.

A linear layer's gradient on one row of its input is :math:`\delta a^\top`: a is the row (with a 1
for the bias), :math:`\delta` the gradient at the row of its output. A convolution is such a layer
on the patches of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.objective import Closure
from thalweg.objective.recorder import Recorder, Use


__all__ = [
    "Key",
    "LayerRecord",
    "Slopes",
    "layer_records",
    "records_of",
    "slopes_of",
    "usable",
]

Key = tuple[int, int | None, int, int]  # weight, bias, first row, rows (0: all)
# (outputs, targets) -> cotangents s_k with the sum of s_k s_k' the curvature of outputs.
Slopes = Callable[[Tensor, Any], list[Tensor]]

_MAPS = {"linear", "conv1d", "conv2d", "conv3d"}


@final
@dataclass
class LayerRecord:
    """One use of a layer on one batch.

    Args:
        kind: ``"linear"`` (convolutions too, as patches), ``"embedding"`` or ``"affine"``.
        key: Which parameters, and which rows of the weight.
        inputs: R x in, with a column of ones where there is a bias; the indices of an embedding;
            the normalised input of an affine layer, R x d.
        slopes: For each cotangent, R x out.
        table: The rows of an embedding's weight.

    Example:
        >>> LayerRecord("linear", (0, None, 0, 0), torch.ones(4, 2), [torch.ones(4, 3)]).rows
        4
    """

    kind: str
    key: Key
    inputs: Tensor
    slopes: list[Tensor]
    table: int = 0

    @property
    def rows(self) -> int:
        """The number R of positions."""
        return len(self.inputs)


def layer_records(
    batch: Closure, leaves: Sequence[Tensor], slopes: Slopes
) -> tuple[list[LayerRecord], set[int], float]:
    """Run a batch forward, and each cotangent back to every layer.

    Args:
        batch: The batch, held still.
        leaves: The parameters.
        slopes: What gives the cotangents.

    Returns:
        A record for each use of a layer; the indices of parameters that no record covers rightly
        (used elsewhere, or by a layer of another kind); the batch's weight.
    """
    program: Any = batch.program
    with torch.enable_grad(), Recorder(leaves) as recorder, batch.ledger.charge(forward=1):
        outputs, targets = program.outputs(None)
    uses, refused = usable(recorder)
    cotangents = slopes(outputs, targets) if uses else []
    with batch.ledger.charge(backward=len(cotangents)):
        back = slopes_of(outputs, uses, cotangents) if uses else []
    return records_of(uses, back), refused, program.weigh((outputs, targets))


def usable(recorder: Recorder) -> tuple[list[Use], set[int]]:
    """The uses that have a Kronecker form, and the parameters that have none."""
    uses = [use for use in recorder.uses if use.edge is not None]
    refused = set(recorder.other) | {i for use in recorder.uses for i in _refused(use)}
    refused |= _mixed(uses)
    kept = [
        u for u in uses if u.weight not in refused and (u.bias is None or u.bias not in refused)
    ]
    return kept, refused


def slopes_of(
    outputs: Tensor, uses: Sequence[Use], cotangents: Sequence[Tensor]
) -> list[list[Tensor]]:
    """Each cotangent brought back to the output of every use."""
    back: list[list[Tensor]] = [[] for _ in uses]
    edges = [use.edge for use in uses if use.edge is not None]
    for cotangent in cotangents:
        grads = torch.autograd.grad(outputs, edges, cotangent, retain_graph=True, allow_unused=True)
        for use, made, grad in zip(uses, back, grads, strict=True):
            made.append(outputs.new_zeros(use.shape) if grad is None else grad)
    return back


def records_of(uses: Sequence[Use], back: Sequence[list[Tensor]]) -> list[LayerRecord]:
    """The rows of each use, with what came back to it."""
    return [_record(use, made) for use, made in zip(uses, back, strict=True)]


def _refused(use: Use) -> list[int]:
    """The parameters of a use that has no Kronecker form here."""
    grouped = use.kind in _MAPS and use.options.get("groups", 1) != 1
    scaled = use.kind == "embedding" and bool(use.options.get("scale_grad_by_freq"))
    biased = [] if use.bias is None else [use.bias]
    return [use.weight, *biased] if grouped or scaled or use.edge is None else []


def _mixed(uses: Sequence[Use]) -> set[int]:
    """Parameters used in layers of different kinds or pairings, or of which rows are left over."""
    forms: dict[int, set[Any]] = {}
    weights: dict[int, set[int]] = {}
    slices: dict[int, set[tuple[int, int]]] = {}
    for use in uses:
        form = (use.kind, use.bias, use.options.get("kernel"))
        forms.setdefault(use.weight, set()).add(form)
        if use.bias is not None:
            weights.setdefault(use.bias, set()).add(use.weight)
        rows = (use.rows.start, use.rows.stop) if use.rows else (0, use.options["whole"])
        slices.setdefault(use.weight, set()).add(rows)
    found = {i for i, kinds in forms.items() if len(kinds) > 1}
    for use in uses:
        parts = sorted(slices[use.weight])
        ends = [0, *(stop for _, stop in parts)]
        tiled = [start for start, _ in parts] == ends[:-1] and ends[-1] == use.options["whole"]
        if (
            not tiled
            or use.weight in found
            or (use.bias is not None and len(weights[use.bias]) > 1)
        ):
            found |= {use.weight} if use.bias is None else {use.weight, use.bias}
    return found


def _record(use: Use, back: list[Tensor]) -> LayerRecord:
    first, rows = (use.rows.start, use.rows.stop - use.rows.start) if use.rows else (0, 0)
    key = (use.weight, use.bias, first, rows)
    back = [_wide(g) for g in back]
    if use.kind == "embedding":
        return _embedded(use, key, back)
    if use.kind in {"layer_norm", "batch_norm"}:
        return _affine(use, key, back)
    x = _wide(use.input)
    if use.kind == "linear":
        inputs = x.reshape(-1, x.shape[-1])
        slopes = [g.reshape(len(inputs), g.shape[-1]) for g in back]
    else:
        alone = x.ndim == len(use.options["kernel"]) + 1  # one sample, without a batch dimension
        inputs = _patches(use, x[None] if alone else x)
        back = [g[None] if alone else g for g in back]
        slopes = [g.movedim(1, -1).reshape(len(inputs), g.shape[1]) for g in back]
    if use.bias is not None:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
    return LayerRecord("linear", key, inputs, slopes)


def _embedded(use: Use, key: Key, back: list[Tensor]) -> LayerRecord:
    """The indices, without the one that pads: it has no gradient."""
    flat, table, padding = (
        use.input.reshape(-1),
        use.options["table"],
        use.options.get("padding_idx"),
    )
    slopes = [g.reshape(len(flat), g.shape[-1]) for g in back]
    if padding is not None:
        kept = flat != padding % table
        flat, slopes = flat[kept], [g[kept] for g in slopes]
    return LayerRecord("embedding", key, flat, slopes, table)


def _wide(tensor: Tensor) -> Tensor:
    """Second moments are not taken in half precision."""
    return tensor.float() if tensor.dtype in {torch.float16, torch.bfloat16} else tensor


def _patches(use: Use, x: Tensor) -> Tensor:
    """The patches of a convolution's input: a row for each position of its output."""
    kernel, options = tuple(use.options["kernel"]), use.options
    d = len(kernel)
    stride, dilation = _each(options.get("stride", 1), d), _each(options.get("dilation", 1), d)
    x = F.pad(x, _padding(options.get("padding", 0), kernel, dilation))
    for i, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + i, gap * (size - 1) + 1, step)[..., ::gap]
    # (N, C, *positions, *kernel) -> (N, *positions, C, *kernel)
    x = x.movedim(1, 1 + d)
    return x.reshape(x.shape[: 1 + d].numel(), x.shape[1 + d :].numel())


def _padding(given: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """What ``F.pad`` takes, last dimension first."""
    if given == "same":
        total = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        pairs = [(t // 2, t - t // 2) for t in total]
    else:
        each = [0] * len(kernel) if given == "valid" else _each(given, len(kernel))
        pairs = [(p, p) for p in each]
    return [side for pair in reversed(pairs) for side in pair]


def _each(value: Any, d: int) -> list[int]:
    return [int(value)] * d if isinstance(value, int) else [int(v) for v in value]


def _affine(use: Use, key: Key, back: list[Tensor]) -> LayerRecord:
    """The input as it was before scale and shift, and the slopes, a row for each position."""
    x, options = _wide(use.input), use.options
    eps = options.get("eps", 1e-5)
    if use.kind == "layer_norm":
        shape = list(options["normalized_shape"])
        normal = F.layer_norm(x, shape, eps=eps)
        d = torch.Size(shape).numel()
        return LayerRecord("affine", key, normal.reshape(-1, d), [g.reshape(-1, d) for g in back])
    training = bool(options.get("training", False))
    mean, var = (None, None) if training else (options["running_mean"], options["running_var"])
    normal = F.batch_norm(x, mean, var, training=training, eps=eps)
    rows = [t.movedim(1, -1).reshape(-1, x.shape[1]) for t in (normal, *back)]
    return LayerRecord("affine", key, rows[0], rows[1:])
