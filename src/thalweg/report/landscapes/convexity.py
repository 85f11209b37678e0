"""The convexity map of Li et al.: how much of the curvature is downward, over a plane."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from thalweg.errors import bad_argument
from thalweg.landscape import Surface
from thalweg.report import canvas
from thalweg.report.heights import heights_of, values_of
from thalweg.report.landscapes.plane import HATCH, draw_paths, frame, place_legend
from thalweg.report.landscapes.words import line as how
from thalweg.report.style import RELIEF, styled, tone
from thalweg.study.statistics import number


__all__ = ["convexity"]

_BOUNDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@styled
def convexity(
    surface: Surface,
    *,
    ax: Axes | None = None,
    equal: bool | None = None,
    title: str = "Convexity map",
    line: str | None = None,
) -> Figure:
    r"""Draw :math:`|\lambda_{\min} / \lambda_{\max}|` of the full Hessian over a plane.

    Near 0 the loss is almost convex in every direction of parameter space; at 1 it curves down as
    much as up. Thin lines are levels of the loss, where there are five points or more each way.

    Args:
        surface: a surface with the metric ``convexity``, or ``lambda_min`` and ``lambda_max``.
        ax: axes to draw on; default: a new figure.
        equal: one unit as long on both axes; default: where neither side gets twice the other.
        title: the title.
        line: the muted line under the title; default: the directions and the samples.

    Raises:
        ValueError: if the surface has no such metric.

    References:
        Li, Xu, Taylor, Studer and Goldstein, Visualizing the loss landscape of neural nets, 2018.
    """
    ratio = _ratio(surface)
    figure, ax = canvas.axes(ax, (6.8, 5.8))
    relief = LinearSegmentedColormap.from_list("relief", RELIEF)
    shades = ListedColormap(relief(np.linspace(0, 1, len(_BOUNDS) - 1)))
    colours = shades.with_extremes(over=tone("beyond"))
    norm = BoundaryNorm(_BOUNDS, len(_BOUNDS) - 1)
    masked = np.ma.masked_invalid(ratio)
    if masked.mask.any():
        ax.patch.set(hatch=HATCH, edgecolor=tone("muted"))
    drawn = ax.pcolormesh(surface.x, surface.y, masked, cmap=colours, norm=norm, zorder=1)
    if min(len(surface.x), len(surface.y)) > 4:  # lines through fewer are of no loss
        levels = heights_of(surface).levels[1:]
        ax.contour(
            surface.x,
            surface.y,
            np.ma.masked_invalid(values_of(surface)),
            levels,
            colors="#ffffff",
            linewidths=0.6,
            alpha=0.55,
            zorder=1.5,
        )
    handles: list[Artist] = draw_paths(ax, surface)
    holes = int(np.isnan(ratio).sum())
    if holes:
        paper, muted = tone("paper"), tone("muted")
        label = f"not finite ({holes:,})"
        handles.append(Patch(facecolor=paper, edgecolor=muted, hatch=HATCH, label=label))
    frame(ax, surface, equal)
    over = bool((masked > 1).any())
    bar = figure.colorbar(
        drawn,
        cax=ax.inset_axes((1.025, 0, 0.032, 1)),
        extend="max" if over else "neither",
        extendfrac=0.06,
        spacing="uniform",
        label="|λ_min / λ_max|",
    )
    bar.set_ticks(_BOUNDS, labels=[number(value) for value in _BOUNDS])
    bar.outline.set_edgecolor(tone("rule"))  # pyrefly: ignore
    bar.ax.tick_params(length=0)
    convex = float(np.mean(masked.compressed() <= 0.05)) if masked.count() else 0.0
    note = f"at most 0.05 on {convex:.0%} of the points"
    canvas.caption(ax, title, f"{note}; {how(surface)}" if line is None else line)
    place_legend(ax, handles)
    return figure


def _ratio(surface: Surface) -> np.ndarray:
    held = surface.metrics
    if "convexity" in held:
        return values_of(surface, "convexity")
    if not {"lambda_min", "lambda_max"} <= held.keys():
        allowed = "with the metric convexity, or lambda_min and lambda_max"
        raise bad_argument("convexity", "surface", ", ".join(held), allowed)
    low, high = values_of(surface, "lambda_min"), values_of(surface, "lambda_max")
    return np.abs(np.divide(low, high, out=np.full(low.shape, np.nan), where=high != 0))
