"""The median learning curve of one optimizer over its seeds, with quartiles.

Runs of one study are evaluated on the same grid, so curves are aggregated evaluation by
evaluation: the k-th point lies at the median cost (steps or seconds) of the k-th evaluation and at
the median value. A run that diverged counts as the worst possible value from there on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

__all__ = ["MedianCurve", "gap", "median_curve"]

# Stands for "worst possible" in quantiles, where an infinity would turn into nan.
_WORST = 1e300


@final
@dataclass(frozen=True)
class MedianCurve:
    """Medians and quartiles by evaluation.

    Args:
        x: [k] cost at each evaluation.
        low, middle, high: [k] 25%, 50% and 75% points; +-1e300 where runs had diverged.
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
        return values[np.abs(values) < _WORST / 10]


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
    curves = [run["curve"] for run in runs if _any_number(run["curve"].get(quantity))]
    if not curves:
        return None
    length = max(len(curve[against]) for curve in curves)
    worst = -_WORST if higher_is_better else _WORST
    values = np.full((len(curves), length), worst)
    costs = np.full((len(curves), length), np.nan)
    for row, curve in enumerate(curves):
        costs[row, : len(curve[against])] = curve[against]
        for k, value in enumerate(curve[quantity][:length]):
            if value is not None and math.isfinite(value):
                values[row, k] = value
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    return MedianCurve(np.nanmedian(costs, axis=0), low, middle, high, len(curves))


def gap(study: Mapping[str, Any], quantity: str) -> float:
    """The lowest known minimum of a test function, to be taken off `train_loss`; else 0."""
    surface = study["problem"].get("surface")
    if quantity != "train_loss" or not surface or not surface["minima"]:
        return 0.0
    return min(minimum[2] for minimum in surface["minima"])


def _any_number(values: Sequence[float | None] | None) -> bool:
    return any(value is not None and math.isfinite(value) for value in values or ())
