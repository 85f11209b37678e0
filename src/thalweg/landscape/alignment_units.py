"""Hidden units while a network is followed: which are the same, and where they occur."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, final

import torch
from torch import Tensor, fx, nn

from thalweg.landscape.alignment_spec import FIXED, PermutationSpec


__all__ = ["ZERO", "Signal", "Units"]

ZERO: Final = -2  # a channel that padding filled with zeros


@final
@dataclass(frozen=True)
class Signal:
    """An activation: the label of each unit, and where its axis is.

    Args:
        labels: The units; None: none that could move (an input).
        ndim: The number of dimensions, where it is known.
        flat: Whether spatial dimensions were flattened into the units' axis, each unit's positions
            side by side.
    """

    labels: Tensor | None
    ndim: int | None = None
    flat: bool = False

    @property
    def channels(self) -> bool:
        """Whether the units' axis is 1 and others follow."""
        return self.ndim is not None and self.ndim > 2

    def without_zeros(self) -> Signal:
        """The same after a layer that makes something of a zero: such channels stay in place."""
        if self.labels is None:
            return self
        return replace(self, labels=torch.where(self.labels == ZERO, FIXED, self.labels))


@final
class Units:
    """The units that have been met, which of them are the same, and where they occur.

    Args:
        model: The network whose forward pass is followed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parent: list[int] = []
        self.axes: dict[str, list[Tensor | None]] = {}
        self.places: list[Tensor] = []
        # A tensor that two layers share has one name.
        found = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
        self.names: dict[int, list[str]] = {}
        for name, tensor in found:
            self.names.setdefault(id(tensor), []).append(name)

    # ---- units --------------------------------------------------------------------------------
    def fresh(self, count: int) -> Tensor:
        """New units."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def root(self, unit: int) -> int:
        """The unit that stands for all that are the same; fixed ones are FIXED."""
        while unit >= 0 and self.parent[unit] != unit:
            unit = self.parent[unit]
        return unit

    def tie(self, one: Tensor, other: Tensor, node: fx.Node) -> Tensor:
        """Make units at one position the same; zeros take the other's label."""
        if len(one) != len(other):
            self.refuse(node, f"it puts {len(one)} units and {len(other)} together")
        labels = torch.where(one == ZERO, other, one)
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            if ZERO in (a, b):
                continue
            a, b = self.root(a), self.root(b)
            if a >= 0 and a != b:
                self.parent[a] = b
            elif b >= 0 and a != b:
                self.parent[b] = a
        return labels

    def fix(self, values: Any) -> None:
        """Units that stay where they are."""
        if isinstance(values, Signal):
            for unit in () if values.labels is None else values.labels.tolist():
                unit = self.root(unit)
                if unit >= 0:
                    self.parent[unit] = FIXED
        elif isinstance(values, (tuple, list)):
            for value in values:
                self.fix(value)
        elif isinstance(values, dict):
            self.fix(list(values.values()))

    def spread(self, node: fx.Node, x: Signal, count: int) -> Tensor | None:
        """The labels of an axis of a tensor that reads an activation."""
        labels = x.without_zeros().labels
        if labels is None:
            return None
        repeats, rest = divmod(count, len(labels))
        if rest or (repeats != 1 and not x.flat):
            self.refuse(node, f"it takes {count} units, and {len(labels)} come in")
        return labels.repeat_interleave(repeats)

    def flattened(self, node: fx.Node, x: Signal, start: int, end: int) -> Signal:
        """The image flattened into the units' axis."""
        if x.labels is None:
            return Signal(None)
        if not x.channels:
            if x.ndim == 2:
                return x
            self.refuse(node, "how many dimensions it flattens is not known")
        if start != 1 or end not in (-1, (x.ndim or 0) - 1):
            self.refuse(node, "it flattens other dimensions than all from 1")
        return Signal(x.labels, 2, flat=True)

    # ---- tensors ------------------------------------------------------------------------------
    def mark(self, tensor: Tensor | None, axes: list[Tensor | None], node: fx.Node) -> None:
        """Say what the axes of a tensor are; what was said of it before is the same."""
        if tensor is None:
            return
        if id(tensor) not in self.names:
            self.refuse(node, "its weight is computed from others")
        name = self.names[id(tensor)][0]
        known = self.axes.get(name)
        if known is None:
            self.axes[name] = axes
            return
        for i, (before, now) in enumerate(zip(known, axes, strict=True)):
            if before is None or now is None:
                self.fix([Signal(before), Signal(now)])
                known[i] = None
            else:
                self.tie(before, now, node)

    def made_before(self, tensor: Tensor, axis: int) -> Tensor | None:
        """The units that a layer made when it ran before."""
        axes = self.axes.get(self.names.get(id(tensor), [""])[0])
        return None if axes is None else axes[axis]

    def specification(self) -> PermutationSpec:
        """Labels with the same number for the same unit."""
        if not self.parent:
            return PermutationSpec({})
        final = torch.tensor([self.root(unit) for unit in range(len(self.parent))])

        def settled(labels: Tensor | None) -> Tensor | None:
            if labels is None:
                return None
            return torch.where(labels >= 0, final[labels.clamp_min(0)], FIXED)

        axes = {
            name: [settled(labels) for labels in found]
            for first, found in self.axes.items()
            for name in next(n for n in self.names.values() if n[0] == first)
        }
        places = tuple(labels for p in self.places if (labels := settled(p)) is not None)
        return PermutationSpec(axes, places)

    def refuse(self, node: fx.Node, why: str) -> NoReturn:
        """Say what is in the way."""
        what = node.target
        if node.op == "call_module":
            what = f"{node.target} ({type(self.model.get_submodule(str(node.target))).__name__})"
        elif callable(what):
            what = getattr(what, "__name__", what)
        raise TypeError(
            f"align(model={type(self.model).__name__}): {what} is in the way: {why}. Say which "
            "axes belong together: align(a, b, spec=PermutationSpec.of(a, {...}))."
        )
