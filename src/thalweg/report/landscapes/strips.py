"""What a plane leaves out of the paths on it: their distance from it, and their true loss.

A plane through a space of many dimensions meets a path in few points. Where the residual is 0.9,
nine tenths of the way from the plane's centre lie outside of the picture.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from thalweg.landscape import Surface
from thalweg.report import canvas
from thalweg.report.heights import picture_loss
from thalweg.report.style import series, styled, tone


__all__ = ["IN_PLANE", "leave", "losses", "residuals"]

# A path that is never farther off than this share of its distance lies in the plane.
IN_PLANE = 5e-3

_SIZE = (6.8, 2.2)


def leave(surface: Surface) -> bool:
    """Whether some path of a surface leaves its plane."""
    held = [np.asarray(path.residual, float) for path in surface.paths if len(path)]
    return any(bool((off[np.isfinite(off)] > IN_PLANE).any()) for off in held)


@styled
def residuals(surface: Surface, *, ax: Axes | None = None, legend: bool = True) -> Figure:
    r"""The share of each path's way from the centre that lies outside of the plane.

    That is :math:`\|d - P d\| / \|d\|` for a point at :math:`d` from the plane's centre with
    projection :math:`P d`: 0 on the plane, 1 at right angles to it.

    Args:
        surface: a surface with paths.
        ax: axes to draw on; default: a new figure.
        legend: whether to name the paths.

    Raises:
        ValueError: if the surface has no path.
    """
    _check(surface)
    figure, ax = canvas.axes(ax, _SIZE)
    for path in surface.paths:
        look = series(path.name)
        ax.plot(
            path.steps,
            path.residual,
            color=look.colour,
            linestyle=look.dash,
            linewidth=1.4,
            label=path.name,
        )
    ax.set_ylim(-0.03, 1.05)
    ax.set_yticks([0, 0.5, 1])
    ax.margins(x=0.01)
    ax.set_xlabel(surface.meta.get("along", "step"))
    ax.set_ylabel("off the plane\n‖d − Pd‖ / ‖d‖")
    if legend:
        canvas.legend(ax)
    return figure


@styled
def losses(surface: Surface, *, ax: Axes | None = None, names: bool = False) -> Figure:
    """The true loss along each path, and the loss that the picture shows under it.

    Args:
        surface: a surface with paths.
        ax: axes to draw on; default: a new figure.
        names: whether to name the paths too.

    Raises:
        ValueError: if the surface has no path.
    """
    _check(surface)
    figure, ax = canvas.axes(ax, _SIZE)
    drawn: list[np.ndarray] = []
    for path in surface.paths:
        look, shown = series(path.name), picture_loss(surface, path)
        ax.plot(
            path.steps,
            path.loss,
            color=look.colour,
            linewidth=1.6,
            label=path.name if names else None,
        )
        ax.plot(path.steps, shown, color=look.colour, linewidth=1.0, linestyle=(0, (2, 1.5)))
        drawn += [np.asarray(path.loss, float), shown]
    values = np.concatenate(drawn)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0:
        canvas.log_axis(ax.yaxis, values.min(), max(values.max(), values.min() * 1.05))
        ax.grid(visible=True)
    ax.margins(x=0.01)
    ax.set_xlabel(surface.meta.get("along", "step"))
    ax.set_ylabel("loss")
    ink = tone("muted")
    handles = [
        *(ax.get_legend_handles_labels()[0] if names else ()),
        Line2D([], [], color=ink, linewidth=1.6, label="true"),
        Line2D([], [], color=ink, linewidth=1.0, linestyle=(0, (2, 1.5)), label="in the picture"),
    ]
    ax.legend(handles=handles, fontsize=8, loc="upper right", ncols=len(handles), borderpad=0.1)
    return figure


def _check(surface: Surface) -> None:
    if not surface.paths:
        raise ValueError("landscape figure: the surface has no paths; see Surface.with_paths.")
