"""The live parameters on flat buffers of ours, so that a move is one addition.

Between :meth:`Ground.enter` and :meth:`Ground.leave` every parameter's memory is a view of one flat
buffer (one for each type and device). A point of a plane is then written by a single fused
``base + a * direction``, and the model runs as it is: no copy of the module, no dictionary of
parameters. The user's own memory is never written to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from thalweg.landscape.evaluation_guard import untouched
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["Flat", "Ground", "standing_at"]

Flat = list[Tensor]  # one buffer for each type and device

_ALIGNED = 16  # entries: each parameter starts on a cache line, as torch's own tensors do
_REDUCED = (torch.bfloat16, torch.float16)


@final
class _Part:
    """The parameters of one type on one device."""

    def __init__(self, places: list[int], params: Sequence[Tensor], last: Collection[int]) -> None:
        self.places = [i for i in places if i not in last] + [i for i in places if i in last]
        first = params[self.places[0]]
        self.kind, self.device = first.dtype, first.device
        self.wide = torch.float32 if self.kind in _REDUCED else self.kind
        self.shapes = [params[i].shape for i in self.places]
        self.starts: list[int] = []
        self.moving = self.size = 0
        for i, shape in zip(self.places, self.shapes, strict=True):
            self.starts.append(self.size)
            self.size += -(-shape.numel() // _ALIGNED) * _ALIGNED
            if i not in last:
                self.moving = self.size

    def views(self, buffer: Tensor) -> list[Tensor]:
        """A view of the buffer for each parameter."""
        return [
            buffer[start : start + shape.numel()].view(shape)
            for start, shape in zip(self.starts, self.shapes, strict=True)
        ]


@final
class Ground:
    """Parameters that can be moved along a plane at the cost of one addition.

    Args:
        params: The live parameters.
        last: Places of parameters that :meth:`move` may leave behind (``whole=False``).

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> ground = Ground(Vector([p]))
        >>> ground.enter()
        >>> base, direction = (ground.flat(Vector([t])) for t in (torch.zeros(2), torch.ones(2)))
        >>> ground.move(base, direction, 3.0)
        >>> p.tolist()
        [3.0, 3.0]
        >>> ground.leave()
        >>> p.tolist()
        [1.0, 2.0]
    """

    def __init__(self, params: Vector, last: Collection[int] = ()) -> None:
        self._params = params.tensors
        groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for i, p in enumerate(self._params):
            groups.setdefault((p.dtype, p.device), []).append(i)
        self._parts = [_Part(places, self._params, last) for places in groups.values()]
        self._buffers: Flat = []
        self._before: list[Tensor] = []

    def enter(self) -> None:
        """Let the parameters be views of our buffers, with the values that they have."""
        self._before = [p.data for p in self._params]
        self._buffers = [
            torch.zeros(part.size, dtype=part.kind, device=part.device) for part in self._parts
        ]
        for part, buffer in zip(self._parts, self._buffers, strict=True):
            for i, view in zip(part.places, part.views(buffer), strict=True):
                self._params[i].data = view.copy_(self._before[i])

    def leave(self) -> None:
        """Give the parameters their own memory back."""
        for p, data in zip(self._params, self._before, strict=True):
            p.data = data
        self._buffers, self._before = [], []

    def flat(self, vector: Vector) -> Flat:
        """A Vector in the layout of the buffers, in single precision at least."""
        made: Flat = []
        for part in self._parts:
            buffer = torch.zeros(part.size, dtype=part.wide, device=part.device)
            for i, view in zip(part.places, part.views(buffer), strict=True):
                view.copy_(vector[i].detach())
            made.append(buffer)
        return made

    def move(self, base: Flat, direction: Flat, along: float, *, whole: bool = True) -> None:
        """Stand at ``base + along * direction``."""
        for part, start, step, buffer in zip(
            self._parts, base, direction, self._buffers, strict=True
        ):
            if whole or part.moving == part.size:  # no views: each costs a microsecond a point
                torch.add(start, step, alpha=along, out=buffer)
                continue
            n = part.moving
            torch.add(start[:n], step[:n], alpha=along, out=buffer[:n])

    def place(self, theta: Vector) -> None:
        """Stand at ``theta``."""
        for part, buffer in zip(self._parts, self._buffers, strict=True):
            for i, view in zip(part.places, part.views(buffer), strict=True):
                view.copy_(theta[i].detach())


@contextmanager
def standing_at(closure: AbstractClosure, theta: Vector) -> Iterator[None]:
    """The live model at ``theta`` inside, and as it was before afterwards.

    Args:
        closure: Whose model.
        theta: The point.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([2.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> with standing_at(closure, Vector([torch.tensor([5.0])])):
        ...     closure.value().item()
        25.0
        >>> x.tolist()
        [2.0]
    """
    ground = Ground(closure.params)
    with untouched(closure):
        ground.enter()
        try:
            ground.place(theta)
            yield
        finally:
            ground.leave()
