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

    Example:
        >>> LayerRecord("linear", (0, None, 0, 0), torch.ones(4, 2), [torch.ones(4, 3)]).rows
        4
    """

    kind: str
    key: Key
    inputs: Tensor
    slopes: list[Tensor]

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
    with torch.enable_grad(), Recorder(leaves) as recorder:
        outputs, targets = batch.program.outputs(None)
    uses, refused = usable(recorder)
    back = slopes_of(outputs, uses, slopes(outputs, targets)) if uses else []
    return records_of(uses, back), refused, batch.program.weigh((outputs, targets))


def usable(recorder: Recorder) -> tuple[list[Use], set[int]]:
    """The uses that have a Kronecker form, and the parameters that have none."""
    uses = [use for use in recorder.uses if use.edge is not None]
    refused = set(recorder.other) | {i for use in recorder.uses for i in _refused(use)}
    refused |= _mixed(uses)
    return [use for use in uses if use.weight not in refused], refused


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
    biased = [] if use.bias is None else [use.bias]
    return [use.weight, *biased] if grouped else []


def _mixed(uses: Sequence[Use]) -> set[int]:
    """Parameters that are used in layers of different kinds or pairings, as tied ones may be."""
    forms: dict[int, set[Any]] = {}
    for use in uses:
        form = (use.kind, use.bias, use.options.get("kernel"))
        forms.setdefault(use.weight, set()).add(form)
        sliced = use.rows is not None
        forms.setdefault(~use.weight, set()).add(sliced)
    mixed = {i for i, found in forms.items() if i >= 0 and len(found) > 1}
    return mixed | {~i for i, found in forms.items() if i < 0 and len(found) > 1}


def _record(use: Use, back: list[Tensor]) -> LayerRecord:
    first, rows = (use.rows.start, use.rows.stop - use.rows.start) if use.rows else (0, 0)
    key = (use.weight, use.bias, first, rows)
    if use.kind == "embedding":
        flat = use.input.reshape(-1)
        return LayerRecord("embedding", key, flat, [g.reshape(len(flat), -1) for g in back])
    if use.kind in {"layer_norm", "batch_norm"}:
        return _affine(use, key, back)
    if use.kind == "linear":
        inputs = use.input.reshape(-1, use.input.shape[-1])
        slopes = [g.reshape(len(inputs), -1) for g in back]
    else:
        inputs = _patches(use)
        slopes = [g.movedim(1, -1).reshape(len(inputs), -1) for g in back]
    if use.bias is not None:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
    return LayerRecord("linear", key, inputs, slopes)


def _patches(use: Use) -> Tensor:
    """The patches of a convolution's input: a row for each position of its output."""
    kernel, options = tuple(use.options["kernel"]), use.options
    d = len(kernel)
    stride, dilation = _each(options.get("stride", 1), d), _each(options.get("dilation", 1), d)
    x = F.pad(use.input, _padding(options.get("padding", 0), kernel, dilation))
    for i, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + i, gap * (size - 1) + 1, step)[..., ::gap]
    # (N, C, *positions, *kernel) -> (N, *positions, C, *kernel)
    x = x.movedim(1, 1 + d)
    return x.reshape(x.shape[: 1 + d].numel(), -1)


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
    x, options = use.input, use.options
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
