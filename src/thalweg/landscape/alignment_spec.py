"""Which positions of which tensors belong to one hidden unit, and which units may change places.

Hidden units may be renumbered without changing the network's function, if every tensor follows:
the rows of the weights that make them, the columns of those that read them, what normalises them.
Each axis of each tensor carries a label a position: the number of the unit that it belongs to, or
-1 where it stays. A unit may take several positions (a channel after flattening). Units that occur
on the same axes, equally often, form a *cell*; within a cell they may be renumbered freely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, final

import torch
from torch import Tensor, nn

from thalweg.errors import bad_argument


__all__ = ["FIXED", "PermutationSpec"]

FIXED: Final = -1


@final
@dataclass(frozen=True, eq=False)
class PermutationSpec:
    """The hidden units of an architecture.

    Args:
        axes: Tensor name to one entry an axis: the label of each position, or None where the axis
            stays as it is. Tensors that are not named stay as they are.

    Raises:
        ValueError: If there is nothing that could change places.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> spec = PermutationSpec.of(
        ...     model, {"0.weight": ("h", None), "0.bias": ("h",), "2.weight": (None, "h")}
        ... )
        >>> [cell.tolist() for cell in spec.cells]
        [[0, 1, 2]]
        >>> spec.permuted(model.state_dict(), torch.tensor([2, 0, 1])).keys()
        dict_keys(['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    axes: Mapping[str, Sequence[Tensor | None]]
    places: tuple[Tensor, ...] = ()  # other labels that units have in common: of activations
    cells: tuple[Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        labelled = [axis for tensor in self.axes.values() for axis in tensor if axis is not None]
        cells = _cells([*labelled, *self.places])
        if not cells:
            raise bad_argument("PermutationSpec", "axes", list(self.axes), "with hidden units")
        object.__setattr__(self, "cells", cells)

    @staticmethod
    def of(model: nn.Module, axes: Mapping[str, Sequence[str | Tensor | None]]) -> PermutationSpec:
        """A specification by names of groups of units.

        Args:
            model: The network, for the sizes.
            axes: Tensor name to one entry an axis: a name of a group, labels, or None where the
                axis stays. A group has as many units as its shortest axis; a longer one holds
                each unit's positions side by side, as flattening leaves them.

        Raises:
            ValueError: If a tensor is unknown or a number of axes or a length does not fit.
        """
        held = model.state_dict()
        for name, groups in axes.items():
            if name not in held or held[name].ndim != len(groups):
                allowed = "a tensor of the model, with one entry for each of its axes"
                raise bad_argument("PermutationSpec.of", f"axes[{name!r}]", groups, allowed)
        sizes: dict[str, int] = {}
        for name, groups in axes.items():
            for group, length in zip(groups, held[name].shape, strict=True):
                if isinstance(group, str):
                    sizes[group] = min(sizes.get(group, length), length)
        starts = accumulate(sizes.values(), initial=0)
        first = dict(zip(sizes, starts, strict=False))
        labelled: dict[str, list[Tensor | None]] = {}
        for name, groups in axes.items():
            labelled[name] = []
            for group, length in zip(groups, held[name].shape, strict=True):
                if not isinstance(group, str):
                    labelled[name].append(group)
                    continue
                repeats, rest = divmod(length, sizes[group])
                if rest:
                    allowed = f"a multiple of the {sizes[group]} units of {group!r}"
                    raise bad_argument("PermutationSpec.of", f"length of {name}", length, allowed)
                units = first[group] + torch.arange(sizes[group])
                labelled[name].append(units.repeat_interleave(repeats))
        return PermutationSpec(labelled)

    @property
    def units(self) -> int:
        """One more than the largest label."""
        return 1 + int(max(cell.max() for cell in self.cells))

    def order(self, labels: Tensor, numbering: Tensor) -> Tensor:
        """Where each position of an axis takes its entries from.

        Args:
            labels: The labels of the axis.
            numbering: (units,) the unit that takes the place of each.
        """
        by_unit = labels.argsort(stable=True)
        sorted_labels = labels[by_unit]
        first = torch.searchsorted(sorted_labels, torch.arange(len(numbering)))
        slot = torch.arange(len(labels)) - torch.searchsorted(sorted_labels, sorted_labels)
        taken = labels.clone()
        moves = sorted_labels >= 0
        source = numbering[sorted_labels[moves]]
        taken[by_unit[moves]] = by_unit[first[source] + slot[moves]]
        stays = by_unit[~moves]
        taken[stays] = stays
        return taken

    def permuted(
        self, state: Mapping[str, Tensor], numbering: Tensor, *, but: tuple[str, int] | None = None
    ) -> dict[str, Tensor]:
        """Tensors with their units renumbered; those that are not labelled are the same objects.

        Args:
            state: Tensors by name; names that are missing are left out.
            numbering: (units,) the unit that takes the place of each.
            but: A (tensor, axis) that is left as it is.
        """
        moved: dict[str, Tensor] = {}
        for name, tensor in state.items():
            for i, labels in enumerate(self.axes.get(name, ())):
                if labels is not None and (name, i) != but:
                    index = self.order(labels, numbering).to(tensor.device)
                    tensor = tensor.index_select(i, index)
            moved[name] = tensor
        return moved

    def identity(self) -> Tensor:
        """The numbering that changes nothing."""
        return torch.arange(self.units)


def _cells(places: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Units by where they occur, in the order of their first occurrence."""
    signature: dict[int, list[tuple[int, int]]] = {}
    for number, labels in enumerate(places):
        units, counts = labels[labels >= 0].unique(return_counts=True)
        for unit, count in zip(units.tolist(), counts.tolist(), strict=True):
            signature.setdefault(unit, []).append((number, count))
    cells: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for unit, where in signature.items():
        cells.setdefault(tuple(where), []).append(unit)
    return tuple(torch.tensor(sorted(cell)) for cell in cells.values() if len(cell) > 1)
