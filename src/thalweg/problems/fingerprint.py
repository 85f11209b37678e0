"""Hashes by which data and problems are known to be the same."""

from __future__ import annotations

import hashlib
import re
from functools import partial

import torch
from torch import Tensor, nn


__all__ = ["fingerprint", "name_of", "update_digest"]


def update_digest(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Feed a tensor's dtype, shape and bytes to a hash.

    Example:
        >>> digest = hashlib.sha256()
        >>> update_digest(digest, torch.zeros(2))
        >>> digest.hexdigest()[:8]
        '21ff1b76'
    """
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().tobytes())


def name_of(fn: object) -> str:
    """A function's name, with its module and bound arguments, the same in every process.

    Example:
        >>> name_of(partial(nn.functional.cross_entropy, label_smoothing=0.1))
        "torch.nn.functional.cross_entropy()[('label_smoothing', 0.1)]"
    """
    if fn is None or isinstance(fn, nn.Module):
        return _without_addresses(str(fn))
    if isinstance(fn, partial):
        bound = f"{fn.args}{sorted(fn.keywords.items())}"
        return name_of(fn.func) + _without_addresses(bound)
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__}.{getattr(named, '__qualname__', '')}"


def fingerprint(ingredients: tuple[object, ...], model: nn.Module) -> str:
    """A SHA-256 of plain values and of a model's text and state.

    Example:
        >>> fingerprint(("a", 1), nn.Identity()) == fingerprint(("a", 2), nn.Identity())
        False
    """
    digest = hashlib.sha256(_without_addresses(f"{ingredients}{model}").encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            update_digest(digest, value)
    return digest.hexdigest()


def _without_addresses(text: str) -> str:
    """Addresses in memory differ between processes."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
