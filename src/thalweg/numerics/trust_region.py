r"""Whether a trial point is accepted, and how far the model is trusted next.

A model predicts that f falls by P; at the trial it fell by A. Their ratio says how good the model
is, until both are lost in the rounding of f: there a difference of values says nothing, and Conn,
Gould and Toint add a few units of rounding to both, so that the ratio becomes 1. Slopes are known
better than values: A is also :math:`-\tfrac12 (g_0 + g_1)^\top p` up to third order in p, whatever
the rounding of f.

References:
    Conn, Gould and Toint, Trust-region methods, 2000, sections 6.1, 17.1 and 17.4.2.
    Gould, Orban, Sartenaer and Toint, Sensitivity of trust-region algorithms to their parameters,
    2005.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from thalweg.errors import bad_argument


__all__ = ["RadiusRule", "gain_ratio", "noise", "shortened"]

_UNITS = 10.0  # of rounding that a value of f may be off by


def noise(before: float, after: float, eps: float) -> float:
    """How far a difference of two values may be off by rounding.

    Args:
        before: A value.
        after: Another.
        eps: The rounding of their type.

    Returns:
        Ten units in the last place of the larger.

    Example:
        >>> noise(1.0, -2.0, 1e-16)
        2e-15
    """
    return _UNITS * eps * max(abs(before), abs(after)) if math.isfinite(after) else 0.0


def gain_ratio(before: float, after: float, predicted: float, eps: float) -> float:
    """What was gained over what was predicted, with a guard against rounding.

    Args:
        before: f at the standing point.
        after: f at the trial; where it is NaN or infinite the ratio is minus infinity.
        predicted: The model's decrease, > 0.
        eps: The rounding of f's type.

    Returns:
        The ratio.

    Example:
        >>> gain_ratio(1.0, 0.5, 0.5, 1e-16), gain_ratio(1.0, float("nan"), 0.5, 1e-16)
        (1.0, -inf)
    """
    if not math.isfinite(after):
        return -math.inf
    guard = noise(before, after, eps)
    return (before - after + guard) / (predicted + guard)


def shortened(before: float, after: float, slope: float, least: float, most: float) -> float:
    """Where along a rejected step a parabola through what is known has its minimum.

    Args:
        before: f at 0.
        after: f at 1.
        slope: The slope at 0.
        least: The smallest share to return, also where ``after`` is not finite or nothing bends.
        most: The largest.

    Returns:
        The share of the step, in [least, most].

    Example:
        >>> shortened(0.0, 1.0, -1.0, 0.1, 0.5)
        0.25
    """
    bend = after - before - slope
    if not (math.isfinite(bend) and slope < 0 < bend):
        return least
    return min(max(-slope / (2 * bend), least), most)


@final
@dataclass(frozen=True)
class RadiusRule:
    r"""How the radius follows the ratio.

    Args:
        accept: The least ratio at which a trial is accepted, in [0, 1); default 1e-4 (More's).
        poor: Below it the radius shrinks, in (accept, 1); default 0.25.
        good: From it on the radius grows, in (poor, inf); default 0.75.
        shrink: By which share of the step's length at most; default 0.5.
        least: And at least; default 0.1.
        grow: To how many lengths of the step; default 2.

    Raises:
        ValueError: If the thresholds are out of order.

    Example:
        >>> rule = RadiusRule()
        >>> rule.next(1.0, 1.0, 0.9), rule.next(1.0, 0.5, 0.1, 0.3)
        (2.0, 0.15)
    """

    accept: float = 1e-4
    poor: float = 0.25
    good: float = 0.75
    shrink: float = 0.5
    least: float = 0.1
    grow: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.accept < 1:
            raise bad_argument("RadiusRule", "accept", self.accept, "a number in [0, 1)")
        if not self.accept < self.poor <= self.good:
            raise bad_argument("RadiusRule", "poor", self.poor, "between accept and good")

    def next(self, radius: float, length: float, ratio: float, share: float = 0.5) -> float:
        """The next radius.

        Args:
            radius: The present one.
            length: Of the step that was tried.
            ratio: What :func:`gain_ratio` says.
            share: Of the step, to shrink to: :func:`shortened`.

        Returns:
            A number > 0.
        """
        if ratio < self.poor:
            return min(radius, length) * min(max(share, self.least), self.shrink)
        return max(radius, self.grow * length) if ratio >= self.good else radius
