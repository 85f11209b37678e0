r"""What a trial says of a step that was expected to gain something.

Values judge, until what was expected is lost in the rounding of f. There slopes judge, which are
known better: the gain is :math:`-\tfrac12 (g_0 + g_1)^\top p` up to third order in p.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.numerics.lanczos import inner
from thalweg.numerics.trust_region import gain_ratio, noise
from thalweg.optim.ground import Ground, Trial


__all__ = ["STALLED", "Verdict", "escape", "judge", "lost_in_noise", "quiet"]

STALLED = 5  # steps in a row whose gain is rounding, and which do not shorten the gradient
_TRIES = 24  # along a direction of negative curvature
_FIFTH = 0.2


class Verdict(NamedTuple):
    """A trial, what it gained over what was expected, and whether values could tell."""

    trial: Trial
    ratio: float
    noisy: bool


def lost_in_noise(point: Ground, expected: float) -> bool:
    """Whether a gain is too small to be seen in values of f."""
    return expected <= noise(point.fun, point.fun, torch.finfo(point.x.dtype).eps)


def judge(point: Ground, x: Tensor, step: Tensor, expected: float) -> Verdict:
    """Try a point.

    Args:
        point: Where the optimizer stands.
        x: The point, flat.
        step: x minus the standing point, before rounding.
        expected: What f should fall by, > 0.

    Returns:
        The verdict; the ratio is minus infinity where f or, at a point that would be accepted, its
        gradient is not finite.
    """
    eps = torch.finfo(x.dtype).eps
    trial = point.attempt(x)
    level = noise(point.fun, trial.fun, eps)
    noisy = math.isfinite(trial.fun) and expected <= level
    if noisy and trial.fun <= point.fun + level:
        gained = -0.5 * (inner(point.grad, step) + inner(trial.grad(), step))
        ratio = gained / expected if expected > 0.0 else -math.inf
    else:
        ratio = gain_ratio(point.fun, trial.fun, expected, eps)
    if ratio > 0.0 and not bool(trial.grad().isfinite().all()):
        ratio = -math.inf
    return Verdict(trial, ratio if math.isfinite(ratio) else -math.inf, noisy)


def quiet(memory: dict[str, object], grad: Tensor, noisy: bool) -> dict[str, float]:
    """What to remember of steps whose gain is rounding: the shortest gradient, and for how long.

    Args:
        memory: Of the method.
        grad: At the accepted point.
        noisy: Whether values could not tell.

    Returns:
        ``{"shortest": ..., "stalled": ...}``; five that do not halve it are no progress.
    """
    norm = math.sqrt(inner(grad, grad))
    shortest = memory.get("shortest", math.inf)
    assert isinstance(shortest, float)
    if not noisy or norm <= 0.5 * shortest:
        return {"shortest": norm if noisy else math.inf, "stalled": 0.0}
    stalled = memory.get("stalled", 0.0)
    assert isinstance(stalled, float)
    return {"shortest": shortest, "stalled": stalled + 1.0}


def escape(
    point: Ground, curvature: float, direction: Tensor, reach: float | None = None
) -> Trial | None:
    r"""Go down along negative curvature, from a point that has no other way down.

    Lengths fall from that of the parameters until f has decreased by a fifth of
    :math:`\tfrac12 |d^\top H d|` and visibly. Where the parameters are so near 0 that nothing of it
    could be seen, they fall from the length at which the model would have lost all of f.

    Args:
        point: Where the optimizer stands.
        curvature: d'Hd < 0 of the unit direction.
        direction: d, of length 1.
        reach: The length of the parameters where d is of length 1 in another measure; None is the
            Euclidean one.

    Returns:
        The trial that is lower; None if there is none.
    """
    eps = torch.finfo(point.x.dtype).eps
    slope = inner(point.grad, direction)
    d = -direction if slope > 0 else direction
    length = math.sqrt(inner(point.x, point.x)) if reach is None else reach
    if length * abs(slope) - 0.5 * curvature * length**2 <= noise(point.fun, point.fun, eps):
        length = math.sqrt(2 * abs(point.fun / curvature)) or 1.0
    for _ in range(_TRIES):
        expected = length * abs(slope) - 0.5 * curvature * length**2
        if expected <= noise(point.fun, point.fun, eps):
            return None
        trial = point.attempt(point.x + length * d)
        fallen = point.fun - trial.fun
        enough = fallen >= _FIFTH * expected and fallen > noise(point.fun, trial.fun, eps)
        if enough and bool(trial.grad().isfinite().all()):
            return trial
        length *= _FIFTH
    return None
