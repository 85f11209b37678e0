"""Where a picture is evaluated: coordinates along each axis, and how far they go."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from thalweg.errors import NON_NEGATIVE, NonFiniteError, bad_argument, one_of


__all__ = ["AutoSpan", "Span", "coordinates", "grown", "ranges_of"]

_SPACINGS = one_of("linear", "log")
_DECADES = 3  # between the first and the last coordinate of a logarithmic axis
_DOUBLINGS = 40


@final
@dataclass(frozen=True)
class AutoSpan:
    r"""A range found by walking out from the centre until the loss has changed enough.

    The half-width s of an axis is where the mean of :math:`L(\theta_c \pm s\,d)` differs from
    :math:`L(\theta_c)` by

    .. math:: \max\{(F - 1)\,|L(\theta_c)|,\; m\},

    found by doubling or halving and then by bisection to 10 %.

    Args:
        factor: F, > 1: the loss at the edge over that at the centre, where it rises.
        least: m, >= 0: at least so much change, for a loss near zero.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> round(grown(lambda t: t * t, AutoSpan(least=4.0), 0.0, 1.0), 1)
        2.0
    """

    factor: float = 10.0
    least: float = 0.1

    def __post_init__(self) -> None:
        if not self.factor > 1.0:
            raise bad_argument("AutoSpan", "factor", self.factor, "a number > 1")
        NON_NEGATIVE.check("AutoSpan", "least", self.least)

    def change(self, centre: float) -> float:
        """How far the loss at the edge is from that at the centre."""
        return max((self.factor - 1.0) * abs(centre), self.least)


Side = float | tuple[float, float]
Span = Side | tuple[tuple[float, float], tuple[float, float]] | str | AutoSpan | None


def ranges_of(where: str, span: Any, count: int) -> list[tuple[float, float]]:
    """A range for each axis, from what a caller gave.

    Args:
        where: The function that was called, for messages.
        span: A half-width for all axes; or, for two axes, a pair of half-widths or of (low, high)
            pairs; for one axis, a (low, high) pair.
        count: The number of axes.

    Raises:
        ValueError: If it is none of these, or a range is empty.

    Example:
        >>> ranges_of("plane", (1.0, (0.0, 2.0)), 2)
        [(-1.0, 1.0), (0.0, 2.0)]
        >>> ranges_of("line", (0.0, 2.0), 1)
        [(0.0, 2.0)]
    """
    sides = [span] * count if _is_number(span) else [span] if count == 1 else span
    found = []
    try:
        for side in sides:
            low, high = (-side, side) if _is_number(side) else side
            found.append((float(low), float(high)))
    except (TypeError, ValueError):
        found = []
    finite = all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in found)
    if len(found) != count or not finite:
        allowed = (
            "'auto', AutoSpan(...), a half-width > 0, or for each axis a half-width or "
            "(low, high) with low < high"
        )
        raise bad_argument(where, "span", span, allowed)
    return found


def coordinates(
    where: str, low: float, high: float, resolution: int, spacing: str = "linear"
) -> np.ndarray:
    r"""The coordinates of one axis.

    Args:
        where: The function that was called, for messages.
        low: The first.
        high: The last.
        resolution: How many, at least 2. An odd number puts one in the middle.
        spacing: ``"linear"``, or ``"log"``: for a range [-s, s], both sides geometric from
            :math:`10^{-3} s` to s, with 0 between them where the number is odd.

    Raises:
        ValueError: If the resolution is under 2, or a logarithmic range is not symmetric.

    Example:
        >>> coordinates("line", -1.0, 1.0, 5, "log").round(4).tolist()
        [-1.0, -0.001, 0.0, 0.001, 1.0]
    """
    _SPACINGS.check(where, "spacing", spacing)
    if not isinstance(resolution, int) or isinstance(resolution, bool) or resolution < 2:
        raise bad_argument(where, "resolution", resolution, "an integer >= 2, or one for each axis")
    if spacing == "linear":
        made = np.linspace(low, high, resolution)
        # The middle is the centre itself, not the centre and a rounding error.
        made[np.abs(made) < 1e-12 * max(abs(low), abs(high))] = 0.0
        return made
    if low != -high:
        raise bad_argument(where, "spacing", spacing, "'linear' where a range is not symmetric")
    side = np.geomspace(10.0**-_DECADES * high, high, resolution // 2)
    side[-1] = high
    middle = [0.0] if resolution % 2 else []
    return np.concatenate([-side[::-1], middle, side])


def grown(loss: Callable[[float], float], span: AutoSpan, centre: float, start: float) -> float:
    """The half-width at which the loss has changed enough.

    Args:
        loss: Coordinate to loss, along one axis.
        span: How much is enough.
        centre: The loss at 0.
        start: The first guess, > 0.

    Raises:
        NonFiniteError: If the loss at the centre is not finite.

    Example:
        >>> round(grown(lambda t: abs(t), AutoSpan(least=8.0), 0.0, 1.0))
        8
    """
    if not math.isfinite(centre):
        raise NonFiniteError(f"AutoSpan: the loss at the centre is {centre}; give a span.")
    change = span.change(centre)

    def over(s: float) -> bool:
        mean = (loss(s) + loss(-s)) / 2
        return not abs(mean - centre) < change  # NaN is over

    low, high = 0.0, start
    for _ in range(_DOUBLINGS):
        if over(high):
            break
        low, high = high, 2.0 * high
    else:
        return start  # a constant: any range is as good
    while low == 0.0 and high > start * 2.0**-_DOUBLINGS:
        half = high / 2
        if over(half):
            high = half
        else:
            low = half
    while low and high > 1.1 * low:
        middle = math.sqrt(low * high)
        if over(middle):
            high = middle
        else:
            low = middle
    return high


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
