"""The function along a line as a search sees it: counted, its best trial kept, its walls marked."""

from __future__ import annotations

import math
from typing import final

from thalweg.numerics.line_search import Found, Phi, Trial
from thalweg.numerics.wolfe import Conditions


__all__ = ["Spent", "Trials", "better"]


@final
class Spent(Exception):  # it is not an error: it ends a search
    """The trials allowed are used up; caught by every search."""


@final
class Trials:
    """The function along the line, with what was seen of it so far.

    Args:
        phi: alpha -> (value, slope).
        start: Value and slope at 0.
        conditions: What is looked for.

    Example:
        >>> line = Trials(lambda a: ((a - 1) ** 2, 2 * (a - 1)), Trial(0, 1.0, -2.0), Conditions())
        >>> line(0.5).value, line.best.alpha, line.evaluations
        (0.25, 0.5, 1)
    """

    def __init__(self, phi: Phi, start: Trial, conditions: Conditions) -> None:
        self._phi = phi
        self.start = start
        self.conditions = conditions
        self.evaluations = 0
        self.best = start
        self.wall = math.inf  # the shortest step at which the function is not finite

    def __call__(self, alpha: float) -> Trial:
        """One trial.

        Raises:
            Spent: If as many were made as are allowed.
        """
        if self.evaluations >= self.conditions.most:
            raise Spent
        self.evaluations += 1
        value, slope = self._phi(alpha)
        trial = Trial(alpha, float(value), float(slope))
        if not trial.finite:
            self.wall = min(self.wall, alpha)
        elif trial.value < self.start.value and better(
            self.start, trial, self.best, self.conditions
        ):
            self.best = trial
        return trial

    def inside(self, alpha: float, low: float) -> Trial | None:
        """A trial at ``alpha``, drawn back towards ``low`` until it is finite.

        Returns:
            The trial, or None where no step that differs from ``low`` is finite.
        """
        back = (0.5, 0.25)
        tries = 0
        while not (trial := self(alpha)).finite:
            nearer = low + (back[tries] if tries < len(back) else 0.1) * (alpha - low)
            if not low < nearer < alpha:
                return None
            alpha, tries = nearer, tries + 1
        return trial

    def ended(self, trial: Trial | None = None, status: str = "") -> Found:
        """The result: the given trial, or the best one with what can be said of it."""
        last = self.best if trial is None else trial
        if not status:
            if last.alpha == 0:
                status = "failed"
            else:
                enough = self.conditions.decreases(self.start, last)
                status = "decrease" if enough else "rounding"
        return Found(last.alpha, last.value, last.slope, self.evaluations, status)


def better(start: Trial, trial: Trial, best: Trial, conditions: Conditions) -> bool:
    """Whether a trial is the one to keep: sufficient decrease first, then the lower value.

    One that is not below the start never is, though by rounding its decrease may seem sufficient.

    Example:
        >>> start, trial = Trial(0.0, 1.0, -1.0), Trial(1.0, 0.5, 0.0)
        >>> better(start, trial, start, Conditions())
        True
    """
    if not trial.value < start.value:
        return False
    first = conditions.decreases(start, trial)
    second = best.alpha > 0 and conditions.decreases(start, best)
    if first != second:
        return first
    return trial.value < best.value
