"""Armijo's line search: go back along the line until the function has decreased enough."""

from __future__ import annotations

import math
from collections.abc import Callable

from thalweg.errors import bad_argument
from thalweg.numerics.line_search import Found


__all__ = ["armijo"]


def armijo(
    phi: Callable[[float], float],
    value: float,
    slope: float,
    start: float = 1.0,
    *,
    decrease: float = 1e-4,
    bend: float = 0.0,
    reference: float | None = None,
    slack: float = 0.0,
    shrink: tuple[float, float] = (0.1, 0.5),
    most: int = 40,
) -> Found:
    r"""The first step :math:`\alpha` in a decreasing sequence with sufficient decrease.

    .. math::
        \varphi(\alpha) \le \bar\varphi + c_1
        \bigl(\alpha \varphi'(0) + \tfrac12 \alpha^2 \kappa\bigr) + \varepsilon .

    A step that fails is replaced by the minimiser of the parabola through
    :math:`\varphi(0)`, :math:`\varphi'(0)` and its value, later of the cubic through the last
    two values, kept between a tenth and a half of it. One whose value is not finite is cut without
    interpolating. Values alone are asked for: a gradient can wait until a step is taken.

    Args:
        phi: alpha -> value.
        value: :math:`\varphi(0)`.
        slope: :math:`\varphi'(0)`, < 0; or 0 where ``bend`` is below 0.
        start: The first trial, > 0; default 1, Newton's step.
        decrease: :math:`c_1` in (0, 1); default 1e-4.
        bend: :math:`\kappa \le 0`, the negative curvature along the line, for steps that follow
            it; default 0.
        reference: :math:`\bar\varphi \ge \varphi(0)`, to which the value is compared: the largest
            of the last few, for a search that need not go down at once. Default: the value.
        slack: :math:`\varepsilon \ge 0`, for rounding; default 0.
        shrink: The least and the most that remains of a step that failed.
        most: Trials at most; default 40.

    Returns:
        Where it ended: ``decrease``, or the lowest trial as ``rounding``, or ``failed``. The slope
        is NaN but at 0.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> armijo(lambda a: (3 * a - 1) ** 2, 1.0, -6.0)
        Found(alpha=0.333..., value=0.0, slope=nan, evaluations=2, status='decrease')

    References:
        Armijo, Minimization of functions having Lipschitz continuous first partial derivatives,
        1966; Nocedal and Wright, Numerical Optimization, 2006, section 3.5; McCormick, A
        modification of Armijo's step-size rule for negative curvature, 1977; Grippo, Lampariello
        and Lucidi, A nonmonotone line search technique for Newton's method, 1986.
    """
    low, high = shrink
    if not 0 < low <= high < 1:
        raise bad_argument("armijo", "shrink", shrink, "two numbers with 0 < low <= high < 1")
    if not 0 < decrease < 1:
        raise bad_argument("armijo", "decrease", decrease, "a number in (0, 1)")
    if not start > 0:
        raise bad_argument("armijo", "start", start, "a number > 0")
    down = slope < 0 or (slope == 0 and bend < 0)
    if not (down and bend <= 0 and math.isfinite(slope) and math.isfinite(value)):
        return Found(0.0, value, slope, 0, "uphill")
    level = max(value, value if reference is None else reference) + slack
    alpha, count, cuts = start, 0, 0
    best = (0.0, value)
    before: tuple[float, float] | None = None  # the last finite trial that failed
    while count < most and alpha > 0:
        count += 1
        here = float(phi(alpha))
        if not math.isfinite(here):
            cuts += 1
            alpha *= high if cuts == 1 else low + (high - low) * 0.5**cuts
            continue
        if here <= level + decrease * (alpha * slope + 0.5 * alpha**2 * bend):
            return Found(alpha, here, math.nan, count, "decrease")
        if here < best[1]:
            best = (alpha, here)
        guess = _minimiser(value, slope, (alpha, here), before)
        before = (alpha, here)
        alpha = min(max(guess, low * alpha), high * alpha)
    if best[0] == 0.0:
        return Found(0.0, value, slope, count, "failed")
    return Found(*best, math.nan, count, "rounding")


def _minimiser(
    value: float,
    slope: float,
    last: tuple[float, float],
    before: tuple[float, float] | None,
) -> float:
    """Of the parabola or, where two trials failed, the cubic; NaN-free, 0 where there is none."""
    a, rise = last[0], last[1] - value - slope * last[0]
    parabola = -slope * a**2 / (2 * rise) if rise > 0 else math.inf
    if before is None:
        return parabola
    b, other = before[0], before[1] - value - slope * before[0]
    # value + slope t + second t^2 + third t^3 through both.
    third = (rise / a**2 - other / b**2) / (a - b)
    second = (other * a / b**2 - rise * b / a**2) / (a - b)
    if third == 0:
        return parabola
    root = second * second - 3 * third * slope
    if not 0 <= root < math.inf:
        return parabola
    # The form without cancellation of (-second + sqrt(root)) / (3 third).
    bottom = second + math.sqrt(root)
    made = (
        -slope / bottom if second > 0 and bottom > 0 else (-second + math.sqrt(root)) / (3 * third)
    )
    return made if math.isfinite(made) and made > 0 else parabola
