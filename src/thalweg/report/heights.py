"""Heights of a surface: levels, the class above them, and what lies under a path.

A landscape spans decades: its levels are spaced evenly in the logarithm of the height above the
lowest point, up to a ceiling. What is higher is one class of its own, "> ceiling", so that a few
huge values at the corners do not flatten the valley.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from thalweg.errors import bad_argument, one_of
from thalweg.landscape import PlanePath, Surface
from thalweg.report.style import RAMP


__all__ = ["Heights", "heights_in_space", "heights_of", "log_levels", "picture_loss", "values_of"]

_SCALES = one_of("log", "linear")
_SPAN = 20.0  # a linear axis shows so many times the lowest value
_OVER = 10.0  # a ceiling this many times above the 90% point leaves under 10% of the area over it


@final
@dataclass(frozen=True, eq=False)
class Heights:
    """How the heights of a surface are told apart.

    Args:
        levels: Increasing bounds of the classes; the last is the ceiling.
        scale: "log" (of the height above the first level) or "linear".
        over: Whether some finite value is above the ceiling.

    Example:
        >>> Heights(np.array([0.0, 1.0, 2.0]), "linear", over=True).ceiling
        2.0
    """

    levels: np.ndarray
    scale: str
    over: bool

    @property
    def base(self) -> float:
        """The lowest level: the lowest value of the surface."""
        return float(self.levels[0])

    @property
    def ceiling(self) -> float:
        """The highest level."""
        return float(self.levels[-1])

    def norm(self, values: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """The values on [0, 1] from base to ceiling, by the scale; what is outside is clipped."""
        above = np.maximum(np.asarray(values, float) - self.base, 0.0)
        if clip:
            above = np.minimum(above, self.ceiling - self.base)
        if self.scale == "linear":
            return above / (self.ceiling - self.base)
        first, reach = self.levels[1] - self.base, self.ceiling - self.base
        # log1p joins the bottom, where a logarithm has no value, to the decades above it.
        return np.log1p(above / first) / np.log1p(reach / first)


def heights_of(
    surface: Surface,
    metric: str | None = None,
    *,
    scale: str | None = None,
    ceiling: float | None = None,
) -> Heights:
    """The classes of one metric of a surface.

    Args:
        surface: The surface.
        metric: Which; default: the first, the loss.
        scale: "log" or "linear"; default: log for the first metric, linear for others.
        ceiling: Where the class ">" begins. Default: the highest value, but not more than ten times
            as high above the lowest as 90% of the surface is; never under a path.

    Raises:
        ValueError: If there is no such metric or scale, no finite value, or the ceiling is not
            above the lowest value.
    """
    z = values_of(surface, metric)
    scale = scale or ("log" if metric in {None, next(iter(surface.metrics))} else "linear")
    _SCALES.check("landscape figure", "scale", scale)
    finite = z[np.isfinite(z)]
    if not finite.size:
        raise ValueError("landscape figure: no point of the surface has a finite value.")
    low, high = float(finite.min()), float(finite.max())
    top = _ceiling(finite, _under_paths(surface, z)) if ceiling is None else float(ceiling)
    if ceiling is not None and not (np.isfinite(top) and top > low):
        allowed = f"above the lowest value, {low:g}"
        raise bad_argument("landscape figure", "ceiling", ceiling, allowed)
    if scale == "log":
        levels = log_levels(finite[finite <= top], low, top, len(RAMP))
    else:
        levels = np.linspace(low, top if top > low else low + 1.0, len(RAMP) + 1)
    return Heights(levels, scale, bool(high > levels[-1]))


def heights_in_space(
    surface: Surface,
    metric: str | None = None,
    *,
    scale: str | None = None,
    ceiling: float | None = None,
) -> Heights:
    """As :func:`heights_of`, with a vertical axis that is linear where that shows everything.

    The logarithm of the height above the lowest point makes a funnel of every bowl. So it is the
    default only where the ceiling is more than twenty times as high as the lowest point.
    """
    heights = heights_of(surface, metric, scale=scale, ceiling=ceiling)
    if scale is None and 0 < heights.ceiling <= _SPAN * heights.base:
        return heights_of(surface, metric, scale="linear", ceiling=heights.ceiling)
    return heights


def log_levels(values: np.ndarray, base: float, top: float, count: int) -> np.ndarray:
    """``count + 1`` levels from base to top, even in the logarithm of the height above base.

    The first step up is at the lowest percentile of the values, within a tenth and a thousandth of
    the whole reach.

    Example:
        >>> log_levels(np.array([0.0, 1.0, 10.0, 100.0]), 0.0, 100.0, 2).round(3).tolist()
        [0.0, 1.18, 100.0]
    """
    reach = top - base or 1.0
    above = values[values > base + 1e-12 * reach] - base
    first = max(float(np.percentile(above, 1)) if above.size else reach, reach * 1e-3)
    first = min(first, reach / 10)
    return base + np.concatenate([[0.0], np.geomspace(first, reach, count)])


def values_of(surface: Surface, metric: str | None = None) -> np.ndarray:
    """[ny, nx] the values of a metric, NaN where a point was not computed or is not finite.

    Raises:
        ValueError: If there is no such metric.
    """
    name = next(iter(surface.metrics)) if metric is None else metric
    if name not in surface.metrics:
        raise bad_argument(
            "landscape figure", "metric", name, f"one of {', '.join(surface.metrics)}"
        )
    z = np.asarray(surface.metrics[name], float)
    return np.where(np.isfinite(z) & surface.computed, z, np.nan)


def picture_loss(surface: Surface, path: PlanePath, metric: str | None = None) -> np.ndarray:
    """[n] the surface's value under each point of a path, bilinear between grid points.

    It is what the picture shows there, while ``path.loss`` is true. NaN outside of the grid and
    where a corner of the cell has no value.
    """
    return bilinear(surface.x, surface.y, values_of(surface, metric), path.xy)


def bilinear(x: np.ndarray, y: np.ndarray, z: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """[n] values at points between the nodes of a grid; NaN outside.

    Example:
        >>> ends = np.array([0.0, 2.0])
        >>> bilinear(ends, ends, np.array([[0.0, 2.0], [4.0, 6.0]]), np.array([[1.0, 1.0]])).item()
        3.0
    """
    xy = np.asarray(xy, float).reshape(-1, 2)
    cells, shares = [], []
    for axis, points in ((x, xy[:, 0]), (y, xy[:, 1])):
        k = np.clip(np.searchsorted(axis, points, side="right") - 1, 0, len(axis) - 2)
        cells.append(k)
        shares.append((points - axis[k]) / (axis[k + 1] - axis[k]))
    (j, i), (s, t) = cells, shares
    value = np.zeros(len(xy))
    for di, dj, weight in (
        (0, 0, (1 - t) * (1 - s)),
        (0, 1, (1 - t) * s),
        (1, 0, t * (1 - s)),
        (1, 1, t * s),
    ):
        # A corner without weight has no say, so that a hole does not reach past its own cells.
        value += np.where(weight == 0, 0.0, weight * z[i + di, j + dj])
    inside = (xy[:, 0] >= x[0]) & (xy[:, 0] <= x[-1]) & (xy[:, 1] >= y[0]) & (xy[:, 1] <= y[-1])
    return np.where(inside, value, np.nan)


def _under_paths(surface: Surface, z: np.ndarray) -> np.ndarray:
    if not surface.paths:
        return np.zeros(0)
    values = [bilinear(surface.x, surface.y, z, path.xy) for path in surface.paths]
    together = np.concatenate(values)
    return together[np.isfinite(together)]


def _ceiling(finite: np.ndarray, under: np.ndarray) -> float:
    low, high = float(finite.min()), float(finite.max())
    usual = low + _OVER * (float(np.percentile(finite, 90)) - low)
    if usual <= low:  # nine tenths of the surface are flat
        return high
    return min(high, max([usual, *under]))
