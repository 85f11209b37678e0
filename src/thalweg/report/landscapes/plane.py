"""A surface seen from above: contours with the paths on it, and what the picture leaves out.

Levels are even in the logarithm of the height above the lowest point. What is above the ceiling, is
not finite or was not computed has a class of its own, named in the legend. Under the contours of a
surface with paths lies a strip that shows how far each path is from the plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from thalweg.landscape import Surface
from thalweg.report import canvas
from thalweg.report.heights import Heights, heights_of, values_of
from thalweg.report.landscapes import strips, words
from thalweg.report.style import RAMP, series, styled, tone
from thalweg.report.tracks import draw_track, track_width
from thalweg.study.statistics import number


__all__ = ["HATCH", "draw_paths", "frame", "ground", "place_legend", "plane"]

HATCH = "////"


@styled
def plane(
    surface: Surface,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    scale: str | None = None,
    ceiling: float | None = None,
    equal: bool | None = None,
    strip: bool | None = None,
    title: str | None = None,
    line: str | None = None,
) -> Figure:
    """Draw a surface from above, with its paths.

    Args:
        surface: the surface.
        metric: which of its metrics; default: the first, the loss.
        ax: axes to draw on; default: a new figure.
        scale: "log" or "linear"; default: log for the first metric, linear for others.
        ceiling: where the class ">" begins; default: as high as the surface, but not more than ten
            times as far above its lowest point as nine tenths of it are, nor under a path.
        equal: one unit as long on both axes; default: where neither side gets twice the other.
        strip: whether there is a strip under the surface with the distance of each path from the
            plane, and one with its true loss against the picture's. Default: in a new figure, where
            there are paths; the first where some path leaves the plane.
        title: default: the metric's name.
        line: the muted line under the title; default: the directions and the samples.

    Raises:
        ValueError: if there is no such metric or scale, nothing is finite, or the ceiling is too
            low.
    """
    heights = heights_of(surface, metric, scale=scale, ceiling=ceiling)
    beneath = bool(surface.paths) and ax is None if strip is None else strip and ax is None
    names = ["residuals"] * (bool(strip) or strips.leave(surface))
    names += ["losses"] * (metric in {None, next(iter(surface.metrics))})
    equal = _fits(surface) if equal is None else equal
    figure, ax, lower = _layout(ax, names if beneath else [], _height(surface, equal=equal))
    handles = ground(ax, surface, metric, heights)
    handles = [*draw_paths(ax, surface), *handles]
    frame(ax, surface, equal)
    canvas.caption(
        ax,
        words.title(surface, metric) if title is None else title,
        words.line(surface) if line is None else line,
    )
    for name, under in lower.items():
        if name == "residuals":
            strips.residuals(surface, ax=under, legend=False)
        else:
            strips.losses(surface, ax=under)
    if lower:
        for under in list(lower.values())[:-1]:
            under.tick_params(labelbottom=False)
            under.set_xlabel("")
        figure.align_ylabels([ax, *lower.values()])
    place_legend(ax, handles, own=bool(lower))
    return figure


def ground(ax: Axes, surface: Surface, metric: str | None, heights: Heights) -> list[Artist]:
    """The filled contours with their colour bar; returns handles for the classes without a level.

    Args:
        ax: the axes.
        surface: the surface.
        metric: which of its metrics.
        heights: the classes.
    """
    z = values_of(surface, metric)
    extra = _holes(ax, surface, z)
    masked = np.ma.masked_invalid(z)
    colours = [tone(name) for name in RAMP] + [tone("beyond")]
    levels = heights.levels
    ax.contourf(surface.x, surface.y, masked, levels, colors=colours, extend="max", zorder=1)
    ax.contour(
        surface.x,
        surface.y,
        masked,
        levels[1:],
        colors=tone("rule"),
        linewidths=0.6,
        linestyles="solid",
        zorder=1.5,
    )
    if heights.over:
        name = f"> {number(heights.ceiling, 3)}"
        extra.insert(0, Patch(facecolor=tone("beyond"), edgecolor=tone("rule"), label=name))
    _colour_bar(ax, heights, words.metric_name(surface, metric))
    return extra


def draw_paths(ax: Axes, surface: Surface) -> list[Artist]:
    """The paths, their starts and ends; returns their legend handles."""
    box = np.array([surface.x[[0, -1]], surface.y[[0, -1]]])
    handles: list[Artist] = []
    for k, path in enumerate(surface.paths):
        before = len(ax.lines)
        draw_track(ax, path.name, path.xy, box, track_width(k, len(surface.paths)))
        drawn = [artist for artist in ax.lines[before:] if artist.get_label() == path.name]
        look = series(path.name)
        if len(path) and np.isfinite(path.xy[0]).all():
            ax.plot(
                *path.xy[0],
                "o",
                markersize=6.5,
                color=look.colour,
                markerfacecolor=tone("paper"),
                markeredgewidth=1.6,
                zorder=5.5,
            )
        handles += drawn
    if surface.paths:
        common: dict[str, Any] = {"linestyle": "none", "color": tone("muted"), "markersize": 6.5}
        start = Line2D([], [], marker="o", markerfacecolor=tone("paper"), label="start", **common)
        handles += [start, Line2D([], [], marker="o", label="end", **common)]
    return handles


def _layout(
    ax: Axes | None, beneath: list[str], height: float
) -> tuple[Figure, Axes, dict[str, Axes]]:
    """The axes of the surface, and those under it by name."""
    if ax is not None:
        return canvas.root(ax), ax, {}
    if not beneath:
        return *canvas.axes(None, (6.8, height + 0.2)), {}
    count = len(beneath)
    figure = Figure(figsize=(6.8, height + 1.35 * count), layout="constrained")
    grid = figure.add_gridspec(1 + count, 1, height_ratios=[height] + [1.35] * count)
    ax = figure.add_subplot(grid[0])
    lower: dict[str, Axes] = {}
    for k, name in enumerate(beneath):
        first = next(iter(lower.values()), None)
        lower[name] = figure.add_subplot(grid[1 + k], sharex=first)
    return figure, ax, lower


def _fits(surface: Surface) -> bool:
    """Whether a unit may be as long on both axes: neither side gets twice the other."""
    return bool(0.5 <= np.ptp(surface.x) / np.ptp(surface.y) <= 2)


def _height(surface: Surface, *, equal: bool) -> float:
    """Inches for the surface and its captions, so that equal units leave no empty band."""
    if not equal:
        return 5.6
    return float(np.clip(1.2 + 5.0 * np.ptp(surface.y) / np.ptp(surface.x), 3.0, 6.6))


def frame(ax: Axes, surface: Surface, equal: bool | None) -> None:
    """Limits, aspect and labels of a picture of a plane."""
    x, y = surface.x, surface.y
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if _fits(surface) if equal is None else equal:
        ax.set_aspect("equal")
    ax.grid(visible=False)
    ax.set_xlabel(surface.labels[0])
    ax.set_ylabel(surface.labels[1])


def _holes(ax: Axes, surface: Surface, z: np.ndarray) -> list[Artist]:
    """What lies under the contours and shows where they have a hole."""
    missing = ~surface.computed
    broken = np.isnan(z) & surface.computed
    handles: list[Artist] = []
    x, y = surface.x, surface.y
    hatched: dict[str, Any] = {"facecolor": tone("paper"), "edgecolor": tone("muted")}
    if broken.any():
        corner, width, height = (x[0], y[0]), x[-1] - x[0], y[-1] - y[0]
        ax.add_patch(Rectangle(corner, width, height, hatch=HATCH, lw=0, zorder=0.2, **hatched))
        count = int(broken.sum())
        handles.append(Patch(hatch=HATCH, label=f"not finite ({count:,})", **hatched))
    if missing.any():
        for i, j in np.argwhere(missing):
            left, right = _cell(x, j)
            low, high = _cell(y, i)
            ax.add_patch(
                Rectangle(
                    (left, low),
                    right - left,
                    high - low,
                    facecolor=tone("paper"),
                    lw=0,
                    zorder=0.4,
                )
            )
        name = f"not computed ({int(missing.sum()):,})"
        handles.append(Patch(facecolor=tone("paper"), edgecolor=tone("rule"), label=name))
    return handles


def _cell(axis: np.ndarray, k: int) -> tuple[float, float]:
    """From one neighbour of a grid point to the other: all that has no contours without it."""
    return float(axis[max(k - 1, 0)]), float(axis[min(k + 1, len(axis) - 1)])


def _colour_bar(ax: Axes, heights: Heights, name: str) -> None:
    figure = canvas.root(ax)
    colours = ListedColormap([tone(tint) for tint in RAMP])
    if heights.over:
        colours = colours.with_extremes(over=tone("beyond"))
    levels = heights.levels
    mappable = ScalarMappable(BoundaryNorm(levels, len(RAMP)), colours)
    bar = figure.colorbar(
        mappable,
        cax=ax.inset_axes((1.025, 0, 0.032, 1)),  # as high as the surface, whatever its aspect
        extend="max" if heights.over else "neither",
        extendfrac=0.06,
        spacing="uniform",
        label=name,
    )
    shown = [*range(0, len(levels), 2)]
    bar.set_ticks(levels[shown].tolist(), labels=words.tick_labels(levels[shown]))
    bar.ax.minorticks_off()
    bar.outline.set_edgecolor(tone("rule"))  # pyrefly: ignore
    bar.ax.tick_params(length=0)


def place_legend(ax: Axes, handles: list[Artist], *, own: bool = False) -> None:
    """A legend under a figure made here, inside axes that were given."""
    if not handles:
        return
    figure = canvas.root(ax)
    if own or (figure.get_layout_engine() is not None and len(figure.axes) == 1):
        labels = [str(handle.get_label()) for handle in handles]
        columns = max(1, min(len(labels), 80 // (max(map(len, labels)) + 7)))
        figure.legend(handles, labels, loc="outside lower left", ncols=columns)
    else:
        ax.legend(handles=handles, fontsize=8)
