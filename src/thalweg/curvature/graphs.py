"""What an autograd graph holds in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.objective.graph import graph_nodes


__all__ = ["free_memory", "graph_bytes"]

_UNKNOWN = 2 * 2**30


def graph_bytes(tensors: Sequence[Tensor]) -> int:
    """The memory that the graph behind the tensors keeps alive, each storage once."""
    sizes: dict[int, int] = {}
    for node in graph_nodes(tensors):
        for name in dir(node):
            if name.startswith("_saved_"):
                for saved in _tensors(node, name):
                    storage = saved.untyped_storage()
                    sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _tensors(node: Any, name: str) -> list[Tensor]:
    try:
        saved = getattr(node, name)
    except RuntimeError:  # freed already
        return []
    values = saved if isinstance(saved, (tuple, list)) else [saved]
    return [value for value in values if isinstance(value, Tensor)]


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or a cautious guess."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN
