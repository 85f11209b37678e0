"""Which way of evaluating is fastest here: a few points of each are timed, and compared.

A way that fails, or whose numbers differ from the plain evaluation by more than rounding, is not
taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from thalweg.landscape.evaluation import Evaluation
from thalweg.landscape.evaluation_guard import modules_of
from thalweg.landscape.evaluation_reuse import Reuse, affine_layers
from thalweg.landscape.evaluation_schemes import Batched, InPlace, Point, Scheme
from thalweg.vectors import Vector


__all__ = ["METHODS", "Choice", "choose"]

METHODS = ("auto", "in-place", "first-layer", "vmap")

_CHUNKS = (32, 128)
_FEW = 60  # points, under which nothing is tried: the trial would be most of the work
_SHORT = {"cpu": 4e-4, "cuda": 1e-2}  # seconds a point under which several at once may pay
_TIMED = 2  # points that are timed
_REPEATS, _MANY = 3, 1500  # repetitions, on grids of at least so many points; else one
_BYTES = 2**28  # of weights that a chunk may take
_GAIN = 0.98  # a way must take less than this share of the time of the plain one


@final
@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it was chosen from.

    Args:
        scheme: The fastest way.
        milliseconds: Each way that was tried: milliseconds a point.
        rejected: Each way that was not taken because of its numbers, and why.
    """

    scheme: Scheme
    milliseconds: dict[str, float]
    rejected: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        plain: dict[str, Any] = {"method": self.scheme.name}
        if self.milliseconds:
            plain["milliseconds_a_point"] = self.milliseconds
        return plain | ({"rejected": self.rejected} if self.rejected else {})


def choose(
    evaluation: Evaluation,
    axes: tuple[Vector, Sequence[Vector]],
    points: Sequence[Point],
    count: int,
    method: str,
) -> Choice:
    """The way to evaluate a grid.

    Args:
        evaluation: What is evaluated.
        axes: Centre and one or two directions.
        points: Some points of the grid off its centre, on which ways are timed and compared.
        count: Points of the grid.
        method: ``"auto"``, a name of :data:`METHODS`, or ``"vmap of N"``, which takes N at a time.

    Raises:
        ValueError: If a method is asked for by name and cannot be used here.
    """
    plain = InPlace(evaluation, axes)
    if method == "in-place" or (method == "auto" and count < _FEW):
        return Choice(plain, {}, {})
    rejected: dict[str, str] = {}
    with plain.ready():
        truth = plain.evaluate(points)
    repeats = _REPEATS if count >= _MANY else 1
    seconds = {plain.name: _time(plain, points, repeats)}
    ways: list[Scheme] = []
    if method in {"auto", "first-layer"}:
        ways += _reusing(evaluation, axes, points, truth, rejected)
    if method.startswith("vmap") or method == "auto":
        ways += _several(evaluation, axes, count, method, seconds[plain.name])
    taken: list[Scheme] = []
    for way in ways:
        fault = _fault(way, points, truth, evaluation)
        if fault:
            rejected[way.name] = fault
            continue
        taken.append(way)
        seconds[way.name] = _time(way, points, repeats)
    if method != "auto" and not taken:
        why = "; ".join(f"{name}: {fault}" for name, fault in rejected.items())
        raise ValueError(
            f"plane(evaluation={method!r}): it cannot be used here "
            f"({why or 'no layer is affine with an input that is the same everywhere'})."
        )
    best = min(taken, key=lambda way: seconds[way.name], default=plain)
    if method == "auto" and seconds[best.name] > _GAIN * seconds[plain.name]:
        best = plain
    return Choice(best, {name: 1e3 * value for name, value in seconds.items()}, rejected)


def _reusing(
    evaluation: Evaluation,
    axes: tuple[Vector, Sequence[Vector]],
    points: Sequence[Point],
    truth: list[list[float]],
    rejected: dict[str, str],
) -> list[Scheme]:
    """The first layer from three products; with its weights left behind where nobody looks."""
    modules = modules_of(evaluation.closure)
    if evaluation.recalibrates:  # its passes do not say which batch they are of
        return []
    if not modules or any(isinstance(m, torch.jit.ScriptModule) for m in modules):
        return []
    plain = InPlace(evaluation, axes)
    with plain.ready():
        stands = [lambda p=p: plain.stand(*p) for p in points[:2]]
        layers = affine_layers(evaluation, stands)
        if not layers:
            return []
        reuse = Reuse(layers, evaluation.closure.params, *axes, modules)
    if not reuse.fits():
        rejected["first-layer"] = "too little memory"
        return []
    if reuse.alone:
        way = InPlace(evaluation, axes, reuse, whole=False)
        if not _fault(way, points, truth, evaluation):
            return [way]
    return [InPlace(evaluation, axes, reuse)]


def _several(
    evaluation: Evaluation,
    axes: tuple[Vector, Sequence[Vector]],
    count: int,
    method: str,
    seconds: float,
) -> list[Scheme]:
    """Several points at once, where that may pay."""
    kept = evaluation.random or evaluation.moves
    if kept or evaluation.recalibrates or evaluation.derived:
        return []
    if method.startswith("vmap of "):
        return [Batched(evaluation, axes, int(method.removeprefix("vmap of ")))]
    first = axes[0][0]
    if method == "auto" and seconds > _SHORT.get(first.device.type, math.inf):
        return []
    room = _BYTES // max(1, axes[0].numel() * first.element_size())
    most = min(room, max(count, _CHUNKS[0]))
    return [Batched(evaluation, axes, chunk) for chunk in _CHUNKS if chunk <= most]


def _time(way: Scheme, points: Sequence[Point], repeats: int) -> float:
    """Seconds a point: the least of some repetitions, which other work disturbs least."""
    several = [points[i % len(points)] for i in range(max(way.chunk, _TIMED))]
    best = math.inf
    with way.ready():
        for _ in range(repeats):
            began = time.perf_counter()
            way.evaluate(several)
            best = min(best, (time.perf_counter() - began) / len(several))
    return best


def _fault(
    way: Scheme, points: Sequence[Point], truth: list[list[float]], evaluation: Evaluation
) -> str:
    """Why a way's numbers cannot be taken; empty where they can."""
    try:
        with way.ready():
            found = way.evaluate(points)
    except Exception as error:  # whatever a model or a metric does not bear
        return f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
    kind = evaluation.closure.params[0].dtype
    tight = 10 * torch.finfo(kind).eps ** 0.75
    counted = 2.5 / max(1.0, sum(sample.rows for sample in evaluation.samples))
    finite = 0
    for have, want in zip(found, truth, strict=True):
        for i, (a, b) in enumerate(zip(have, want, strict=True)):
            if math.isnan(a) and math.isnan(b):
                continue
            # A count may differ by a tie.
            allowed = tight * (1 + abs(b)) + (counted if i else 0.0)
            if not (a == b or abs(a - b) <= allowed):
                return f"{a!r} instead of {b!r}"
            finite += i == 0 and math.isfinite(b)
    return "" if finite else "no finite loss to compare"
