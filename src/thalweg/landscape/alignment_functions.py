"""What functions and tensor methods do to the units of an activation."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx

from thalweg.landscape.alignment_units import ZERO, Signal, Units


__all__ = ["function_after"]

KEEP_ZERO: Final = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "silu",
        "tanh",
        "abs",
        "neg",
        "clone",
        "contiguous",
        "detach",
        "float",
        "double",
    ]
)
EACH: Final = KEEP_ZERO | frozenset(
    [
        "celu",
        "mish",
        "sigmoid",
        "logsigmoid",
        "softplus",
        "softsign",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "dropout",
        "dropout2d",
        "softmax",
        "log_softmax",
        "exp",
        "square",
        "sqrt",
    ]
)
OVER_SPACE: Final = frozenset(
    [
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "adaptive_max_pool2d",
        "interpolate",
    ]
)
SUMS: Final = frozenset(["add", "add_", "iadd", "sub", "isub"])
PAIRS: Final = SUMS | frozenset(["mul", "mul_", "imul", "truediv", "div"])


def function_after(
    units: Units, node: fx.Node, arguments: list[Any], options: dict[str, Any]
) -> Any:
    """What comes out of a function or a method.

    Raises:
        TypeError: If it is not known what it does to units.
    """
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name == "cat":
        return _joined(units, node, arguments, options)
    signals = [value for value in (*arguments, *options.values()) if isinstance(value, Signal)]
    if not signals or name == "size" or (name == "getattr" and arguments[1] == "shape"):
        return 0  # a number, a size
    x = signals[0]
    if name in PAIRS:
        return _paired(units, node, name in SUMS, signals)
    if len(signals) > 1:
        units.refuse(node, "what it does to two activations is not known")
    if x.labels is None and name not in EACH:
        return Signal(None)  # whatever is done to an input, nothing of it moves
    if name in EACH:
        return x if name in KEEP_ZERO else x.without_zeros()
    if name in OVER_SPACE and x.channels:
        return x
    rest = arguments[1:]
    if name == "flatten":
        start = rest[0] if rest else options.get("start_dim", 0)
        end = rest[1] if len(rest) > 1 else options.get("end_dim", -1)
        return units.flattened(node, x, start, end)
    if name in ("view", "reshape") and len(rest) == 2 and rest[1] == -1:
        return units.flattened(node, x, 1, -1)
    if name == "mean":
        return _averaged(units, node, x, rest[0] if rest else options.get("dim"), options)
    if name == "pad":
        return _padded(units, node, x, rest, options)
    if name != "getitem":
        units.refuse(node, "what it does to units is not known")
    return _sliced(units, node, x, rest[0])


def _paired(units: Units, node: fx.Node, is_sum: bool, signals: list[Signal]) -> Signal:
    """A sum or a product, entry by entry."""
    if len(signals) == 1:  # with a number
        return signals[0].without_zeros()
    one, other = signals
    if one.labels is None or other.labels is None:
        units.fix(signals)
        return Signal(None, one.ndim or other.ndim)
    if one.ndim != other.ndim or one.flat != other.flat:
        units.refuse(node, "it puts activations of different shapes together")
    if not is_sum:
        one, other = one.without_zeros(), other.without_zeros()
    assert one.labels is not None
    assert other.labels is not None
    return Signal(units.tie(one.labels, other.labels, node), one.ndim, one.flat)


def _joined(units: Units, node: fx.Node, arguments: list[Any], options: dict[str, Any]) -> Signal:
    """Activations side by side along the units' axis."""
    parts = arguments[0] if arguments else options["tensors"]
    dim = arguments[1] if len(arguments) > 1 else options.get("dim", 0)
    known = [part.labels for part in parts if part.labels is not None]
    if not known:
        return Signal(None)
    shapes = {(part.ndim, part.flat) for part in parts}
    along = dim == 1 if parts[0].channels else dim in (1, -1)
    if len(known) < len(parts) or len(shapes) > 1 or not along or parts[0].flat:
        units.refuse(node, "it joins activations in a way that is not known")
    return Signal(torch.cat(known), parts[0].ndim)


def _averaged(units: Units, node: fx.Node, x: Signal, dims: Any, options: dict[str, Any]) -> Signal:
    """The mean over dimensions beside the units'."""
    listed = [dims] if isinstance(dims, int) else list(dims or ())
    if not x.channels or x.ndim is None:
        units.refuse(node, "it averages over units")
    counted = {d % x.ndim for d in listed}
    if not counted or not counted <= set(range(2, x.ndim)):
        units.refuse(node, "it averages over units or samples")
    return Signal(x.labels, x.ndim if options.get("keepdim") else x.ndim - len(counted))


def _padded(
    units: Units, node: fx.Node, x: Signal, rest: list[Any], options: dict[str, Any]
) -> Signal:
    """Zeros around the image, or channels of zeros beside the others."""
    widths = rest[0] if rest else options["pad"]
    mode = rest[1] if len(rest) > 1 else options.get("mode", "constant")
    value = rest[2] if len(rest) > 2 else options.get("value")
    if not x.channels or x.ndim is None or x.labels is None:
        units.refuse(node, "it pads an activation without channels")
    place = 2 * (x.ndim - 2)  # widths are listed from the last dimension
    before, after = widths[place : place + 2] if len(widths) > place else (0, 0)
    if len(widths) > place + 2 or min(before, after) < 0:
        units.refuse(node, "it pads or crops samples")
    if not before and not after:
        return x
    if mode != "constant" or value:
        units.refuse(node, "it pads channels by other values than 0")

    def zeros(count: int) -> Tensor:
        return torch.full((count,), ZERO)

    return Signal(torch.cat([zeros(before), x.labels, zeros(after)]), x.ndim)


def _sliced(units: Units, node: fx.Node, x: Signal, index: Any) -> Signal:
    """Some of the channels, some of the image."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(isinstance(part, slice) for part in parts)
    if not plain or parts[0] != slice(None) or not x.channels or x.labels is None:
        units.refuse(node, "it takes a part that is not a slice of channels or of the image")
    labels = x.labels[parts[1]] if len(parts) > 1 else x.labels
    return Signal(labels, x.ndim)
