"""Which of conjugate gradients' iterates f likes best, and how far along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.numerics.lanczos import inner
from thalweg.numerics.trust_region import noise
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.judgement import judge


__all__ = ["Chosen", "best_iterate"]

_SHRINK, _DECREASE, _CUTS = 0.8, 1e-2, 60  # Martens'
_ACCEPT = 1e-4


class Chosen(NamedTuple):
    """A step that lowers f."""

    trial: Trial
    direction: Tensor  # of the whole step that was taken
    alpha: float  # its share of the iterate
    gained: float
    noisy: bool


def best_iterate(point: Ground, iterates: Sequence[Tensor]) -> Chosen | None:
    """Go back over the iterates while f falls, then shorten until it has fallen enough.

    Args:
        point: Where the optimizer stands.
        iterates: Steps, the last the best for the model.

    Returns:
        The step; None if none is lower. Where f's rounding hides what the last iterate should gain,
        slopes judge it.
    """
    last = iterates[-1]
    slope = inner(point.grad, last)
    if slope < 0.0 and -0.5 * slope <= noise(point.fun, point.fun, torch.finfo(last.dtype).eps):
        verdict = judge(point, point.x + last, last, -0.5 * slope)
        if verdict.ratio <= _ACCEPT:
            return None
        return Chosen(verdict.trial, last, 1.0, verdict.ratio * -0.5 * slope, True)
    best, chosen = point.attempt(point.x + last), len(iterates) - 1
    for i in range(len(iterates) - 2, -1, -1):
        trial = point.attempt(point.x + iterates[i])
        if math.isfinite(best.fun) and not trial.fun < best.fun:
            break
        best, chosen = trial, i
    return _shortened(point, best, iterates[chosen])


def _shortened(point: Ground, trial: Trial, step: Tensor) -> Chosen | None:
    slope, alpha = inner(point.grad, step), 1.0
    if not slope < 0.0:
        return None
    for _ in range(_CUTS):
        enough = trial.fun <= point.fun + _DECREASE * alpha * slope
        if enough and bool(trial.grad().isfinite().all()):
            return Chosen(trial, alpha * step, alpha, point.fun - trial.fun, False)
        alpha *= _SHRINK if math.isfinite(trial.fun) else 0.5
        trial = point.attempt(point.x + alpha * step)
    return None
