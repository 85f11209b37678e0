"""Which entries of a parameter make one output unit, and which parameters are biases or scales.

A *filter* in the sense of Li et al. is what produces one output of a layer. Most of torch's weights
have the outputs in dimension 0: linear and convolutional layers, recurrent ones, and embeddings,
whose rows are tokens. Transposed convolutions have them in dimension 1, split by groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from thalweg.errors import bad_argument
from thalweg.landscape.evaluation_guard import modules_of
from thalweg.objective import AbstractClosure


__all__ = ["Layout", "layouts"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@final
@dataclass(frozen=True)
class Layout:
    """How a parameter is read.

    Args:
        role: ``"weight"``, ``"bias"`` or ``"norm"`` (of a normalisation layer, its bias included).
        axis: The dimension of the output units; None takes the tensor as one unit.
        groups: Groups that a transposed convolution is split into.

    Example:
        >>> import torch
        >>> units = Layout("weight", 1).units(torch.zeros(3, 5, 2, 2))
        >>> units.shape
        torch.Size([1, 5, 12])
    """

    role: str
    axis: int | None
    groups: int = 1

    def units(self, tensor: Tensor) -> Tensor:
        """A view or copy of shape (groups, units, entries of a unit)."""
        if self.axis is None:
            return tensor.reshape(1, 1, -1)
        split = tensor.reshape(self.groups, -1, *tensor.shape[1:])
        axis = self.axis + 1
        return split.movedim(axis, 1).reshape(self.groups, split.shape[axis], -1)

    def scaled(self, tensor: Tensor, scale: Tensor) -> Tensor:
        """The tensor with each unit multiplied by its entry of ``scale`` (groups, units)."""
        if self.axis is None:
            return tensor * scale.reshape(())
        split = tensor.reshape(self.groups, -1, *tensor.shape[1:])
        shape = [1] * split.ndim
        shape[0], shape[self.axis + 1] = scale.shape
        return (split * scale.reshape(shape)).reshape(tensor.shape)


def layouts(closure: AbstractClosure, output_axes: Mapping[str, int] | None = None) -> list[Layout]:
    """The layout of each trainable parameter.

    Args:
        closure: Whose parameters.
        output_axes: Name of a parameter to the dimension of its output units, where a module of
            the user's own multiplies from the other side.

    Raises:
        ValueError: If a name is no parameter, or the dimension does not exist.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6))
        >>> objective = Objective(model, nn.functional.mse_loss)
        >>> for layout in layouts(objective.closure(torch.zeros(1, 4, 2, 2), torch.zeros(1))):
        ...     print(layout)
        Layout(role='weight', axis=1, groups=2)
        Layout(role='bias', axis=None, groups=1)
        Layout(role='norm', axis=None, groups=1)
        Layout(role='norm', axis=None, groups=1)
    """
    owners: dict[int, tuple[nn.Module, str]] = {}
    for module in modules_of(closure):
        for name, p in module._parameters.items():
            if p is not None:
                owners.setdefault(id(p), (module, name))
    given = dict(output_axes or {})
    for name in given:
        if name not in closure.names:
            allowed = f"names of parameters, such as {closure.names[0]!r}"
            raise bad_argument("random_axes", "output_axes", name, allowed)
    found = []
    for name, p in zip(closure.names, closure.params, strict=True):
        layout = _layout(p, *owners.get(id(p), (None, "")))
        if name in given:
            if not 0 <= given[name] < p.ndim:
                allowed = f"0 to {p.ndim - 1}, a dimension of {name}"
                raise bad_argument("random_axes", "output_axes", given[name], allowed)
            layout = Layout(layout.role, given[name])
        found.append(layout)
    return found


def _layout(p: Tensor, owner: nn.Module | None, name: str) -> Layout:
    kind = type(owner).__name__
    if "Norm" in kind and (p.ndim < 2 or isinstance(owner, nn.LayerNorm)):
        return Layout("norm", None)
    if name.startswith("bias") or name.endswith("bias"):
        return Layout("bias", None)
    if p.ndim < 2:
        return Layout("weight", None)
    if isinstance(owner, _TRANSPOSED) and p.ndim > 2:
        return Layout("weight", 1, owner.groups)
    if kind == "Conv1D" and p.ndim == 2:  # transformers': x @ W, so the outputs are columns
        return Layout("weight", 1)
    return Layout("weight", 0)
