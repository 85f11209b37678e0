"""The same random numbers again, so that a network with dropout is one function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor


__all__ = ["Replay"]


@final
class Replay:
    """The random state of the first evaluation, set again for each later one."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._states: tuple[Tensor, Tensor | None] | None = None

    def fixed(self, place: int) -> Replay:
        """The same draws; where there were none, those that would come now.

        The random state stays as it is, so batches in different places get different ones.
        """
        other = Replay(self._cuda or torch.device("cpu"))
        other._states = self._states
        if other._states is None:
            with torch.random.fork_rng(devices=[self._cuda] if self._cuda else []):
                if place:
                    seed = int(torch.randint(2**60, ())) + place
                    torch.default_generator.manual_seed(seed)
                    if self._cuda:
                        torch.cuda.manual_seed(seed)
                on_device = torch.cuda.get_rng_state(self._cuda) if self._cuda else None
                other._states = torch.get_rng_state(), on_device
        return other

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run the first time as it comes, later times with the same draws."""
        if self._states is None:
            on_device = torch.cuda.get_rng_state(self._cuda) if self._cuda else None
            self._states = torch.get_rng_state(), on_device
            yield
            return
        with torch.random.fork_rng(devices=[self._cuda] if self._cuda else []):
            host, on_device = self._states
            torch.set_rng_state(host)
            if self._cuda is not None and on_device is not None:
                torch.cuda.set_rng_state(on_device, self._cuda)
            yield
