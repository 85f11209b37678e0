"""Independent streams of random numbers from one seed.

A run draws its initial weights and its order of the data from the same small seed, but from two
streams, so that changing one leaves the other alone and every optimizer given that seed starts at
the same weights and sees the same batches (a paired design).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from thalweg.errors import integer_from


__all__ = ["generator", "global_stream", "minibatches", "stream_seed"]


def stream_seed(seed: int, stream: str) -> int:
    """The seed of a named stream: the first 63 bits of a SHA-256 of the name and ``seed``.

    Example:
        >>> stream_seed(0, "order") == stream_seed(0, "initialisation")
        False

    Raises:
        ValueError: If ``seed`` is not an integer >= 0.
    """
    integer_from(0).check("Problem", "seed", seed)
    digest = hashlib.sha256(f"thalweg/{stream}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: str) -> torch.Generator:
    """A generator of its own for a named stream; nothing global is touched.

    Example:
        >>> torch.rand(2, generator=generator(0, "order")).shape
        torch.Size([2])
    """
    return torch.Generator().manual_seed(stream_seed(seed, stream))


@contextmanager
def global_stream(seed: int, stream: str) -> Iterator[None]:
    """The global generators of torch, seeded for the block and put back after it.

    Module initialisers draw from the global generators and take no other. Python's and NumPy's
    own generators are left alone.

    Example:
        >>> with global_stream(3, "initialisation"):
        ...     first = torch.nn.Linear(2, 1).weight
        >>> with global_stream(3, "initialisation"):
        ...     second = torch.nn.Linear(2, 1).weight
        >>> torch.equal(first, second)
        True
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(stream_seed(seed, stream))
        yield


def minibatches(
    inputs: Tensor, targets: Tensor, size: int, draws: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of ``size`` samples without end, cut from permutations laid end to end.

    Example:
        >>> x = torch.arange(3)
        >>> first, second, third = (
        ...     next(batches)[0] for batches in [minibatches(x, x, 2, generator(0, "order"))] * 3
        ... )
        >>> sorted(torch.cat([first, second, third]).tolist())
        [0, 0, 1, 1, 2, 2]
    """
    rows = torch.empty(0, dtype=torch.int64)
    while True:
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(len(inputs), generator=draws)])
        batch, rows = rows[:size], rows[size:]
        yield inputs[batch.to(inputs.device)], targets[batch.to(targets.device)]
