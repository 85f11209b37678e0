"""What a step along a line must satisfy: Wolfe's conditions, or those of Hager and Zhang."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from thalweg.errors import FRACTION, NON_NEGATIVE, Domain, bad_argument, integer_from
from thalweg.numerics.line_search import Trial


__all__ = ["SHARE", "Conditions"]

SHARE = Domain("a number in (0, 1)", lambda c: FRACTION.contains(c) and c != 0)


@final
@dataclass(frozen=True)
class Conditions:
    r"""What a step must satisfy, and the limits within which it is looked for.

    With :math:`c_1` = ``decrease`` and :math:`c_2` = ``curvature``, Wolfe's conditions are

    .. math::
        \varphi(\alpha) \le \varphi(0) + c_1 \alpha \varphi'(0), \qquad
        \varphi'(\alpha) \ge c_2 \varphi'(0),

    with :math:`|\varphi'(\alpha)| \le c_2 |\varphi'(0)|` instead of the second in their strong
    form. Where :math:`\varphi(\alpha) - \varphi(0)` is lost in the rounding of
    :math:`\varphi`, the first says nothing. Hager and Zhang's approximate conditions ask the
    slopes alone,

    .. math::
        \varphi(\alpha) \le \varphi(0) + \varepsilon, \qquad
        (2 c_1 - 1)\, \varphi'(0) \ge \varphi'(\alpha) \ge c_2 \varphi'(0),

    which on a quadratic are the same, and which still hold near a minimum, where slopes are known
    to their last digits and differences of values are not.

    Args:
        decrease: :math:`c_1` in (0, 1); default 1e-4 (Nocedal and Wright).
        curvature: :math:`c_2` in (0, 1); default 0.9 (for quasi-Newton directions).
        slack: :math:`\varepsilon >= 0`, in units of the function; default 0, no approximate
            conditions. Hager and Zhang take :math:`10^{-6} |\varphi(0)|`.
        strong: Whether the slope is bounded on both sides.
        longest: The longest step; infinite where there is none.
        width: The relative width of a bracket below which it cannot be halved; default 1e-15.
        most: Trials at most; default 40.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> Conditions().holds(Trial(0.0, 1.0, -1.0), Trial(1.0, 0.5, 0.0))
        'wolfe'

    References:
        Nocedal and Wright, Numerical Optimization, 2nd ed. 2006, (3.6) and (3.7); Hager and Zhang,
        A new conjugate gradient method with guaranteed descent and an efficient line search, 2005.
    """

    decrease: float = 1e-4
    curvature: float = 0.9
    slack: float = 0.0
    strong: bool = True
    longest: float = math.inf
    width: float = 1e-15
    most: int = 40

    def __post_init__(self) -> None:
        for name in ("decrease", "curvature", "slack", "width"):
            value = getattr(self, name)
            (NON_NEGATIVE if name in {"slack", "width"} else SHARE).check("Conditions", name, value)
        if not self.longest > 0:
            raise bad_argument("Conditions", "longest", self.longest, "a number > 0")
        integer_from(1).check("Conditions", "most", self.most)

    def decreases(self, start: Trial, trial: Trial) -> bool:
        """Armijo's condition: sufficient decrease."""
        return trial.value <= start.value + self.decrease * trial.alpha * start.slope

    def holds(self, start: Trial, trial: Trial) -> str:
        """``wolfe`` or ``approximate``, where the trial satisfies these; else an empty word."""
        if not trial.finite or trial.slope < self.curvature * start.slope:
            return ""
        if self.strong and trial.slope > -self.curvature * start.slope:
            return ""
        if self.decreases(start, trial):
            return "wolfe"
        flat = trial.slope <= (2 * self.decrease - 1) * start.slope
        return "approximate" if flat and self.level(start, trial) else ""

    def level(self, start: Trial, trial: Trial) -> bool:
        """Whether there is a slack and the trial's value is within it."""
        return self.slack > 0 and trial.value <= start.value + self.slack
