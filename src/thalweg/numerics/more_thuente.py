r"""Moré and Thuente's line search: sufficient decrease with safeguarded interpolation.

The search keeps an interval between its best trial and another end that holds steps satisfying the
strong Wolfe conditions. While no trial has both decreased enough and turned its slope, it works on

.. math:: \psi(\alpha) = \varphi(\alpha) - \varphi(0) - c_1 \alpha \varphi'(0),

which is negative where the decrease is sufficient, and on :math:`\varphi` itself afterwards. The
next trial is a minimiser of a cubic, of a parabola or of a secant, by one of four cases; an
interval that does not shrink by a third in two trials is halved.
"""

from __future__ import annotations

import math

from thalweg.numerics.interpolation import SHRINK, Interval, next_step
from thalweg.numerics.line_search import Found, Phi, Trial
from thalweg.numerics.trials import Spent, Trials
from thalweg.numerics.wolfe import Conditions


__all__ = ["more_thuente"]

NEAREST, FARTHEST = 1.1, 4.0  # extrapolation, in lengths of the last advance
AT_WALL = 0.9  # of the shortest step that is not finite: near enough, if the slope is still down


def more_thuente(
    phi: Phi, value: float, slope: float, start: float = 1.0, conditions: Conditions | None = None
) -> Found:
    r"""A step that satisfies the strong Wolfe conditions.

    Args:
        phi: alpha -> (value, slope).
        value: :math:`\varphi(0)`.
        slope: :math:`\varphi'(0)`, < 0.
        start: The first trial, > 0.
        conditions: What is looked for, and the limits; default
            :class:`~thalweg.numerics.wolfe.Conditions`.

    Returns:
        Where it ended.

    Example:
        >>> more_thuente(lambda a: ((a - 3) ** 2, 2 * (a - 3)), 9.0, -6.0)
        Found(alpha=1.0, value=4.0, slope=-4.0, evaluations=1, status='wolfe')
        >>> from thalweg.numerics.wolfe import Conditions
        >>> tight = Conditions(curvature=0.1)
        >>> more_thuente(lambda a: ((a - 3) ** 2, 2 * (a - 3)), 9.0, -6.0, 1.0, tight).alpha
        3.0

    References:
        Moré and Thuente, Line search algorithms with guaranteed sufficient decrease, ACM
        Transactions on Mathematical Software 20, 1994.
    """
    conditions = conditions or Conditions()
    line = Trials(phi, Trial(0.0, value, slope), conditions)
    if not (slope < 0 and line.start.finite and start > 0):
        return Found(0.0, value, slope, 0, "uphill")
    try:
        return _search(line, min(start, conditions.longest))
    except Spent:
        return line.ended()


def _search(line: Trials, alpha: float) -> Found:
    c, origin = line.conditions, line.start
    best = other = origin
    bracketed, auxiliary = False, True
    now = before = math.inf  # the interval's widths, of this trial and of the one before
    while True:
        trial, walled = _trial(line, best, alpha)
        if trial is None:
            return line.ended()
        if walled:  # the other end lies where the function is not finite: opened again
            bracketed, other, now, before = False, best, math.inf, math.inf
        if met := c.holds(origin, trial):
            return line.ended(trial, met)
        trial = _leveled(line, best, trial)
        enough = c.decreases(origin, trial)
        if enough and trial.slope <= 0 and trial.alpha >= min(c.longest, AT_WALL * line.wall):
            return line.ended(trial, "decrease")
        auxiliary = auxiliary and not (enough and trial.slope >= 0)
        # Lower than the best, but not by enough: the interval is that of psi.
        on_psi = auxiliary and best.value >= trial.value and not enough
        tilt = c.decrease * origin.slope if on_psi else 0.0
        seen, far, last = (_tilted(t, tilt) for t in (best, other, trial))
        limits = _limits(line, best, other, trial, bracketed)
        alpha, bracketed = next_step(Interval(seen, far, bracketed), last, limits)
        if last.value > seen.value:
            other = trial
        else:
            other, best = (best if (last.slope > 0) != (seen.slope > 0) else other), trial
        if bracketed:
            gap = other.alpha - best.alpha
            low, high = sorted((best.alpha, other.alpha))
            if abs(gap) >= SHRINK * before or not low < alpha < high:
                alpha = best.alpha + 0.5 * gap
            before, now = now, abs(gap)
            if now <= c.width * high or not low < alpha < high:
                return line.ended()
        alpha = min(alpha, c.longest)


def _trial(line: Trials, best: Trial, alpha: float) -> tuple[Trial | None, bool]:
    """A finite trial at ``alpha`` or nearer to the best one, and whether it had to be drawn back.

    Where the best trial is the upper end, what lies between is drawn towards the lower end, 0.
    """
    first = line(alpha)
    if first.finite:
        return first, False
    low = best.alpha if best.alpha < alpha else 0.0
    return line.inside(low + 0.5 * (alpha - low), low), True


def _leveled(line: Trials, best: Trial, trial: Trial) -> Trial:
    """The trial with its value from the slopes, where the values differ by rounding alone."""
    if abs(trial.value - best.value) > line.conditions.slack:
        return trial
    rise = 0.5 * (best.slope + trial.slope) * (trial.alpha - best.alpha)
    return Trial(trial.alpha, best.value + rise, trial.slope)


def _limits(
    line: Trials, best: Trial, other: Trial, trial: Trial, bracketed: bool
) -> tuple[float, float]:
    """Where the next trial may lie."""
    if bracketed:
        low, high = sorted((best.alpha, other.alpha))
        return low, high
    advance, longest = trial.alpha - best.alpha, line.conditions.longest
    if line.wall < math.inf:
        longest = min(longest, trial.alpha + 0.5 * (line.wall - trial.alpha))
    low, high = trial.alpha + NEAREST * advance, trial.alpha + FARTHEST * advance
    return min(low, longest), min(high, longest)


def _tilted(trial: Trial, tilt: float) -> Trial:
    """The trial as psi has it, but for a constant."""
    return Trial(trial.alpha, trial.value - tilt * trial.alpha, trial.slope - tilt)
