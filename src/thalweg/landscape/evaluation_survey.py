"""A closure ready to be measured along one or two axes, and what was found out about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch

from thalweg import __version__
from thalweg.landscape.directions import Axes
from thalweg.landscape.evaluation import Evaluation
from thalweg.landscape.evaluation_batchnorm import TREATMENTS, batchnorm_words
from thalweg.landscape.evaluation_choice import Choice, choose
from thalweg.landscape.evaluation_guard import modules_of, untouched
from thalweg.landscape.evaluation_metrics import Metrics, wanted_metrics
from thalweg.landscape.evaluation_schemes import InPlace, Point, numbers
from thalweg.landscape.plane_grid import AutoSpan, grown
from thalweg.landscape.store import digest
from thalweg.objective import AbstractClosure
from thalweg.objective.program import ModelProgram
from thalweg.objective.rows import row_count
from thalweg.vectors import Vector


__all__ = ["Survey"]


@final
class Survey:
    """What is measured, where, and how.

    Args:
        where: The function that was called, for messages.
        closure: A closure or a risk.
        axes: Centre and directions.
        metrics: What is measured beside the loss.
        batchnorm: ``"kept"`` or ``"recalibrated"``.

    Raises:
        TypeError: If ``closure`` is not a closure.
        ValueError: If a metric or the treatment is unknown.
    """

    def __init__(
        self, where: str, closure: AbstractClosure, axes: Axes, metrics: Metrics, batchnorm: str
    ) -> None:
        TREATMENTS.check(where, "batchnorm", batchnorm)
        self.where, self.closure, self.axes = where, closure, axes
        wanted = wanted_metrics(where, closure, metrics)
        self.names = wanted.names
        self._words = batchnorm_words(closure, batchnorm)
        recalibrate = batchnorm == "recalibrated"
        self.evaluation = Evaluation(closure, wanted, recalibrate=recalibrate)
        self._plain = InPlace(self.evaluation, (axes.centre, axes.directions))
        self._modes = [m.training for m in modules_of(closure)]
        self.centre: list[float] = []

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Inside, the model may be moved; afterwards it is as it was."""
        with untouched(self.closure):
            with self._plain.ready():
                self.centre = numbers([self._plain.look(*[0.0] * len(self.axes.directions))])[0]
            yield

    def true_values(self, points: Sequence[Vector]) -> list[list[float]]:
        """All metrics at points that need not lie on the axes."""
        rows = []
        with self._plain.ready():
            for point in points:
                self._plain.place(point)
                rows += numbers([self.evaluation()])
        return rows

    def span(self, wish: AutoSpan) -> list[tuple[float, float]]:
        """A range for each axis, found by walking out from the centre."""
        count = len(self.axes.directions)
        length = max(1.0, float(self.axes.centre.norm()))
        found = []
        with self._plain.ready():
            for i, direction in enumerate(self.axes.directions):
                start = 0.1 * length / float(direction.norm())

                def loss(t: float, i: int = i) -> float:
                    at = [0.0] * count
                    at[i] = t
                    return numbers([self._plain.look(*at)[:1]])[0][0]

                half = grown(loss, wish, self.centre[0], start)
                found.append((-half, half))
        return found

    def choice(self, points: Sequence[Point], method: str) -> Choice:
        """The way to evaluate these points."""
        axes = self.axes.centre, self.axes.directions
        off = [p for p in points if any(p)]
        shares = (0, len(off) // 3, -1)
        trial = [off[i] for i in shares] + [tuple(0.1 * t for t in off[-1])]
        return choose(self.evaluation, axes, trial, len(points), method)

    def settings(self) -> dict[str, Any]:
        """What must be the same for values to belong to the same picture."""
        modules = modules_of(self.closure)
        buffers = [b for m in modules for b in m._buffers.values() if b is not None]
        data = [getattr(batch.program, "batch", 0) for batch in self.closure.batches]
        return {
            "metrics": self.names,
            "BatchNorm": self._words,
            "weights": digest(self.axes.centre),
            "directions": digest(self.axes.directions),
            "data": digest(data),
            "buffers and modes": digest([*buffers, *self._modes]),
            "the loss at the centre": self.centre[0],
        }

    def meta(self) -> dict[str, Any]:
        """What a caption needs."""
        programs = [batch.program for batch in self.closure.batches]
        batches = [program.batch for program in programs if isinstance(program, ModelProgram)]
        modules = modules_of(self.closure)
        first = self.closure.params[0]
        meta: dict[str, Any] = {
            **self.axes.meta,
            "cosine": self.axes.cosine,
            "direction_norms": [float(d.norm()) for d in self.axes.directions],
            "batchnorm": self._words,
            "mode": _mode(self._modes),
            "random": self.evaluation.random,
            "model": type(modules[0]).__name__ if modules else "function",
            "parameters": self.closure.params.numel(),
            "samples": _rows(batches),
            "batches": len(programs),
            "centre": dict(zip(self.names, self.centre, strict=True)),
            "dtype": str(first.dtype).removeprefix("torch."),
            "device": str(first.device),
            "versions": {"thalweg": __version__, "torch": torch.__version__},
        }
        return meta


def _mode(training: list[bool]) -> str:
    if not training:
        return "function"
    if all(training):
        return "training"
    return "mixed" if any(training) else "evaluation"


def _rows(batches: list[Any]) -> int | None:
    try:
        return sum(row_count(batch) for batch in batches) if batches else None
    except TypeError:  # batches of the user's own form
        return None
