"""The hidden units of a network, found by following them through its forward pass.

Every activation carries a label for each of its channels or features. Layers that mix units make
new ones; layers that work on each unit by itself pass them on; a sum of two activations makes the
units at one position the same. What the last layer puts out stays where it is. What is not known
here is refused in words: a wrong guess would change the network's function.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from thalweg.landscape.alignment_layers import signal_after
from thalweg.landscape.alignment_spec import PermutationSpec
from thalweg.landscape.alignment_units import Signal, Units


__all__ = ["traced_spec"]


def traced_spec(model: nn.Module) -> PermutationSpec:
    """Follow the units of a network through its forward pass.

    Args:
        model: Linear layers, convolutions, embeddings, normalisation, activations, pooling,
            flattening; sums, concatenations, padding with zero channels and slices of activations.

    Raises:
        TypeError: If something else is in the way; the message says what.

    Example:
        >>> spec = traced_spec(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        >>> [cell.tolist() for cell in spec.cells]
        [[0, 1, 2]]
    """
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:  # whatever the user's forward raises on a proxy
        raise TypeError(
            f"align(model={type(model).__name__}): the forward pass cannot be traced ({error}). "
            "Say which axes belong together: align(a, b, spec=PermutationSpec.of(a, {...}))."
        ) from error
    units = Units(model)
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = Signal(None)
            continue
        arguments = fx.map_arg(node.args, lambda n: values[n])
        options = fx.map_arg(node.kwargs, lambda n: values[n])
        if node.op == "output":
            units.fix(arguments)
            continue
        found = signal_after(units, node, list(arguments), dict(options))
        if isinstance(found, Signal) and found.labels is not None:
            units.places.append(found.labels)
        values[node] = found
    return units.specification()
