"""Armijo's search along a Newton direction: values decide, and a gradient is taken at the end."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from thalweg.numerics.armijo import armijo
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.judgement import judge, lost_in_noise


__all__ = ["Searched", "search"]

_ACCEPT = 1e-4
_WALLS = 8  # points with a value and no gradient, before the search gives up


class Searched(NamedTuple):
    """Where a search ended; the trial is None where nothing better was found."""

    trial: Trial | None
    alpha: float
    noisy: bool


def search(point: Ground, direction: Tensor, slope: float, bend: float) -> Searched:
    r"""The first step 1, or a shorter one, that decreases f sufficiently.

    Where the decrease that the model foresees is lost in the rounding of f, the whole step is
    judged by slopes. A point whose gradient is not finite is too far.

    Args:
        point: Where the optimizer stands.
        direction: d, flat.
        slope: g'd < 0.
        bend: d'Hd.

    Returns:
        The end of the search.
    """
    foreseen = -(slope + 0.5 * bend)
    if lost_in_noise(point, foreseen):
        verdict = judge(point, point.x + direction, direction, foreseen)
        accepted = verdict.ratio > _ACCEPT
        return Searched(verdict.trial if accepted else None, 1.0, True)
    start = 1.0
    for _ in range(_WALLS):
        kept: dict[float, Trial] = {}

        def phi(alpha: float, kept: dict[float, Trial] = kept) -> float:
            best = min(kept, key=lambda a: kept[a].fun, default=None)
            for other in [a for a in kept if a != best]:
                del kept[other]  # with the graph that it holds
            trial = point.attempt(point.x + alpha * direction)
            if math.isfinite(trial.fun):
                kept[alpha] = trial
            return trial.fun

        found = armijo(phi, point.fun, slope, start, bend=min(bend, 0.0))
        trial = kept.get(found.alpha)
        if trial is None or bool(trial.grad().isfinite().all()):
            return Searched(trial, found.alpha, False)
        start = 0.1 * found.alpha
    return Searched(None, 0.0, False)
