r"""Hager and Zhang's line search: slopes of opposite sign, and a secant step from either end.

The search keeps an interval [a, b] with

.. math::
    \varphi(a) \le \varphi(0) + \varepsilon, \qquad \varphi'(a) < 0, \qquad \varphi'(b) \ge 0,

so that a minimum lies inside. Secant steps use slopes only, which stay exact near a minimum where
values are lost in rounding; with the approximate conditions the search reaches the precision of
the slopes.
"""

from __future__ import annotations

import math
from typing import final

from thalweg.numerics.line_search import Found, Phi, Trial
from thalweg.numerics.trials import Spent, Trials
from thalweg.numerics.wolfe import Conditions


__all__ = ["hager_zhang"]

MIDDLE = 0.5  # theta: where an interval is cut
SHRINK = 0.66  # gamma: of the interval in one round; else it is cut
GROWTH = 5.0  # rho: of a step that is still going down
AT_WALL = (
    0.9  # of the shortest step that was not finite: near enough where the function still falls
)


@final
class _Held(Exception):  # it is not an error: it ends the search
    def __init__(self, trial: Trial, status: str) -> None:
        super().__init__()
        self.trial, self.status = trial, status


def hager_zhang(
    phi: Phi, value: float, slope: float, start: float = 1.0, conditions: Conditions | None = None
) -> Found:
    r"""A step that satisfies Wolfe's conditions, or the approximate ones.

    Args:
        phi: alpha -> (value, slope).
        value: :math:`\varphi(0)`.
        slope: :math:`\varphi'(0)`, < 0.
        start: The first trial, > 0.
        conditions: What is looked for, and the limits; default the authors', c1 = 0.1, c2 = 0.9
            and the slack :math:`10^{-6} |\varphi(0)|`, not strong.

    Returns:
        Where it ended.

    Example:
        >>> hager_zhang(lambda a: ((a - 3) ** 2, 2 * (a - 3)), 9.0, -6.0)
        Found(alpha=1.0, value=4.0, slope=-4.0, evaluations=1, status='wolfe')
        >>> from thalweg.numerics.wolfe import Conditions
        >>> tight = Conditions(curvature=0.1)
        >>> hager_zhang(lambda a: ((a - 3) ** 2, 2 * (a - 3)), 9.0, -6.0, 1.0, tight).alpha
        3.0

    References:
        Hager and Zhang, A new conjugate gradient method with guaranteed descent and an efficient
        line search, SIAM Journal on Optimization 16, 2005; the same, Algorithm 851: CG_DESCENT,
        ACM Transactions on Mathematical Software 32, 2006.
    """
    if conditions is None:
        conditions = Conditions(0.1, 0.9, slack=1e-6 * abs(value), strong=False)
    line = Trials(phi, Trial(0.0, value, slope), conditions)
    if not (slope < 0 and line.start.finite and start > 0):
        return Found(0.0, value, slope, 0, "uphill")
    search = _Search(line)
    try:
        return search.run(min(start, conditions.longest))
    except _Held as held:
        return line.ended(held.trial, held.status)
    except Spent:
        return line.ended()


@final
class _Search:
    """The interval's updates; every trial may end the search by raising."""

    def __init__(self, line: Trials) -> None:
        self.line = line
        # Within the slack of the start counts as below it, also where approximate Wolfe is off.
        self.level = line.start.value + line.conditions.slack

    def run(self, start: float) -> Found:
        """Bracket, then shrink."""
        ends = self.bracket(start)
        while ends is not None:
            a, b = ends
            if b.alpha - a.alpha <= self.line.conditions.width * b.alpha:
                break
            ends = self.twice(a, b)
            if ends is not None and ends[1].alpha - ends[0].alpha > SHRINK * (b.alpha - a.alpha):
                a, b = ends
                ends = self.update(a, b, a.alpha + MIDDLE * (b.alpha - a.alpha))
        return self.line.ended()

    def look(self, alpha: float) -> Trial:
        """A trial; it ends the search where the conditions hold."""
        trial = self.line(alpha)
        self.judge(trial)
        return trial

    def judge(self, trial: Trial) -> None:
        """End the search where the conditions hold."""
        if met := self.line.conditions.holds(self.line.start, trial):
            raise _Held(trial, met)

    def low(self, trial: Trial) -> bool:
        """Whether it may be the lower end, if its slope is below 0."""
        return trial.finite and trial.value <= self.level

    def bracket(self, alpha: float) -> tuple[Trial, Trial] | None:
        """An interval with slopes of opposite sign; None where the longest step still goes down."""
        below = self.line.start
        while True:
            trial = self.line.inside(alpha, below.alpha)
            if trial is None:
                return None
            self.judge(trial)
            if trial.slope >= 0:
                return below, trial
            if not self.low(trial):
                return self.cut(below, trial)
            below = trial
            wall, longest = self.line.wall, self.line.conditions.longest
            if trial.alpha >= min(longest, AT_WALL * wall):
                return None
            alpha = min(GROWTH * trial.alpha, longest)
            if wall < math.inf:
                alpha = min(alpha, trial.alpha + MIDDLE * (wall - trial.alpha))

    def cut(self, a: Trial, b: Trial) -> tuple[Trial, Trial] | None:
        """From ends that both go down, the second too high: cut until a slope has turned."""
        while b.alpha - a.alpha > self.line.conditions.width * b.alpha:
            middle = a.alpha + MIDDLE * (b.alpha - a.alpha)
            if not a.alpha < middle < b.alpha:
                return None
            trial = self.look(middle)
            if trial.finite and trial.slope >= 0:
                return a, trial
            if self.low(trial):
                a = trial
            else:
                b = trial
        return None

    def update(self, a: Trial, b: Trial, alpha: float) -> tuple[Trial, Trial] | None:
        """The interval with one more trial in it."""
        if not a.alpha < alpha < b.alpha:
            return a, b
        trial = self.look(alpha)
        if trial.finite and trial.slope >= 0:
            return a, trial
        return (trial, b) if self.low(trial) else self.cut(a, trial)

    def twice(self, a: Trial, b: Trial) -> tuple[Trial, Trial] | None:
        """A secant step, and another from the end that it replaced."""
        alpha = _secant(a, b)
        ends = self.update(a, b, alpha)
        if ends is None:
            return None
        if alpha == ends[1].alpha:
            return self.update(*ends, _secant(b, ends[1]))
        if alpha == ends[0].alpha:
            return self.update(*ends, _secant(a, ends[0]))
        return ends


def _secant(a: Trial, b: Trial) -> float:
    """Where the line through both slopes is 0; the first end where they are equal."""
    rise = b.slope - a.slope
    return a.alpha - a.slope * ((b.alpha - a.alpha) / rise) if rise != 0 else a.alpha
