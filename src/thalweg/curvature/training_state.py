"""Look without a trace: what a measurement inside a training loop must leave as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


__all__ = ["undisturbed"]


@contextmanager
def undisturbed(params: Sequence[Tensor]) -> Iterator[None]:
    """Inside, random numbers are drawn that nobody misses: every generator is put back.

    Args:
        params: The parameters, whose devices have generators.

    Example:
        >>> torch.manual_seed(0).seed
        <built-in method seed of ...>
        >>> with undisturbed([]):
        ...     _ = torch.rand(3)
        >>> torch.rand(1).item()
        0.496...
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = sorted({p.device for p in params if p.is_cuda}, key=str)
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
