"""A surface in space, with the paths on it; what is hidden of a path is drawn as hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
from contourpy import contour_generator
from matplotlib.artist import Artist
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from thalweg.errors import one_of
from thalweg.landscape import PlanePath, Surface
from thalweg.report import canvas
from thalweg.report.heights import Heights, heights_in_space, picture_loss, values_of
from thalweg.report.landscapes import words
from thalweg.report.landscapes.sight import AZIMUTHS, Block, runs
from thalweg.report.style import RELIEF, series, styled, tone
from thalweg.study.statistics import number


__all__ = ["relief"]

_HEIGHTS = one_of("picture", "true")
_LIGHT = np.array([-0.45, -0.35, 0.82])
_CEILING = 1.0
_LINES = "#0c2233"  # level lines, dark on the relief in both themes


@styled
def relief(
    surface: Surface,
    metric: str | None = None,
    *,
    ax: Any = None,
    scale: str | None = None,
    ceiling: float | None = None,
    path_height: str = "picture",
    elev: float = 36.0,
    azim: float | None = None,
    title: str | None = None,
    line: str | None = None,
) -> Figure:
    """Draw a surface in space, with its paths.

    Args:
        surface: the surface.
        metric: which of its metrics; default: the first, the loss.
        ax: 3-D axes to draw on (``projection="3d"``); default: a new figure.
        scale: "log" or "linear", of the vertical axis too; default: linear where the ceiling is at
            most twenty times the lowest value.
        ceiling: where the surface is cut off; default: as :func:`plane`.
        path_height: "picture": paths lie on the surface; "true": they are at their true loss, with
            plumb lines to the surface.
        elev: degrees of the eye above the horizon.
        azim: degrees of the eye around the vertical; default: of twelve the one that hides least of
            the paths.
        title: default: the metric's name.
        line: the muted line under the title; default: the directions and the samples.

    Raises:
        ValueError: if there is no such metric, scale or height, or nothing is finite.
    """
    _HEIGHTS.check("relief", "path_height", path_height)
    heights = heights_in_space(surface, metric, scale=scale, ceiling=ceiling)
    figure, ax = _axes(ax)
    z = values_of(surface, metric)
    block = Block(surface.x, surface.y, heights.norm(z), _sides(surface))
    lines = [_line(surface, path, metric, heights, path_height) for path in surface.paths]
    azim = block.outlook(lines, elev, AZIMUTHS) if azim is None else azim
    _set_view(ax, block, elev, azim)
    classes = _draw_surface(ax, surface, block, z, heights)
    _draw_levels(ax, block, heights, elev, azim)
    handles = _draw_paths(ax, surface, lines, block) + classes
    if path_height == "true":
        _draw_plumb_lines(ax, surface, lines, metric, heights)
    _label(ax, surface, metric, heights)
    _caption(figure, ax, surface, metric, title, line)
    if handles:
        names = [str(handle.get_label()) for handle in handles]
        if figure.get_layout_engine() is not None and len(figure.axes) == 1:
            columns = max(1, min(len(names), 80 // (max(map(len, names)) + 7)))
            figure.legend(handles, names, loc="outside lower left", ncols=columns)
        else:
            ax.legend(handles, names, loc="upper left")
    return figure


def _axes(ax: Any) -> tuple[Figure, Any]:
    if ax is not None:
        ax.computed_zorder = False
        return canvas.root(ax), ax
    figure = Figure(figsize=(7.2, 6.3), layout="constrained")
    return figure, figure.add_subplot(projection="3d", computed_zorder=False)


def _sides(surface: Surface) -> tuple[float, float, float]:
    """The box: true proportions on the ground unless one side gets under half of the other."""
    x, y = np.ptp(surface.x), np.ptp(surface.y)
    x, y = x / max(x, y), y / max(x, y)
    return max(float(x), 0.5), max(float(y), 0.5), 0.55


def _line(
    surface: Surface, path: PlanePath, metric: str | None, heights: Heights, path_height: str
) -> np.ndarray:
    """[n, 3] a path in the units of the axes; NaN where it has no height."""
    shown = picture_loss(surface, path, metric)
    chosen = np.asarray(path.loss, float) if path_height == "true" else shown
    level = heights.norm(chosen)
    level[~np.isfinite(chosen) | ~np.isfinite(shown)] = np.nan
    return np.column_stack([path.xy, level])


def _set_view(ax: Any, block: Block, elev: float, azim: float) -> None:
    ax.set_proj_type("ortho")
    ax.view_init(elev=elev, azim=azim)
    ax.set_box_aspect(block.sides, zoom=0.93)
    ax.set_xlim(block.x[0], block.x[-1])
    ax.set_ylim(block.y[0], block.y[-1])
    ax.set_zlim(0, _CEILING)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_pane_color(to_rgb(tone("paper")))
        axis.line.set_color(tone("rule"))
        axis._axinfo["grid"].update(color=tone("grid"), linewidth=0.8)


def _draw_surface(
    ax: Any, surface: Surface, block: Block, z: np.ndarray, heights: Heights
) -> list[Artist]:
    level = heights.norm(z, clip=False)
    x, y = np.meshgrid(block.x, block.y)
    corners = np.stack([x, y, level], axis=-1)
    quads = np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]], 2)
    whole = np.isfinite(quads).all(axis=(2, 3))
    ground = LinearSegmentedColormap.from_list("relief", RELIEF)
    beyond = to_rgb(tone("beyond"))
    polygons, colours = [], []
    clipped = np.concatenate([quads[..., :2], np.clip(quads[..., 2:], 0, _CEILING)], axis=-1)
    for quad, shade in zip(quads[whole], _shade(clipped, block)[whole], strict=True):
        for part, high in _cut(quad):
            polygons.append(part)
            colour = beyond if high else shade * np.array(ground(part[:, 2].mean())[:3])
            colours.append(np.clip(colour, 0, 1))
    ax.add_collection3d(
        Poly3DCollection(polygons, facecolors=colours, edgecolors=colours, linewidths=0.3, zorder=1)
    )
    return _classes(surface, block, heights)


def _cut(quad: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """A face under the ceiling, one on it, or the two parts of one that meets it."""
    high = quad[:, 2] > _CEILING
    if not high.any():
        return [(quad, False)]
    if high.all():
        return [(np.column_stack([quad[:, :2], np.full(len(quad), _CEILING)]), True)]
    below, above = [], []
    for k in range(len(quad)):
        here, there = quad[k], quad[(k + 1) % len(quad)]
        on = np.array([here[0], here[1], min(here[2], _CEILING)])
        (above if high[k] else below).append(on)
        if high[k] != high[(k + 1) % len(quad)]:
            share = (_CEILING - here[2]) / (there[2] - here[2])
            edge = here + share * (there - here)
            below.append(edge)
            above.append(edge)
    return [(np.array(below), False), (np.array(above), True)]


def _classes(surface: Surface, block: Block, heights: Heights) -> list[Artist]:
    """Handles for what has no height of its own."""
    handles: list[Artist] = []
    if heights.over:
        name = f"> {number(heights.ceiling, 3)}, cut off"
        handles.append(Patch(facecolor=tone("beyond"), edgecolor=tone("rule"), label=name))
    broken = int((np.isnan(block.z) & surface.computed).sum())
    missing = int((~surface.computed).sum())
    for count, name in ((broken, "not finite"), (missing, "not computed")):
        if count:
            label = f"hole: {name} ({count:,})"
            handles.append(Patch(facecolor=tone("paper"), edgecolor=tone("rule"), label=label))
    return handles


def _shade(quads: np.ndarray, block: Block) -> np.ndarray:
    """[m, n] the brightness of each face under a light from the upper left."""
    spans = np.array([np.ptp(block.x), np.ptp(block.y), 1.0])
    drawn = quads / spans * np.array(block.sides)
    across, along = drawn[:, :, 2] - drawn[:, :, 0], drawn[:, :, 3] - drawn[:, :, 1]
    normal = np.cross(across, along)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    normal *= np.sign(normal[..., 2:] + 1e-12)
    return 0.62 + 0.42 * np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)


def _draw_levels(ax: Any, block: Block, heights: Heights, elev: float, azim: float) -> None:
    """Level lines on the surface, where they can be seen."""
    generator = contour_generator(block.x, block.y, np.ma.masked_invalid(block.z))
    pieces = []
    for level in heights.norm(heights.levels)[1:-1]:
        for ring in generator.lines(float(level)):
            points = np.column_stack([np.asarray(ring), np.full(len(ring), level)])
            hidden = block.hidden(points, elev, azim)
            pieces += [points[part] for part, behind in runs(hidden) if not behind]
    lines = Line3DCollection(pieces, colors=_LINES, linewidths=0.5, alpha=0.3, zorder=2)
    ax.add_collection3d(lines)


def _draw_paths(ax: Any, surface: Surface, lines: list[np.ndarray], block: Block) -> list[Artist]:
    """The paths; returns their legend handles."""
    handles: list[Artist] = []
    some_hidden = False
    for path, track in zip(surface.paths, lines, strict=True):
        hidden = block.hidden(track, ax.elev, ax.azim)
        some_hidden |= bool(hidden.any())
        handles.append(_draw_path(ax, path, track, hidden))
    grey: dict[str, Any] = {"color": tone("muted"), "markersize": 6.5}
    if surface.paths:
        handles.append(
            Line2D([], [], ls="none", marker="o", mfc=tone("paper"), label="start", **grey)
        )
        handles.append(Line2D([], [], ls="none", marker="o", label="end", **grey))
    if some_hidden:
        handles.append(Line2D([], [], lw=1.0, ls=(0, (1, 2)), label="behind", **grey))
    return handles


def _draw_path(ax: Any, path: PlanePath, track: np.ndarray, hidden: np.ndarray) -> Artist:
    look = series(path.name)
    for part, behind in runs(hidden):
        piece = track[part].T
        if behind:
            ax.plot(*piece, color=look.colour, lw=1.0, ls=(0, (1, 2)), alpha=0.65, zorder=3)
        else:
            ax.plot(*piece, color="#ffffff", lw=4.4, alpha=0.75, zorder=4, solid_capstyle="round")
            ax.plot(*piece, color=look.colour, lw=2.2, zorder=5, solid_capstyle="round")
    shown = np.flatnonzero(np.isfinite(track).all(axis=1))
    if shown.size:
        first, last = shown[0], shown[-1]
        common: dict[str, Any] = {"color": look.colour, "linestyle": "none", "zorder": 6}
        faint = {True: 0.5, False: 1.0}
        ax.plot(
            *track[first : first + 1].T,
            marker="o",
            markersize=6.5,
            markerfacecolor="#ffffff",
            alpha=faint[bool(hidden[first])],
            **common,
        )
        ax.plot(
            *track[last : last + 1].T,
            marker=look.marker,
            markersize=8,
            markeredgecolor="#ffffff",
            alpha=faint[bool(hidden[last])],
            **common,
        )
    return Line2D([], [], color=look.colour, lw=2.2, marker=look.marker, label=path.name)


def _draw_plumb_lines(
    ax: Any, surface: Surface, lines: list[np.ndarray], metric: str | None, heights: Heights
) -> None:
    """From a path at its true loss to the surface under it."""
    for path, track in zip(surface.paths, lines, strict=True):
        shown = heights.norm(picture_loss(surface, path, metric))
        every = max(1, len(path) // 24)
        pieces = [
            [(*track[k, :2], shown[k]), tuple(track[k])]
            for k in range(0, len(path), every)
            if np.isfinite(track[k]).all()
        ]
        colour = series(path.name).colour
        ax.add_collection3d(
            Line3DCollection(pieces, colors=colour, linewidths=0.7, alpha=0.7, zorder=3.5)
        )


def _label(ax: Any, surface: Surface, metric: str | None, heights: Heights) -> None:
    ax.set_xlabel(surface.labels[0], labelpad=4)
    ax.set_ylabel(surface.labels[1], labelpad=4)
    ax.set_zlabel(words.metric_name(surface, metric), labelpad=4)
    shown = heights.levels[0::3]
    ax.set_zticks(heights.norm(shown), words.tick_labels(shown))
    ax.tick_params(pad=0, labelsize=8)


def _caption(
    figure: Figure,
    ax: Any,
    surface: Surface,
    metric: str | None,
    title: str | None,
    line: str | None,
) -> None:
    name = words.title(surface, metric) if title is None else title
    under = words.line(surface) if line is None else line
    if figure.get_layout_engine() is not None and len(figure.axes) == 1:
        figure.suptitle(f"{name}\n", x=0.02, ha="left", fontsize=11, fontweight="bold")
        figure.text(0.02, 0.945, under, fontsize=8.5, color=tone("muted"), va="top")
    else:
        ax.set_title(name)
