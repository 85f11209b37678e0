"""A number with its error and its cost, as plain data: what an inspection is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from thalweg.curvature.estimate import Estimate
from thalweg.curvature.noise import NoiseScale


__all__ = ["Quantity", "figures"]


@final
@dataclass(frozen=True)
class Quantity:
    """A measured number.

    Args:
        value: The number.
        error: How far off it may be: a standard error, or a bound where ``method`` gives one; None
            where no error is known.
        products: Products with the Hessian that were spent on it; 0 where it follows from others.
        method: How it was found.
        low: The lower end of a 95% interval, where there is one.
        high: The upper end.

    Example:
        >>> print(Quantity(12.3456, 0.02, 8, "lanczos"))
        12.35 ± 0.02
        >>> print(Quantity(0.5))
        0.5
    """

    value: float
    error: float | None = None
    products: int = 0
    method: str = ""
    low: float | None = None
    high: float | None = None

    @staticmethod
    def of(estimate: Estimate | NoiseScale) -> Quantity:
        """An estimate of one number, with its 95% interval."""
        ends = [float(end) for end in estimate.interval()]
        low, high = (end if math.isfinite(end) else None for end in ends)
        stderr = float(estimate.stderr)
        return Quantity(
            float(estimate.value),
            stderr if math.isfinite(stderr) else None,
            estimate.products,
            estimate.method,
            low,
            high,
        )

    def inverse(self, factor: float, method: str) -> Quantity:
        """``factor / value``, with the same relative error; of what follows at no cost."""
        value = factor / self.value
        error = None if self.error is None else abs(value * self.error / self.value)
        return Quantity(value, error, 0, method)

    def times(self, factor: float, method: str) -> Quantity:
        """``factor * value``, with the same relative error; of what follows at no cost."""
        error = None if self.error is None else abs(factor) * self.error
        return Quantity(factor * self.value, error, 0, method)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON takes: what is not finite is null."""
        return {name: _finite(value) for name, value in vars(self).items()}

    @staticmethod
    def from_dict(record: dict[str, Any] | None) -> Quantity | None:
        """From :meth:`to_dict`; a null value is not a number."""
        if record is None:
            return None
        content: dict[str, Any] = dict(record)
        if content["value"] is None:
            content["value"] = math.nan
        return Quantity(**content)

    def __str__(self) -> str:
        if not self.error or not math.isfinite(self.error):
            return figures(self.value, 4)
        if self.error < 5e-4 * abs(self.value):
            return f"{figures(self.value, 4)} ± {figures(self.error, 1)}"
        digits = -math.floor(math.log10(self.error))
        if -5 < digits < 5:
            pair = (round(self.value, digits), round(self.error, digits))
            return " ± ".join(f"{number:,.{max(0, digits)}f}" for number in pair)
        return f"{figures(self.value, 3)} ± {figures(self.error, 1)}"


def figures(value: float | None, digits: int = 3) -> str:
    """A number to so many figures, in full where it is not too long.

    Example:
        >>> figures(12345.6), figures(0.0123456), figures(1.5e-9), figures(None)
        ('12,346', '0.0123', '1.5e-09', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if 10**digits <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
