"""A start of any kind (tensor, array, numbers, a tree of tensors) as one live tensor, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from thalweg.errors import bad_argument


__all__ = ["Start"]


@final
class Start:
    """Where a search starts, and the kind in which its caller thinks of points.

    Args:
        where: The function that was called, for messages.
        x0: A tensor, an array, a number or a list of numbers; or a dict, list or tuple of tensors.

    Raises:
        ValueError: If it holds nothing, or no real floating-point numbers.

    Example:
        >>> start = Start("minimize", {"a": torch.ones(2), "b": torch.zeros(())})
        >>> start.live.tolist(), sorted(start.back(start.live))
        ([1.0, 1.0, 0.0], ['a', 'b'])
    """

    def __init__(self, where: str, x0: Any) -> None:
        self._where = where
        self._array = not _has_tensor(x0)
        self._spec: Any = None
        self._shapes: list[torch.Size] = []
        if isinstance(x0, Tensor):
            point = x0.detach()
        elif self._array:
            point = _from_numbers(where, x0)
        else:
            leaves, self._spec = pytree.tree_flatten(x0)
            tensors = [leaf.detach() for leaf in leaves if isinstance(leaf, Tensor)]
            if len(tensors) != len(leaves):
                raise bad_argument(where, "x0", x0, "a tree whose leaves are all tensors")
            self._shapes = [t.shape for t in tensors]
            point = torch.cat([t.reshape(-1) for t in tensors])
        if not point.is_floating_point():
            if point.is_complex():
                raise bad_argument(where, "x0", point.dtype, "real")
            point = point.to(torch.get_default_dtype())
        if not point.numel():
            raise bad_argument(where, "x0", x0, "of at least one entry")
        self.live: Tensor = point.clone(memory_format=torch.contiguous_format).requires_grad_()

    def within(self, fn: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        """``fn`` as a function of the live tensor."""
        if self._spec is None:
            return fn
        return lambda x: fn(self._tree(x))

    def like(self, given: Any) -> Tensor | None:
        """A bound given as a number or like ``x0``, in the shape of the live tensor; None as is."""
        if given is None:
            return None
        if isinstance(given, (int, float)):
            return torch.full_like(self.live.detach(), float(given))
        other = Start(self._where, given).live.detach()
        if other.numel() != self.live.numel():
            shape = tuple(self.live.shape)
            raise bad_argument(self._where, "bounds", given, f"numbers, or of x0's shape {shape}")
        return other.reshape(self.live.shape).to(self.live)

    def back(self, x: Tensor) -> Any:
        """A point like the live tensor, as the caller's kind; a copy."""
        point = x.detach().reshape(self.live.shape).clone()
        if self._spec is not None:
            return self._tree(point)
        return point.numpy() if self._array else point

    def plain(self, tensor: Tensor) -> Any:
        """Any tensor as the caller's kind: an array where ``x0`` is one, else the tensor itself."""
        fixed = tensor.detach()
        return fixed.cpu().numpy() if self._array else fixed

    def _tree(self, x: Tensor) -> Any:
        pieces = x.split([shape.numel() for shape in self._shapes])
        parts = [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        return pytree.tree_unflatten(parts, self._spec)


def _has_tensor(x0: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(x0))


def _from_numbers(where: str, x0: Any) -> Tensor:
    try:
        array = np.asarray(x0, dtype=None)
        kept = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        allowed = "a tensor, an array, numbers, or a tree of tensors"
        raise bad_argument(where, "x0", x0, allowed) from error
    return torch.from_numpy(np.array(kept))
