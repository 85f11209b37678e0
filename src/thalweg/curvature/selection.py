"""Parameters by name: which of them, and where their entries stand in a flat tensor."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from thalweg.errors import bad_argument, closest
from thalweg.vectors import Vector


__all__ = ["layers", "positions", "selected"]


def selected(names: Sequence[str], patterns: Sequence[str], where: str) -> list[int]:
    """The indices of the names that match any pattern.

    Args:
        names: The names of parameters.
        patterns: Names, with ``*`` and ``?`` as in file names.
        where: Who asks, for the message.

    Returns:
        Indices, rising.

    Raises:
        ValueError: If a pattern matches nothing.
    """
    kept: set[int] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = {i for i, name in enumerate(names) if fnmatchcase(name, pattern)}
        if not found:
            nearest = closest(pattern, names)
            hint = f" (did you mean {nearest!r}?)" if nearest else ""
            known = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            allowed = f"names of parameters, * and ? allowed{hint}: {known}"
            raise bad_argument(where, "params", pattern, allowed)
        kept |= found
    return sorted(kept)


def positions(domain: Vector, kept: Sequence[int]) -> Tensor:
    """Where the entries of the parts ``kept`` stand in the flat form of ``domain``."""
    starts = [0]
    for part in domain:
        starts.append(starts[-1] + part.numel())
    return torch.cat([torch.arange(starts[i], starts[i + 1]) for i in kept])


def layers(names: Sequence[str]) -> dict[str, list[int]]:
    """The indices of parameters by the layer that holds them: what stands before the last dot.

    Example:
        >>> layers(["fc1.weight", "fc1.bias", "scale"])
        {'fc1': [0, 1], 'scale': [2]}
    """
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        found.setdefault(name.rpartition(".")[0] or name, []).append(i)
    return found
