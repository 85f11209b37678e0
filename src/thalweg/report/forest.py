"""Final results with their intervals, one line per optimizer, best on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.report import canvas, words
from thalweg.report.curves import FLOOR, gap
from thalweg.report.style import series, styled, tone
from thalweg.study.scoring import Row, Summary, summarize
from thalweg.study.statistics import column


__all__ = ["final_results"]


@styled
def final_results(
    study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], *, ax: Axes | None = None
) -> Figure:
    """The headline quantity over the fresh seeds: each seed, the mean, the 95% interval.

    The library's defaults, where they were run, are hollow. The labels of the tied group are bold.
    """
    summary = summarize(study, runs)
    figure, ax = canvas.axes(ax, (6.2, 1.7 + 0.42 * len(summary.rows)))
    offset = gap(study, summary.quantity.key)
    low, high, log = _range(summary, offset)
    texts = column([row.score for row in summary.rows])
    for position, row in enumerate(summary.rows):
        _draw_row(ax, row, position, offset, low if log else None)
        _draw_default(ax, row, position, offset, (low, high))
        text = texts[position] if row.score else "no finished run"
        if row.score and row.confirm.lost:
            text += f"; {row.confirm.total - row.confirm.finished} lost"
        ax.text(
            1.015, position, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5
        )
    if log:
        canvas.log_axis(ax.xaxis, low, high)
    else:
        ax.set_xlim(low, high)
        canvas.plain_axis(ax.xaxis)
    _label_rows(ax, summary)
    name = summary.quantity.name
    ax.set_xlabel(f"{name} − minimum" if offset else name)
    confirm = [run for run in runs if run["stage"] == "confirm"]
    better = "higher" if summary.quantity.higher_is_better else "lower"
    title = f"{name[:1].upper()}{name[1:]} ({better} is better)"
    line = f"{study['problem']['name']}; mean, 95% interval; {words.describe(study, confirm)}"
    canvas.caption(ax, title, line)
    _explain(ax, summary)
    return figure


def _range(summary: Summary, offset: float) -> tuple[float, float, bool]:
    """Limits and whether the axis is logarithmic, from the tuned results.

    Defaults widen the range a little (at most by its own width, or two decades); one further away
    is drawn on the edge.
    """
    tuned = [v for row in summary.rows for v in row.scores.values()]
    for row in summary.rows:
        if row.score:
            tuned += [v for v in (row.score.low, row.score.high) if v is not None]
    values = np.array(tuned or [0.0, 1.0]) - offset
    scores = np.array([v for row in summary.rows for v in row.scores.values()] or [1.0]) - offset
    defaults = [row.default.mean - offset for row in summary.rows if row.default]
    is_loss = not summary.quantity.key.endswith("_metric")
    if is_loss and scores.min() >= 0 and scores.max() > 5 * max(scores.min(), FLOOR):
        positive = np.maximum(values[values > 0], FLOOR)
        low, high = max(float(scores.min()), FLOOR) / 1.5, float(positive.max())
        near = [value for value in defaults if low <= value <= 100 * high]
        return low, max(1.5 * max([high, *near]), low * 10), True
    width = float(np.ptp(values)) or abs(float(values[0])) * 0.1 or 1.0
    low, high = float(values.min()), float(values.max())
    near = [v for v in defaults if low - width <= v <= high + width]
    return min([low, *near]) - 0.08 * width, max([high, *near]) + 0.08 * width, False


def _draw_row(ax: Axes, row: Row, position: int, offset: float, floor: float | None) -> None:
    if row.score is None:
        return
    look, least = series(row.label), -np.inf if floor is None else floor
    points = [max(value - offset, least) for value in row.scores.values()]
    ax.plot(points, [position] * len(points), "|", color=look.colour, alpha=0.55, markersize=9)
    if row.score.low is not None and row.score.high is not None:
        ends = [max(end - offset, least) for end in (row.score.low, row.score.high)]
        ax.plot(ends, [position] * 2, color=look.colour, linewidth=2)
    mean = max(row.score.mean - offset, least)
    ax.plot(mean, position, look.marker, color=look.colour, markersize=7.5, zorder=4)


def _draw_default(
    ax: Axes, row: Row, position: int, offset: float, limits: tuple[float, float]
) -> None:
    if row.default is None:
        return
    look, value = series(row.label), row.default.mean - offset
    inside = limits[0] <= value <= limits[1]
    marker = look.marker if inside else ("<" if value < limits[0] else ">")
    place = min(max(value, limits[0]), limits[1])
    ax.plot(
        place,
        position + 0.27,
        marker,
        color=look.colour,
        markersize=6,
        markerfacecolor="none",
        clip_on=False,
        zorder=3,
    )


def _label_rows(ax: Axes, summary: Summary) -> None:
    ax.set_yticks(range(len(summary.rows)), [row.label for row in summary.rows])
    ax.set_ylim(len(summary.rows) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    for text in ax.get_yticklabels():
        tied = text.get_text() in summary.verdict.tied
        text.set(color=tone("ink"), fontsize=9.5, fontweight="bold" if tied else "normal")


def _explain(ax: Axes, summary: Summary) -> None:
    muted = tone("muted")
    handles = [
        *ax.plot([], [], "-o", color=muted, label="tuned: mean and 95% interval"),
        *ax.plot([], [], "|", color=muted, markersize=9, label="one seed"),
    ]
    if any(row.default for row in summary.rows):
        handles += ax.plot(
            [],
            [],
            "o",
            color=muted,
            markerfacecolor="none",
            label="library default (arrow: off the axis)",
        )
    canvas.legend(ax, handles)
