"""Ways of evaluating many points of a plane: one after the other in place, or several at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, final

import torch
from torch import Tensor

from thalweg.landscape.evaluation import Evaluation, combined
from thalweg.landscape.evaluation_ground import Ground
from thalweg.landscape.evaluation_reuse import Reuse
from thalweg.objective.program import ModelProgram
from thalweg.vectors import Vector


__all__ = ["Batched", "InPlace", "Scheme", "numbers"]

Point = tuple[float, ...]


class Scheme(Protocol):
    """What evaluates points of a plane."""

    name: str
    chunk: int  # points that it takes at a time; the grid is cut at its multiples

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Points can be evaluated inside."""
        ...

    def evaluate(self, points: Sequence[Point]) -> list[list[float]]:
        """All metrics at each point."""
        ...


def numbers(rows: Sequence[Sequence[Any]]) -> list[list[float]]:
    """Metrics as floats; from an accelerator, in one transfer.

    Example:
        >>> numbers([[torch.tensor(1.0), 2]])
        [[1.0, 2.0]]
    """
    flat = [value for row in rows for value in row]
    remote = [value for value in flat if isinstance(value, Tensor) and value.device.type != "cpu"]
    if remote:
        fetched = iter(torch.stack([v.detach().double().reshape(()) for v in remote]).tolist())
        held = {id(value): next(fetched) for value in remote}
        return [[held[id(v)] if id(v) in held else float(v) for v in row] for row in rows]
    return [[float(value) for value in row] for row in rows]


@final
class InPlace:
    """The live model moved from point to point.

    Args:
        evaluation: What is evaluated.
        axes: Centre and one or two directions.
        reuse: Stands in for layers whose output is known.
        whole: Whether the parameters of those layers are moved too.
    """

    chunk = 1

    def __init__(
        self,
        evaluation: Evaluation,
        axes: tuple[Vector, Sequence[Vector]],
        reuse: Reuse | None = None,
        *,
        whole: bool = True,
    ) -> None:
        self.name = "in-place" if reuse is None else "first-layer"
        self._evaluation, self._reuse, self._whole = evaluation, reuse, whole
        centre, directions = axes
        left = reuse.alone if reuse is not None and not whole else ()
        self._ground = Ground(evaluation.closure.params, left)
        self._centre = self._ground.flat(centre)
        self._first, *rest = [self._ground.flat(d) for d in directions]
        self._second = rest[0] if rest else None
        self._base = [part.clone() for part in self._centre] if rest else self._centre
        self._across: float | None = None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The parameters are on our buffers inside."""
        self._ground.enter()
        try:
            stand_in = self._reuse.installed(self._evaluation) if self._reuse else nullcontext()
            with stand_in, torch.no_grad():
                yield
        finally:
            self._ground.leave()

    def stand(self, along: float, across: float = 0.0) -> None:
        """Move the live model to a point of the plane."""
        if across != self._across:
            self._across = across
            if self._second is not None:
                for base, start, step in zip(self._base, self._centre, self._second, strict=True):
                    torch.add(start, step, alpha=across, out=base)
            if self._reuse is not None:
                self._reuse.row(across)
        self._ground.move(self._base, self._first, along, whole=self._whole)
        if self._reuse is not None:
            self._reuse.point(along)

    def place(self, theta: Vector) -> None:
        """Move the live model to any point."""
        self._ground.place(theta)

    def look(self, along: float, across: float = 0.0) -> list[Any]:
        """All metrics at a point, where they were computed."""
        self.stand(along, across)
        return self._evaluation()

    def evaluate(self, points: Sequence[Point]) -> list[list[float]]:
        """All metrics at each point."""
        return numbers([self.look(*point) for point in points])


@final
class Batched:
    """Several points at once, through ``torch.vmap``.

    Args:
        evaluation: What is evaluated; nothing in it may be random or move buffers.
        axes: Centre and one or two directions.
        chunk: Points at a time.
    """

    def __init__(
        self, evaluation: Evaluation, axes: tuple[Vector, Sequence[Vector]], chunk: int
    ) -> None:
        self.name, self.chunk = f"vmap of {chunk}", chunk
        self._evaluation = evaluation
        self._centre, self._directions = axes

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Nothing is to be prepared: the live model is not moved."""
        yield

    @torch.no_grad()
    def evaluate(self, points: Sequence[Point]) -> list[list[float]]:
        """All metrics at each point, a chunk at a time."""
        rows: list[list[float]] = []
        for start in range(0, len(points), self.chunk):
            some = list(points[start : start + self.chunk])
            # Always a whole chunk, so that no value depends on how many points are asked for.
            full = some + [some[-1]] * (self.chunk - len(some))
            parts = [self._stacked(i, full) for i in range(len(self._centre))]
            columns = torch.vmap(self._values)(parts)
            values = torch.stack([column.double() for column in columns], dim=1)
            rows += values[: len(some)].tolist()
        return rows

    def _stacked(self, i: int, points: Sequence[Point]) -> Tensor:
        """One parameter at every point."""
        centre = self._centre[i].detach()
        stacked = centre.expand(len(points), *centre.shape)
        for k, direction in enumerate(self._directions):
            along = torch.tensor([p[k] for p in points], dtype=torch.float64)
            scale = along.to(centre).reshape(-1, *[1] * centre.ndim)
            stacked = torch.addcmul(stacked, scale, direction[i].detach())
        return stacked

    def _values(self, theta: list[Tensor]) -> list[Tensor]:
        evaluation = self._evaluation
        parts = []
        for sample in evaluation.samples:
            program = sample.program
            result = (
                program.forward(theta) if isinstance(program, ModelProgram) else program.loss(theta)
            )
            parts.append(sample.values(result))
        return combined(evaluation.samples, parts, evaluation.closure.summed)
