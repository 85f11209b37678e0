"""A path on a contour figure, in its optimizer's style; what leaves the box is marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from thalweg.report.style import series, tone


__all__ = ["draw_track", "finite_part", "track_width"]

Points = Sequence[Sequence[float | None]] | np.ndarray


def track_width(k: int, count: int) -> float:
    """The width of the k-th of so many paths.

    They get thinner and thinner, so that of two equal paths the first still shows.
    """
    return 2.8 - 1.4 * k / (count - 1) if count > 1 else 1.6


def draw_track(ax: Axes, label: str, points: Points, box: np.ndarray, width: float) -> None:
    """One path: a halo, the line in the optimizer's style, and its end or the place it left at.

    Args:
        ax: the axes.
        label: the optimizer, which decides the style and names the line.
        points: [[x, y], ...], the start first; the path ends at its first point that is not finite.
        box: [2, 2] the limits of x and of y.
        width: of the line, in points.
    """
    look = series(label)
    track = finite_part(points)
    if len(track) == 0:
        return
    inside = np.all((track >= box[:, 0]) & (track <= box[:, 1]), axis=1)
    # A far point would overflow the renderer; within a few boxes the direction stays the same.
    far = 50 * np.ptp(box, axis=1)
    drawn = np.clip(track, box[:, 0] - far, box[:, 1] + far)
    dots = look.marker if len(track) <= 40 else "none"
    # The halo lies below every path, so that it parts them from the ground and hides none.
    ax.plot(*drawn.T, color=tone("paper"), linewidth=width + 1.8, alpha=0.7, zorder=3.5)
    ax.plot(
        *drawn.T,
        color=look.colour,
        linestyle=look.dash,
        marker=dots,
        markersize=3.5,
        linewidth=width,
        zorder=4,
        label=label,
    )
    if inside[-1]:
        ax.plot(
            *track[-1],
            look.marker,
            color=look.colour,
            markeredgecolor=tone("paper"),
            markersize=7,
            zorder=5,
        )
    elif inside.any():
        last = int(np.flatnonzero(inside)[-1])
        leaving = _exit(track[last], drawn[last + 1], box)
        ax.plot(
            *leaving,
            "X",
            color=look.colour,
            markeredgecolor=tone("paper"),
            markersize=9,
            zorder=5,
            clip_on=False,
        )


def finite_part(points: Points) -> np.ndarray:
    """[k, 2] the points up to the first that is not finite."""
    track = np.array([[np.nan if v is None else v for v in point] for point in points], float)
    track = track.reshape(-1, 2)
    bad = np.flatnonzero(~np.isfinite(track).all(axis=1))
    return track[: bad[0]] if bad.size else track


def _exit(inner: np.ndarray, outer: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Where the segment from a point inside the box to one outside crosses its edge."""
    step = outer - inner
    edge = np.where(step > 0, box[:, 1], box[:, 0])
    share = np.divide(edge - inner, step, out=np.full(2, np.inf), where=step != 0)
    return inner + step * min(1.0, float(share.min()))
