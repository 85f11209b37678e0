"""Loss along a line or a path between two sets of weights, on training and on test data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.errors import bad_argument
from thalweg.landscape import Line
from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.study.statistics import number


__all__ = ["profile"]

_TONES = ("blue", "vermillion", "green", "purple", "orange", "wine", "sky", "black")
_DASHES = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.5, 1.5, 1.5)))
_HELD_OUT = ("test", "test loss", "validation", "validation loss")


@styled
def profile(
    lines: Line | Mapping[str, Line],
    metrics: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    log: bool = False,
    barrier: float | None = None,
    title: str | None = None,
    line: str | None = None,
) -> Figure:
    """Draw what was measured along a line, or along several for comparison.

    Args:
        lines: a line, or lines by name: {"straight": ..., "curve": ...}.
        metrics: which of their metrics, on one axis. Default: the first (the training loss) with
            those named test, validation, test loss or validation loss.
        ax: axes to draw on; default: a new figure.
        log: whether the vertical axis is logarithmic; what is not positive is not drawn then.
        barrier: a height to be written at the highest point: a barrier, by whichever convention.
        title: default: from the names of what is drawn.
        line: the muted line under the title; default: the number of points.

    Raises:
        ValueError: if a line has no such metric, or there is no line.

    Example:
        >>> t = np.linspace(0, 1, 5)
        >>> one = Line(t, {"loss": 1 - t, "test": 1.2 - t}, "start to end")
        >>> figure = profile(one)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['train', 'test']
    """
    named = {"": lines} if isinstance(lines, Line) else dict(lines)
    if not named:
        raise bad_argument("profile", "lines", lines, "one line or more")
    first = next(iter(named.values()))
    chosen = _chosen(first, metrics)
    figure, ax = canvas.axes(ax)
    for k, (name, one) in enumerate(named.items()):
        for m, metric in enumerate(chosen):
            if metric not in one.metrics:
                raise bad_argument("profile", "metrics", metric, f"of {', '.join(one.metrics)}")
            colour, dash = (k, m) if len(named) > 1 else (m, m)
            ax.plot(
                one.t,
                one.metrics[metric],
                color=tone(_TONES[colour % len(_TONES)]),
                linestyle=_DASHES[dash % len(_DASHES)],
                marker="o" if len(one.t) <= 30 else None,
                markersize=3.2,
                label=_label(name, metric, chosen),
            )
    _axes(ax, first, chosen, log=log)
    if barrier is not None:
        _mark_barrier(ax, first, chosen[0], barrier)
    several = len(chosen) > 1 or len(named) > 1
    text = title if title is not None else f"{_word(chosen[0])} along the line"
    under = line if line is not None else f"{len(first.t)} points"
    canvas.caption(ax, text[:1].upper() + text[1:], under)
    if several:
        canvas.legend(ax)
    return figure


def _chosen(first: Line, metrics: str | Sequence[str] | None) -> list[str]:
    if isinstance(metrics, str):
        return [metrics]
    if metrics is not None:
        return list(metrics)
    leading = next(iter(first.metrics))
    return [leading, *(name for name in first.metrics if _held_out(name) and name != leading)]


def _held_out(metric: str) -> bool:
    return _word(metric) in _HELD_OUT


def _word(metric: str) -> str:
    return metric.replace("_", " ")


def _label(name: str, metric: str, chosen: Sequence[str]) -> str:
    """The line's name, and the metric's where there are several of them."""
    train = metric == "loss" and any(map(_held_out, chosen))
    word = "train" if train else _word(metric)
    if not name:
        return word
    return f"{name}, {word}" if len(chosen) > 1 else name


def _axes(ax: Axes, first: Line, chosen: Sequence[str], *, log: bool) -> None:
    ax.set_xlabel(first.label)
    all_losses = all(name == "loss" or _held_out(name) for name in chosen)
    ax.set_ylabel("loss" if all_losses else ", ".join(map(_word, chosen)))
    ax.margins(x=0.02)
    drawn = np.concatenate([np.asarray(one.get_ydata(), float) for one in ax.lines])
    drawn = drawn[np.isfinite(drawn)]
    positive = drawn[drawn > 0]
    if log and positive.size:
        canvas.log_axis(ax.yaxis, positive.min(), max(positive.max(), positive.min() * 1.05))
    else:
        canvas.plain_axis(ax.yaxis)
    low, high = float(first.t.min()), float(first.t.max())
    if low < 0 < 1 < high:  # both ends lie inside: say where
        for end in (0.0, 1.0):
            ax.axvline(end, color=tone("rule"), linewidth=1.0, zorder=0)


def _mark_barrier(ax: Axes, line: Line, metric: str, barrier: float) -> None:
    """Say the barrier where the line is highest above the straight line between its ends."""
    inside = (line.t >= 0) & (line.t <= 1)
    t, values = line.t[inside], np.asarray(line.metrics[metric], float)[inside]
    if not np.isfinite(values).any():
        return
    above = values - np.interp(t, t[[0, -1]], values[[0, -1]])
    top = int(np.nanargmax(above)) if np.isfinite(above).any() else int(np.nanargmax(values))
    ax.annotate(
        f"barrier {number(barrier, 3)}",
        xy=(t[top], values[top]),
        xytext=(0, 16),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=tone("ink"),
        arrowprops={"arrowstyle": "-", "color": tone("muted"), "lw": 0.8},
    )
    ax.margins(y=0.14)
