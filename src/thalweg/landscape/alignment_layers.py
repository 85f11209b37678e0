"""What layers and functions do to the units that go through them."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from thalweg.landscape.alignment_functions import function_after
from thalweg.landscape.alignment_units import Signal, Units


__all__ = ["signal_after"]

KEEP_ZERO: Final = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh)
EACH: Final = (
    *(*KEEP_ZERO, nn.CELU, nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink),
    *(nn.Threshold, nn.Identity, _DropoutNd, nn.Softmax, nn.LogSoftmax),
)
OVER_SPACE: Final = (
    *(getattr(nn, f"{kind}Pool{d}d") for kind in ("Max", "Avg") for d in (1, 2, 3)),
    *(getattr(nn, f"Adaptive{kind}Pool{d}d") for kind in ("Max", "Avg") for d in (1, 2, 3)),
    *(nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
)


def signal_after(units: Units, node: fx.Node, arguments: list[Any], options: dict[str, Any]) -> Any:
    """What comes out of a node of the graph.

    Raises:
        TypeError: If it is not known what the node does to units.
    """
    if node.op == "get_attr":
        units.refuse(node, "a parameter is used outside of a layer")
    if node.op != "call_module":
        return function_after(units, node, arguments, options)
    module = units.model.get_submodule(str(node.target))
    x = arguments[0] if arguments else options.get("input")
    if not isinstance(x, Signal) or len(arguments) > 1:
        units.refuse(node, "it takes more than one activation")
    if isinstance(module, (nn.Linear, _ConvNd, nn.Embedding)):
        return _mixed(units, node, module, x)
    if isinstance(module, (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.PReLU)):
        return _scaled(units, node, module, x)
    if isinstance(module, nn.Flatten):
        return units.flattened(node, x, module.start_dim, module.end_dim)
    if isinstance(module, EACH):
        return x if isinstance(module, KEEP_ZERO) else x.without_zeros()
    if isinstance(module, OVER_SPACE) and (x.labels is None or x.channels):
        return x
    if x.labels is not None:
        units.refuse(node, "what this layer does to units is not known")
    if any(True for _ in module.parameters()):
        units.refuse(node, "what this layer's parameters do is not known")
    return Signal(None)


# ---- layers that make units -------------------------------------------------------------------
def _mixed(units: Units, node: fx.Node, module: nn.Module, x: Signal) -> Signal:
    if isinstance(module, nn.Embedding):
        if x.labels is not None:
            units.refuse(node, "its input is an activation")
        made = _made(units, module.weight, 1, module.embedding_dim)
        units.mark(module.weight, [None, made], node)
        return Signal(made)
    if isinstance(module, nn.Linear):
        if x.channels and x.labels is not None:
            units.refuse(node, "its input has units in dimension 1, and it works on the last")
        read = units.spread(node, x, module.in_features)
        made = _made(units, module.weight, 0, module.out_features)
        units.mark(module.weight, [made, read], node)
        units.mark(module.bias, [made], node)
        return Signal(made, 2 if x.flat else x.ndim)
    assert isinstance(module, _ConvNd)
    return _convolved(units, node, module, x)


def _convolved(units: Units, node: fx.Node, module: _ConvNd, x: Signal) -> Signal:
    if x.labels is not None and (x.flat or not x.channels):
        units.refuse(node, "its input has no dimensions beside the units'")
    read = units.spread(node, x, module.in_channels)
    space: list[Tensor | None] = [None] * (module.weight.ndim - 2)
    if module.groups > 1:
        if not module.groups == module.in_channels == module.out_channels:
            units.refuse(node, "its channels are in groups, which may not be mixed")
        # One filter a channel: the units pass through.
        units.mark(module.weight, [read, None, *space], node)
        units.mark(module.bias, [read], node)
        return Signal(read, module.weight.ndim)
    back = isinstance(module, _ConvTransposeNd)
    made = _made(units, module.weight, int(back), module.out_channels)
    first = [read, made] if back else [made, read]
    units.mark(module.weight, [*first, *space], node)
    units.mark(module.bias, [made], node)
    return Signal(made, module.weight.ndim)


def _made(units: Units, weight: Tensor, axis: int, count: int) -> Tensor:
    """New units, or those that this layer made when it ran before."""
    before = units.made_before(weight, axis)
    return units.fresh(count) if before is None else before


# ---- layers that scale units ------------------------------------------------------------------
def _scaled(units: Units, node: fx.Node, module: nn.Module, x: Signal) -> Signal:
    count, axes = _scales(units, node, module, x)
    if count is None:
        return x.without_zeros()
    labels = units.spread(node, x, count)
    for name in ("weight", "bias", "running_mean", "running_var"):
        units.mark(getattr(module, name, None), [labels, *axes], node)
    if labels is None:
        return Signal(None, x.ndim)
    kept = x.labels if x.flat else labels
    return Signal(kept, x.ndim, x.flat).without_zeros()


def _scales(
    units: Units, node: fx.Node, module: nn.Module, x: Signal
) -> tuple[int | None, list[Tensor | None]]:
    """How many scales a layer has, and the axes of its tensors after that of the units."""
    if isinstance(module, nn.GroupNorm):
        if module.num_groups not in (1, module.num_channels):
            units.refuse(node, "it normalises groups of channels, which may not be mixed")
        return module.num_channels, []
    if isinstance(module, nn.LayerNorm):
        shape = module.normalized_shape
        if x.labels is not None and x.channels and len(shape) + 1 != x.ndim:
            units.refuse(node, "it normalises over other dimensions than the units'")
        if len(shape) > 1 and not x.channels and x.labels is not None:
            units.refuse(node, "it normalises over other dimensions than the units'")
        return shape[0], [None] * (len(shape) - 1)
    if isinstance(module, nn.PReLU):
        return (None if module.num_parameters == 1 else module.num_parameters), []
    assert isinstance(module, (_BatchNorm, _InstanceNorm))
    return module.num_features, []
