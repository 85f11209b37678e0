r"""When a least-squares fit stops: angles and relative changes, which have no units.

With r the residuals, J their Jacobian and :math:`\epsilon` the precision of the numbers,

* gradient: the cosine of the angle between r and the space that J spans is at most gtol. It bounds
  the error of every parameter as a share of its standard deviation (Bates and Watts 1981);
* function: an accepted step changed the cost by at most ftol of it, and was foreseen to, where the
  columns of J are nearly perpendicular to r;
* step: an undamped step of at most xtol of the parameters' size, in the scale D of the method;
* zero: the residuals are those of rounding, or the cost has fallen by :math:`\epsilon^{-2}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from thalweg.errors import NON_NEGATIVE
from thalweg.minimization.result import Status
from thalweg.optim import StepInfo


__all__ = ["AngleTolerances", "Angles"]

Stop = tuple[Status, str]
_UNITS = 5.0  # of rounding that residuals of zero may consist of


@final
@dataclass(frozen=True)
class AngleTolerances:
    r"""How small is small enough; None: by the precision of the numbers.

    Args:
        gtol: Of the angle's cosine; default :math:`\epsilon^{1/2}`: parameters right to eight
            digits of a standard deviation in float64, to three in float32.
        ftol: Of the change of the cost, relative; default :math:`4 \epsilon`.
        xtol: Of the step, relative; default :math:`\epsilon^{3/4}`.

    Raises:
        ValueError: If one is negative.

    Example:
        >>> AngleTolerances(xtol=1e-3).of(torch.float32).xtol
        0.001
    """

    gtol: float | None = None
    ftol: float | None = None
    xtol: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                NON_NEGATIVE.check("least_squares", name, value)

    def of(self, dtype: torch.dtype) -> AngleTolerances:
        """With every default filled in."""
        eps = torch.finfo(dtype).eps
        defaults = {"gtol": eps**0.5, "ftol": 4 * eps, "xtol": eps**0.75}
        return AngleTolerances(
            **{k: defaults[k] if v is None else v for k, v in vars(self).items()}
        )


@final
class Angles:
    """The tests, and what they have seen.

    Args:
        tolerances: Complete.
        dtype: Of the numbers.

    Example:
        >>> tests = Angles(AngleTolerances().of(torch.float64), torch.float64)
        >>> tests.standing(1.0, offset=1e-9, cosine=1e-10, rounding=0.0)[1]
        'angle 1e-09 <= gtol 1.49e-08'
    """

    def __init__(self, tolerances: AngleTolerances, dtype: torch.dtype) -> None:
        self._gtol, self._ftol, self._xtol = tolerances.gtol, tolerances.ftol, tolerances.xtol
        self._eps = torch.finfo(dtype).eps
        self._largest = 0.0
        self._pending: Stop | None = None

    def standing(
        self, cost: float, *, offset: float, cosine: float, rounding: float
    ) -> Stop | None:
        """What the tests say of the point where the method stands, and of the step before.

        Args:
            cost: The cost there.
            offset: The cosine of the angle to the space that J spans.
            cosine: Of the angle to the nearest column of J.
            rounding: How far the cost may be off.
        """
        assert self._gtol is not None
        self._largest = max(self._largest, cost)
        if cost == 0.0:
            return Status.GRADIENT, "all residuals are zero"
        if offset <= self._gtol:
            return Status.GRADIENT, f"angle {offset:.3g} <= gtol {self._gtol:.3g}"
        if 2 * cost <= rounding or cost <= self._eps**2 * self._largest:
            return Status.FUNCTION, f"a cost of {cost:.3g} is zero in this precision"
        pending, self._pending = self._pending, None
        if pending is not None and pending[0] is Status.FUNCTION and cosine > self._eps ** (1 / 3):
            return None
        return pending

    def moved(self, before: float, after: float, info: StepInfo) -> None:
        """Note an accepted step; its tests are answered where the method then stands."""
        assert self._ftol is not None
        assert self._xtol is not None
        self._pending = None
        details = info.details
        scale = max(after, self._eps**2 * self._largest)
        change = max(abs(before - after), details["predicted"]) / scale if scale else 0.0
        if change <= self._ftol:
            self._pending = (
                Status.FUNCTION,
                f"relative change {change:.3g} <= ftol {self._ftol:.3g}",
            )
        size, length = details["size"], details["length"]
        full = details.get("damping", 0.0) == 0.0 and details.get("alpha", 1.0) == 1.0
        if full and size > 0 and length <= self._xtol * size:
            share = length / size
            self._pending = Status.STEP, f"relative step {share:.3g} <= xtol {self._xtol:.3g}"

    def stuck(self, cost: float, info: StepInfo) -> Stop:
        """What is to be said where no step was accepted."""
        offset, cosine = info.details["offset"], info.details["cosine"]
        words = f"angle {offset:.3g}, to the nearest column {cosine:.3g}"
        if info.outcome == "stationary":
            return Status.GRADIENT, "the gradient is zero"
        if cost <= _UNITS * info.details["rounding"]:
            return Status.FUNCTION, f"a cost of {cost:.3g} is zero in this precision"
        failed = info.outcome == "failed" and not self.nearly(offset, cosine)
        return (Status.SEARCH_FAILED if failed else Status.PRECISION), words

    def nearly(self, offset: float, cosine: float) -> bool:
        """Whether the gradient is as small as rounding may leave it."""
        return offset <= self._eps ** (1 / 3) or cosine <= self._eps**0.4
