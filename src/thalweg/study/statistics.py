r"""Means with intervals, paired differences over shared seeds, Holm's correction.

With a sample $x_1 \dots x_n$, mean $m$ and standard deviation $s$ (divisor $n - 1$), the interval
is $m \pm t_{0.975,\,n-1}\, s / \sqrt{n}$. Two optimizers that ran the same seeds (same initial
weights, same batches) are compared by the interval of their differences, which is narrower than
that of two independent samples.

References:
    Student (1908), The probable error of a mean, Biometrika 6.
    Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats takes a second to import

from thalweg.errors import bad_argument


__all__ = ["Interval", "column", "differences", "holm", "number", "paired_p"]


@final
@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95% Student-t interval.

    Args:
        mean: the sample mean $m$.
        half_width: half the width of the interval; None for a single value, 0 where seeds agree.
        deviation: the sample standard deviation $s$; None for a single value.
        n: the number of values.

    Example:
        >>> print(Interval.of([0.90, 0.92, 0.94]))
        0.920 ± 0.050
        >>> print(Interval.of([0.5]))
        0.5
    """

    mean: float
    half_width: float | None
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float], *, level: float = 0.95) -> Interval:
        """The interval of a non-empty sample of finite numbers.

        Raises:
            ValueError: if there is no value.
        """
        sample = np.asarray(list(values), dtype=float)
        n = sample.size
        if n == 0:
            raise bad_argument("Interval.of", "values", [], "at least one number")
        if n == 1:
            return cls(float(sample[0]), None, None, 1)
        if np.ptp(sample) == 0:  # summing equal numbers can round: keep the number itself
            return cls(float(sample[0]), 0.0, 0.0, n)
        deviation = float(sample.std(ddof=1))
        quantile = float(stdtrit(n - 1, 0.5 + level / 2))
        return cls(float(sample.mean()), quantile * deviation / math.sqrt(n), deviation, n)

    @property
    def low(self) -> float | None:
        """The lower end; None for a single value."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end; None for a single value."""
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def decimals(self) -> int | None:
        """Decimals that show the half-width to two digits; None where it has no such form."""
        if not self.half_width:
            return None
        decimals = 1 - math.floor(math.log10(self.half_width))
        large = max(abs(self.mean), self.half_width) >= 1e5
        return None if decimals > 6 or large else max(decimals, 0)

    def text(self, decimals: int | None = None) -> str:
        """`mean ± half_width` with this many decimals, by default as many as `decimals` says."""
        if not self.half_width:
            return number(self.mean)
        if self.decimals is None:
            return f"{self.mean:.2e} ± {self.half_width:.1e}"
        shown = self.decimals if decimals is None else decimals
        return f"{self.mean:.{shown}f} ± {self.half_width:.{shown}f}"

    def __str__(self) -> str:
        return self.text()


def column(intervals: Sequence[Interval | None]) -> list[str]:
    """A column of intervals with the decimals that most of them need, an en dash for None.

    Example:
        >>> column([Interval.of([0.90, 0.92]), Interval.of([0.8, 0.9]), None])
        ['0.91 ± 0.13', '0.85 ± 0.64', '–']
    """
    needed = sorted(i.decimals for i in intervals if i is not None and i.decimals is not None)
    common = needed[len(needed) // 2] if needed else None

    def shown(interval: Interval) -> str:
        # Where one digit of the mean is left, or none, it has the decimals that it needs itself.
        vanishes = common is not None and 0 < abs(interval.mean) < 10.0 ** (1 - common)
        return interval.text(None if vanishes else common)

    return ["–" if i is None else shown(i) for i in intervals]


def number(value: float | None, digits: int = 4) -> str:
    """A number for reading: `digits` significant digits, an en dash for None, ∞ for infinity.

    Example:
        >>> number(1234.5678), number(0.00001234), number(None), number(float("inf"))
        ('1235', '1.234e-05', '–', '∞')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def differences(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """`a - b` on every seed that both have, in order of the seed.

    Example:
        >>> differences({1: 3.0, 2: 5.0, 3: 9.0}, {2: 4.0, 1: 1.0})
        [2.0, 1.0]
    """
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def paired_p(interval: Interval) -> float | None:
    """The two-sided p-value that a mean difference is zero (paired t); None without a spread.

    Example:
        >>> round(paired_p(Interval.of([0.1, 0.2, 0.3])), 4)
        0.0742
        >>> paired_p(Interval.of([0.1, 0.1]))
    """
    if not interval.deviation:
        return None
    t = interval.mean / (interval.deviation / math.sqrt(interval.n))
    return float(2 * stdtr(interval.n - 1, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the k-th smallest of m times (m - k + 1), made monotone.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, running = [0.0] * len(p_values), 0.0
    for k, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - k)))
        adjusted[index] = running
    return adjusted
