"""Contours of a two-dimensional function with optimizer paths on it.

Levels are spaced evenly in the logarithm of the height above the lowest point, so that a flat
valley shows as many lines as its steep walls. Around a saddle without a minimum they are spaced so
on both sides of the saddle's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.report import canvas
from thalweg.report.heights import log_levels
from thalweg.report.style import RAMP, styled, tone
from thalweg.report.tracks import draw_track, track_width


__all__ = ["contour", "levels"]


@styled
def contour(
    surface: Mapping[str, Any],
    paths: Mapping[str, Sequence[Sequence[float | None]]],
    *,
    ax: Axes | None = None,
    title: str = "",
    line: str = "",
    legend: bool = True,
) -> Figure:
    """Draw a surface, its marked points and paths by label.

    Args:
        surface: `x` [m], `y` [n], `z` [n, m] (a row has one y), and, each optional, `minima`
            ([[x, y, f], ...]), `saddles` ([[x, y], ...]) and `start` [x, y].
        paths: points [[x, y], ...] by label, the start first. A path ends at its first point that
            is not finite; what lies outside the box is not drawn, and a path that ends outside has
            a cross where it left.
        ax: axes to draw on; default: a new figure.
        title: the title.
        line: the muted line under the title.
        legend: whether to name the paths and the marked points.

    Example:
        >>> x = [-1.0, 0.0, 1.0]
        >>> bowl = {"x": x, "y": x, "z": [[a * a + b * b for a in x] for b in x]}
        >>> contour(bowl, {"sgd": [[1.0, 1.0], [0.5, 0.5]]}, title="Bowl").axes[0].get_title("left")
        'Bowl'
    """
    figure, ax = canvas.axes(ax, (6.2, 6.2))
    x, y = np.asarray(surface["x"], float), np.asarray(surface["y"], float)
    z = np.array([[np.nan if v is None else v for v in row] for row in surface["z"]], float)
    heights = levels(z, surface)
    shades = [tone(name) for name in RAMP]
    ax.contourf(x, y, np.ma.masked_invalid(z), heights, colors=shades, extend="neither")
    ax.contour(
        x,
        y,
        np.ma.masked_invalid(z),
        heights[1:-1],
        colors=tone("rule"),
        linewidths=0.6,
        linestyles="solid",
    )
    box = np.array([[x.min(), x.max()], [y.min(), y.max()]])
    _mark(ax, surface)
    for k, (label, points) in enumerate(paths.items()):
        draw_track(ax, label, points, box, track_width(k, len(paths)))
    ax.set_xlim(*box[0])
    ax.set_ylim(*box[1])
    if 0.5 <= np.ptp(box[0]) / np.ptp(box[1]) <= 2:
        ax.set_aspect("equal")
    ax.grid(visible=False)
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    canvas.caption(ax, title, line)
    if legend:
        canvas.legend(ax)
    return figure


def levels(z: np.ndarray, surface: Mapping[str, Any]) -> np.ndarray:
    """The heights of the contours, increasing, covering all of `z`.

    Example:
        >>> heights = levels(np.array([[0.0, 1.0], [10.0, 100.0]]), {"minima": [[0, 0, 0.0]]})
        >>> len(heights), heights[[0, -1]].tolist()
        (13, [0.0, 100.0])
    """
    finite = z[np.isfinite(z)]
    low, high = float(finite.min()), float(finite.max())
    minima, saddles = surface.get("minima") or [], surface.get("saddles") or []
    count = len(RAMP)
    if saddles and not minima:
        row, column = (
            _nearest(surface[k], v) for k, v in zip("yx", saddles[0][1::-1], strict=True)
        )
        middle = float(np.nan_to_num(z[row, column], nan=(low + high) / 2))
        half = (max(high - middle, middle - low) or 1.0) * np.geomspace(1e-2, 1.0, count // 2)
        return middle + np.concatenate([-half[::-1], [0.0], half])
    base = min([low, *(minimum[2] for minimum in minima)])
    return log_levels(finite, base, high, count)


def _nearest(values: Sequence[float], value: float) -> int:
    return int(np.argmin(np.abs(np.asarray(values, float) - value)))


def _mark(ax: Axes, surface: Mapping[str, Any]) -> None:
    ink = tone("ink")
    for points, marker, size, label in (
        (surface.get("minima") or [], "*", 17, "minimum"),
        (surface.get("saddles") or [], "x", 7, "saddle"),
        ([surface["start"]] if surface.get("start") else [], "o", 7, "start"),
    ):
        if points:
            across, up = zip(*(point[:2] for point in points), strict=True)
            ax.plot(
                across,
                up,
                marker,
                color=ink,
                markersize=size,
                markerfacecolor=tone("paper"),
                markeredgewidth=1.2,
                label=label,
                zorder=3 if marker == "*" else 6,
            )
