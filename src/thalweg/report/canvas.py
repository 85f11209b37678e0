"""What every figure shares: axes without global state, captions, log axes, legends, saving."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from thalweg.report import style


__all__ = ["axes", "caption", "legend", "log_axis", "plain_axis", "render", "root", "save"]


LINE = 86  # characters that fit over the axes of a figure of the usual width


def axes(ax: Axes | None, size: tuple[float, float] = (6.2, 4.5)) -> tuple[Figure, Axes]:
    """The given axes and its figure, or new ones (inches); pyplot is never involved."""
    if ax is not None:
        return root(ax), ax
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def root(ax: Axes) -> Figure:
    """The figure that holds the axes."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def caption(ax: Axes, title: str, line: str) -> None:
    """A bold title with a muted line under it, or a few, that names what was measured."""
    shown = textwrap.fill(line, LINE)
    ax.set_title(title, pad=21 + 11.5 * shown.count("\n"))
    ax.annotate(
        shown,
        xy=(0, 1),
        xytext=(0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color=style.tone("muted"),
    )


def legend(ax: Axes, handles: Sequence[Artist] | None = None) -> None:
    """A legend under the axes of a figure made here, inside axes that were given."""
    shown = ax.get_legend_handles_labels()[0] if handles is None else handles
    labels = [str(handle.get_label()) for handle in shown]
    figure = root(ax)
    if not shown:
        return
    if figure.get_layout_engine() is not None and len(figure.axes) == 1:
        longest = max(map(len, labels))
        columns = max(1, min(5, len(labels), 78 // (longest + 7)))
        rows = math.ceil(len(labels) / columns)
        if rows > 3:  # a long legend takes its height from the page, not from the axes
            figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 3))
        figure.legend(shown, labels, loc="outside lower left", ncols=columns)
    else:
        ax.legend(shown, labels)


def log_axis(axis: Any, low: float, high: float) -> None:
    """Make one axis logarithmic over [low, high] > 0, with labels also within one decade."""
    name = "x" if axis.axis_name == "x" else "y"
    getattr(axis.axes, f"set_{name}scale")("log")
    pad = max((high / low) ** 0.04, 1.02)
    getattr(axis.axes, f"set_{name}lim")(low / pad, high * pad)
    decades = np.log10(high / low)
    if decades > 2.5:
        axis.set_major_locator(LogLocator(numticks=9))
        axis.set_minor_formatter(NullFormatter())
        return
    subs = (1.0, 2.0, 5.0) if decades > 0.8 else tuple(np.arange(1.0, 10.0))
    if decades < 0.25:  # too narrow for the ticks of a decade: evenly spaced values instead
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=subs, numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def plain_axis(axis: Any) -> None:
    """Numbers in full on a linear axis, without a common factor in the corner."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


def render(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a file of that kind ("png", "svg" or "pdf").

    The bytes carry no date, so the same records give the same file.
    """
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {}
    if kind == "svg":
        metadata = {"Date": None, "Creator": None}
    elif kind == "pdf":
        metadata = {"CreationDate": None, "Creator": None, "Producer": None}
    with matplotlib.rc_context(style.rc()):
        face = figure.get_facecolor()
        figure.savefig(buffer, format=kind, metadata=metadata, facecolor=face, dpi=160)
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure; the kind is the suffix of the path (.png, .svg or .pdf)."""
    path = Path(path)
    path.write_bytes(render(figure, path.suffix.removeprefix(".").lower()))
    return path
