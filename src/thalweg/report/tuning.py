"""Tuning curves: what each trial of a search came to, against one hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.report import canvas, words
from thalweg.report.curves import FLOOR, gap
from thalweg.report.style import series, styled, tone
from thalweg.study.schedule import TUNED


__all__ = ["tunable", "tuning_curves"]

Record = Mapping[str, Any]


def tunable(study: Record) -> list[str]:
    """Every hyper-parameter that some optimizer of the study searched, the learning rate first."""
    names = {name: None for entry in study["optimizers"] for name in entry["space"]}
    return sorted(names, key=lambda name: name != "lr")


@styled
def tuning_curves(
    study: Record, runs: Sequence[Record], *, parameter: str = "lr", ax: Axes | None = None
) -> Figure:
    """Final selection loss of each trial against one hyper-parameter, log-log.

    Diverged and failed trials, and those that ended far above the start, are crosses on the top
    edge, a row for each optimizer. The chosen value has a ring. Losses below zero have a linear
    axis.
    """
    figure, ax = canvas.axes(ax)
    tune = [run for run in runs if run["stage"] == "tune" and parameter in run["hyperparameters"]]
    offset = gap(study, study["selection"])
    losses = [loss - offset for run in tune if (loss := _loss(study, run)) is not None]
    starts = [abs(v) for run in tune for v in run["curve"]["train_loss"][:1] if v is not None]
    top = min(max(losses, default=1.0), 10 * max(starts, default=math.inf))
    floor = FLOOR if min(losses, default=0.0) >= 0 else -math.inf
    labels = [entry["label"] for entry in study["optimizers"]]
    spacing = min(0.035, 0.18 / len(labels))
    for k, entry in enumerate(study["optimizers"]):
        own = [run for run in tune if run["optimizer"] == entry["label"]]
        points = [(run["hyperparameters"][parameter], _loss(study, run)) for run in own]
        raised = sorted((x, math.inf if y is None else max(y - offset, floor)) for x, y in points)
        place = 1 - spacing * (k + 0.6)
        _draw_trials(ax, entry, raised, top, place, line=study.get("schedule") != TUNED)
    if losses:
        _loss_range(ax, [min(max(loss, floor), top) for loss in losses], spacing * len(labels))
    tried = [run["hyperparameters"][parameter] for run in tune]
    if tried and min(tried) > 0:
        canvas.log_axis(ax.xaxis, min(tried), max(tried) * 1.001)
    name, across = words.axis_name(study["selection"], study), words.axis_name(parameter, study)
    ax.set_xlabel(across)
    ax.set_ylabel(f"final {name}" + (" − minimum" if offset else ""))
    ax.plot([], [], "x", color=tone("muted"), label="diverged or far above")
    ax.plot([], [], "o", color=tone("ink"), markersize=10, fillstyle="none", label="chosen")
    line = f"{study['problem']['name']}; one point a trial; {words.describe(study, tune)}"
    canvas.caption(ax, f"Tuning: final {name} against {across}", line)
    canvas.legend(ax)
    return figure


def _loss(study: Record, run: Record) -> float | None:
    value = run["final"].get(study["selection"])
    return value if run["status"] == "finished" and value is not None else None


def _draw_trials(
    ax: Axes,
    entry: Record,
    points: Sequence[tuple[float, float]],
    top: float,
    edge: float,
    *,
    line: bool,
) -> None:
    look = series(entry["label"])
    good, lost = [p for p in points if p[1] <= top], [x for x, y in points if y > top]
    # Only a one-dimensional search is a curve; with more dimensions the line would mislead.
    dash = look.dash if line and len(entry["space"]) == 1 else "none"
    if points:
        columns = zip(*good, strict=True) if good else ([], [])
        style = {"color": look.colour, "linestyle": dash, "marker": look.marker}
        ax.plot(*columns, label=entry["label"], **style)
    if good:
        best = min(good, key=lambda point: point[1])
        ax.plot(*best, "o", color=look.colour, markersize=11, fillstyle="none", zorder=4)
    if lost:  # an empty line has its box in a corner of the figure and would bend the layout
        across = ax.get_xaxis_transform()
        ax.plot(lost, [edge] * len(lost), "x", color=look.colour, transform=across, clip_on=False)


def _loss_range(ax: Axes, values: Sequence[float], reserved: float) -> None:
    """Limits that leave the reserved share of the height free for crosses on the top edge."""
    low, high = min(values), max(values)
    if low > 0:
        high = max(high, 1.05 * low)
        canvas.log_axis(ax.yaxis, low, low * (high / low) ** (1 / (1 - reserved)))
    else:
        width = high - low or abs(high) or 1.0
        ax.set_ylim(low - 0.06 * width, low + width / (1 - reserved))
        canvas.plain_axis(ax.yaxis)
