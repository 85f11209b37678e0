"""The samples of a batch: what stands in its tensors' first dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


__all__ = ["row_count", "rows_of"]


def row_count(batch: Any) -> int:
    """The number of samples in a batch of tensors: alone, in pairs, tuples, lists or dicts.

    Raises:
        TypeError: If it holds no tensor, or tensors of different lengths.

    Example:
        >>> import torch
        >>> row_count({"x": torch.zeros(5, 2), "labels": torch.zeros(5)})
        5
    """
    lengths = {len(tensor) for tensor in _tensors(batch) if tensor.ndim}
    if len(lengths) != 1:
        found = f"tensors of lengths {sorted(lengths)}" if lengths else "no tensor"
        raise TypeError(
            f"The samples of a batch are the rows of its tensors, but this one holds {found}."
        )
    return lengths.pop()


def rows_of(batch: Any, index: Tensor | slice) -> Any:
    """The batch of some of the samples; what is no tensor stays as it is.

    Example:
        >>> import torch
        >>> rows_of((torch.arange(4), "name"), slice(1, 3))
        (tensor([1, 2]), 'name')
    """
    if isinstance(batch, Tensor):
        where = index.to(batch.device) if isinstance(index, Tensor) else index
        return batch[where] if batch.ndim else batch
    if isinstance(batch, Mapping):
        return {name: rows_of(value, index) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [rows_of(value, index) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(value)
