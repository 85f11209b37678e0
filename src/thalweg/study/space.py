"""Tuning trials: points of a scrambled Sobol sequence that any process can compute by index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from thalweg.optim import Range
from thalweg.study.schedule import SCHEDULES


__all__ = ["drawn_schedule", "edges", "extended", "point"]


def point(
    space: Mapping[str, Range], index: int, seed: int, name: str, *, skip: int = 0
) -> dict[str, float]:
    """Point ``index`` of an optimizer's sequence, mapped into its space.

    Args:
        space: The axes, by hyper-parameter.
        index: Which point, from 0.
        seed: The study's tuning seed.
        name: The optimizer's label: each has its own scrambling.
        skip: Leading coordinates of the sequence that are left out: 1 where the first is the
            schedule's (:func:`drawn_schedule`).

    Returns:
        A value for each hyper-parameter.

    Example:
        >>> point({"lr": Range(1e-4, 1.0)}, 3, 0, "adam") == point(
        ...     {"lr": Range(1e-4, 1.0)}, 3, 0, "adam"
        ... )
        True
    """
    if not space:
        return {}
    row = _sobol(skip + len(space), index, f"{seed}/{name}")[skip:]
    return {axis: r.at(u) for (axis, r), u in zip(space.items(), row, strict=True)}


def drawn_schedule(index: int, seed: int) -> str:
    """The schedule of trial ``index``, the same for every optimizer.

    It is the first coordinate of the sequence, with one scrambling for all; hyper-parameters take
    the coordinates after it. So each four trials (0 to 3, 4 to 7, ...) have every schedule once,
    and each sixteen meet every schedule in every quarter of the next coordinate's range. A
    sequence of its own would not: two first coordinates move in step.

    Args:
        index: Which trial, from 0.
        seed: The study's tuning seed.

    Returns:
        One of :data:`~thalweg.study.schedule.SCHEDULES`.

    Example:
        >>> sorted(drawn_schedule(i, 0) for i in range(4))
        ['constant', 'cosine', 'linear', 'step']
    """
    (u,) = _sobol(1, index, f"{seed}/schedule of every optimizer")
    return SCHEDULES[int(u * len(SCHEDULES))]


def _sobol(dimension: int, index: int, key: str) -> list[float]:
    """Point ``index`` of a sequence in [0, 1) whose scrambling is a hash of ``key``."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)
    return engine.fast_forward(index).draw(1, dtype=torch.float64)[0].tolist()


def edges(
    best: Mapping[str, float], tried: Iterable[Mapping[str, Any]], space: Mapping[str, Range]
) -> set[tuple[str, str]]:
    """The sides on which the best point is the outermost one tried: ("lr", "high") and so on.

    Only logarithmic axes can be extended, so only they are looked at. A larger value that was
    tried and diverged is tried all the same: then the best is inside.

    Example:
        >>> edges({"lr": 1.0}, [{"lr": 0.1}, {"lr": 1.0}], {"lr": Range(1e-4, 1.0)})
        {('lr', 'high')}
    """
    points = list(tried)
    found: set[tuple[str, str]] = set()
    for axis, r in space.items():
        values = [p[axis] for p in points]
        if not r.log or len(set(values)) < 2:
            continue
        if best[axis] == max(values):
            found.add((axis, "high"))
        elif best[axis] == min(values):
            found.add((axis, "low"))
    return found


def extended(
    space: Mapping[str, Range], axis: str, side: str, rounds: int, factor: float = 10.0
) -> dict[str, Range]:
    """The space with one axis moved to the decade beyond its edge; the other axes stay.

    Args:
        space: The axes before any extension.
        axis: The axis to move.
        side: ``"low"`` or ``"high"``.
        rounds: How many extensions there have been on this side before.
        factor: How far one extension reaches.

    Returns:
        The box of the new trials.

    Example:
        >>> extended({"lr": Range(1e-4, 1.0)}, "lr", "high", 0)["lr"]
        Range(low=1.0, high=10.0, log=True)
    """
    r = space[axis]
    if side == "high":
        low = r.high * factor**rounds
        moved = Range(low, low * factor)
    else:
        high = r.low / factor**rounds
        moved = Range(high / factor, high)
    return {**space, axis: moved}
