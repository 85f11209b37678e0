r"""What every line search shares: the conditions on a step, the count of trials, the best of them.

A search is a pure function of :math:`\varphi(\alpha) = f(x + \alpha d)`, called for
:math:`\alpha > 0` and answering with numbers; vectors stay with whoever calls. Searches differ in
how they choose the next trial: :func:`~thalweg.numerics.more_thuente.more_thuente`,
:func:`~thalweg.numerics.hager_zhang.hager_zhang`, :func:`~thalweg.numerics.armijo.armijo`.

None of them raises. A trial whose value or slope is NaN or infinite is too long: it bounds the
search from above and is never interpolated through. A search that cannot meet its conditions
returns the best trial that it saw, and says so in its status.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final


__all__ = ["Found", "Phi", "Trial"]

Phi = Callable[[float], tuple[float, float]]


class Trial(NamedTuple):
    """A step with the function's value and slope there.

    Example:
        >>> Trial(1.0, 0.5, float("nan")).finite
        False
    """

    alpha: float
    value: float
    slope: float

    @property
    def finite(self) -> bool:
        """Whether value and slope are numbers."""
        return math.isfinite(self.value) and math.isfinite(self.slope)


@final
@dataclass(frozen=True)
class Found:
    """Where a line search ended.

    Args:
        alpha: The step; 0 where no trial was better than the start.
        value: The function there.
        slope: Its slope there; NaN where it was not computed.
        evaluations: How often the function was called, non-finite trials included.
        status: ``wolfe``: both conditions hold. ``approximate``: the value is within the slack
            and the slopes say that the step is good. ``decrease``: sufficient decrease alone holds
            (all that Armijo's search asks for; of the others, their best within their limits).
            ``rounding``: the best trial is lower than the start by less than was asked for.
            ``failed``: none is lower. ``uphill``: the slope at the start is not below 0, or not
            finite; nothing was called.

    Example:
        >>> Found(1.0, 0.0, 0.0, 1, "wolfe").success
        True
    """

    alpha: float
    value: float
    slope: float
    evaluations: int
    status: str

    @property
    def success(self) -> bool:
        """Whether the step decreases the function sufficiently, or as far as can be seen."""
        return self.status in {"wolfe", "approximate", "decrease"}
