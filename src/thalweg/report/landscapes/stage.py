"""What stands still in an animation: the surface, and under it the axes of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.landscape import Surface
from thalweg.report import canvas
from thalweg.report.heights import heights_of
from thalweg.report.landscapes import words
from thalweg.report.landscapes.plane import frame, ground
from thalweg.report.style import styled


__all__ = ["Stage", "stage"]


@final
@dataclass(frozen=True, eq=False)
class Stage:
    """A figure with the axes in which paths and losses move."""

    figure: Figure
    above: Axes
    below: Axes

    def inside(self, ax: Axes, points: np.ndarray) -> np.ndarray:
        """[n, 2] points as shares of the figure from its upper left corner, as an SVG counts."""
        to_figure = ax.transData + self.figure.transFigure.inverted()
        shares = to_figure.transform(np.asarray(points, float))
        return np.column_stack([shares[:, 0], 1 - shares[:, 1]])


@styled
def stage(
    surface: Surface, *, ceiling: float | None = None, title: str | None = None, dpi: int = 100
) -> Stage:
    """Draw the stage and lay it out.

    Args:
        surface: the surface, with paths.
        ceiling: as :func:`plane` takes it.
        title: default: the metric's name.
        dpi: dots an inch.
    """
    figure = Figure(figsize=(6.8, 7.2), dpi=dpi, layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[5.4, 1.3])
    above, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    ground(above, surface, None, heights_of(surface, ceiling=ceiling))
    frame(above, surface, None)
    canvas.caption(above, words.title(surface) if title is None else title, words.line(surface))
    losses = np.concatenate([np.asarray(path.loss, float) for path in surface.paths])
    finite = losses[np.isfinite(losses)]
    last = max(float(path.steps[-1]) for path in surface.paths)
    below.set_xlim(0, last)
    if finite.size and finite.min() > 0:
        canvas.log_axis(below.yaxis, finite.min(), max(finite.max(), finite.min() * 1.05))
    elif finite.size:
        below.set_ylim(finite.min(), max(finite.max(), finite.min() + 1e-9))
    below.set_xlabel("step")
    below.set_ylabel("true loss")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out: what moves must not move the axes
    return Stage(figure, above, below)
