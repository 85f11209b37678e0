"""The median learning curve of one optimizer over its seeds, with quartiles.

Runs that are evaluated at the same steps are aggregated evaluation by evaluation: the k-th point
lies at the median cost (steps or seconds) of the k-th evaluation and at the median value. Runs
that are not (a budget in seconds) are interpolated to a common grid first. A run that diverged
counts as the worst possible value from there on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np


__all__ = ["FLOOR", "WORST", "MedianCurve", "gap", "median_curve"]

# What cannot be told from zero in double precision is drawn here on a log axis.
FLOOR = 1e-16

# Stands for "worst possible" in quantiles, where an infinity would turn into nan.
WORST = 1e100


@final
@dataclass(frozen=True)
class MedianCurve:
    """Medians and quartiles by evaluation.

    Args:
        x: [k] cost at each evaluation.
        low, middle, high: [k] 25%, 50% and 75% points; +-`WORST` where runs had diverged.
        n: the number of runs.
    """

    x: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray
    n: int

    @property
    def drawn(self) -> np.ndarray:
        """[m] every number that is a value, none that stands for a divergence."""
        values = np.concatenate([self.low, self.middle, self.high])
        return values[np.abs(values) < WORST / 10]


def median_curve(
    runs: Sequence[Mapping[str, Any]],
    quantity: str,
    against: str = "step",
    *,
    higher_is_better: bool = False,
) -> MedianCurve | None:
    """Aggregate `curve[quantity]` over runs; None if no run has a number there.

    Example:
        >>> runs = [{"curve": {"step": [0, 1], "train_loss": [1.0, y]}} for y in (0.1, 0.3, 0.2)]
        >>> median_curve(runs, "train_loss").middle.tolist()
        [1.0, 0.2]
    """
    used = [run for run in runs if _any_number(run["curve"].get(quantity))]
    if not used:
        return None
    worst = -WORST if higher_is_better else WORST
    longest: list[int] = max((run["curve"]["step"] for run in used), key=len)
    if all(run["curve"]["step"] == longest[: len(run["curve"]["step"])] for run in used):
        x = _by_evaluation(used, against, len(longest))
        rows = [_padded(run, quantity, worst, len(longest)) for run in used]
    else:
        x = np.linspace(0.0, max(run["curve"][against][-1] for run in used), 2 * len(longest) - 1)
        rows = [_resampled(run, quantity, against, worst, x) for run in used]
    low, middle, high = np.percentile(np.array(rows), [25, 50, 75], axis=0)
    return MedianCurve(x, low, middle, high, len(used))


def _by_evaluation(runs: Sequence[Mapping[str, Any]], against: str, length: int) -> np.ndarray:
    """[k] the median cost of each evaluation over the runs that got there."""
    columns = [
        [run["curve"][against][k] for run in runs if k < len(run["curve"][against])]
        for k in range(length)
    ]
    return np.array([np.median(column) for column in columns])


def _values(run: Mapping[str, Any], quantity: str, worst: float) -> list[float]:
    return [
        value if value is not None and math.isfinite(value) else worst
        for value in run["curve"][quantity]
    ]


def _after(run: Mapping[str, Any], last: float, worst: float) -> float:
    """What counts once a run is over: its last value, or the worst one if it diverged."""
    return last if run.get("status", "finished") == "finished" else worst


def _padded(run: Mapping[str, Any], quantity: str, worst: float, length: int) -> list[float]:
    values = _values(run, quantity, worst)
    return values + [_after(run, values[-1], worst)] * (length - len(values))


def _resampled(
    run: Mapping[str, Any], quantity: str, against: str, worst: float, x: np.ndarray
) -> np.ndarray:
    values = _values(run, quantity, worst)
    return np.interp(x, run["curve"][against], values, right=_after(run, values[-1], worst))


def gap(study: Mapping[str, Any], quantity: str) -> float:
    """The lowest known minimum of a test function, to be taken off `train_loss`; else 0."""
    surface = study["problem"].get("surface")
    if quantity != "train_loss" or not surface or not surface["minima"]:
        return 0.0
    return min(minimum[2] for minimum in surface["minima"])


def _any_number(values: Sequence[float | None] | None) -> bool:
    return any(value is not None and math.isfinite(value) for value in values or ())
