"""Where the next step of a line search is likely to be best, from two trials with their slopes."""

from __future__ import annotations

import math
from typing import NamedTuple

from thalweg.numerics.line_search import Trial


__all__ = ["SHRINK", "Interval", "next_step"]

SHRINK = 0.66  # what a trial inside an interval may leave of it


class Interval(NamedTuple):
    """The best trial so far and the other end.

    Args:
        best: The trial with the lowest value; its slope points into the interval.
        other: The other end; the best itself where there is none yet.
        bracketed: Whether a minimum is known to lie between.

    Example:
        >>> Interval(Trial(0.0, 1.0, -1.0), Trial(1.0, 2.0, 3.0), True).bracketed
        True
    """

    best: Trial
    other: Trial
    bracketed: bool


def next_step(interval: Interval, trial: Trial, limits: tuple[float, float]) -> tuple[float, bool]:
    """The next step and whether a minimum is bracketed now: the four cases of Moré and Thuente.

    Args:
        interval: The interval before the trial.
        trial: A new trial.
        limits: Where the next one may lie.

    Returns:
        The step, and whether the interval that the trial makes holds a minimum.

    Example:
        >>> start = Trial(0.0, 1.0, -2.0)
        >>> next_step(Interval(start, start, False), Trial(4.0, 9.0, 6.0), (0.0, 16.0))
        (1.0, True)
    """
    best, other, bracketed = interval
    a, b = best.alpha, trial.alpha
    if trial.value > best.value:  # case 1: the minimum lies between
        curve = _cubic(best, trial)
        rise = (best.value - trial.value) / (b - a) + best.slope
        parabola = a + 0.5 * best.slope / rise * (b - a)
        nearer = abs(curve - a) < abs(parabola - a)
        return (curve if nearer else 0.5 * (curve + parabola)), True
    if (trial.slope > 0) != (best.slope > 0):  # case 2: lower, and the slope has turned
        curve, line = _cubic(trial, best), _secant(best, trial)
        return (curve if abs(curve - b) > abs(line - b) else line), True
    low, high = limits
    end = high if b > a else low
    if abs(trial.slope) < abs(best.slope):  # case 3: lower, flatter, in the same direction
        curve, line = _cubic_ahead(best, trial, end), _secant(best, trial)
        if not bracketed:
            farther = curve if abs(curve - b) > abs(line - b) else line
            return min(max(farther, low), high), False
        nearer = curve if abs(curve - b) < abs(line - b) else line
        guard = b + SHRINK * (other.alpha - b)
        return (min(guard, nearer) if b > a else max(guard, nearer)), True
    if bracketed:  # case 4: lower, and no flatter
        return _cubic(trial, other), True
    return end, False


def _secant(best: Trial, trial: Trial) -> float:
    """Where the line through both slopes is 0."""
    share = trial.slope / (trial.slope - best.slope)
    return trial.alpha + share * (best.alpha - trial.alpha)


def _root(first: Trial, second: Trial) -> tuple[float, float]:
    """Theta and gamma of the cubic through both; gamma >= 0."""
    theta = 3 * (first.value - second.value) / (second.alpha - first.alpha)
    theta += first.slope + second.slope
    scale = max(abs(theta), abs(first.slope), abs(second.slope))
    if scale == 0:
        return 0.0, 0.0
    inside = (theta / scale) ** 2 - (first.slope / scale) * (second.slope / scale)
    return theta, scale * math.sqrt(max(inside, 0.0))


def _cubic(first: Trial, second: Trial) -> float:
    """The minimiser of the cubic through both trials, measured from the first."""
    theta, gamma = _root(first, second)
    if second.alpha < first.alpha:
        gamma = -gamma
    top, bottom = gamma - first.slope + theta, gamma - first.slope + gamma + second.slope
    if bottom == 0:
        return 0.5 * (first.alpha + second.alpha)
    return first.alpha + top / bottom * (second.alpha - first.alpha)


def _cubic_ahead(best: Trial, trial: Trial, end: float) -> float:
    """The minimiser of the cubic where it lies beyond the trial; else the end allowed."""
    theta, gamma = _root(best, trial)
    if trial.alpha > best.alpha:
        gamma = -gamma
    top, bottom = gamma - trial.slope + theta, gamma + (best.slope - trial.slope) + gamma
    if gamma == 0 or bottom == 0 or top / bottom >= 0:
        return end
    return trial.alpha + top / bottom * (best.alpha - trial.alpha)
