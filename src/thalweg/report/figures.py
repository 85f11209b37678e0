"""The figures of a study from its fresh seeds: learning curves, and paths on a surface.

Each takes the records (`study`, `runs`), draws on `ax` if one is given and on a new figure
otherwise, and returns the `matplotlib.figure.Figure`. Nothing is shown and no global state moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.errors import unknown_name
from thalweg.report import canvas, words
from thalweg.report.contours import contour
from thalweg.report.curves import FLOOR, WORST, MedianCurve, gap, median_curve
from thalweg.report.style import series, styled


__all__ = ["learning_curves", "paths", "quantities"]

Record = Mapping[str, Any]


def quantities(runs: Sequence[Record]) -> list[str]:
    """The quantities with a learning curve in these records, the one to select on first."""
    keys = ("validation_loss", "train_loss", "validation_metric")
    return [key for key in keys if median_curve(_fresh(runs), key) is not None]


@styled
def learning_curves(
    study: Record,
    runs: Sequence[Record],
    *,
    quantity: str | None = None,
    against: str = "step",
    ax: Axes | None = None,
) -> Figure:
    """Median and quartiles over the fresh seeds, against steps, seconds or gradients.

    Args:
        study: the content of `study.json`.
        runs: the run records.
        quantity: a key of `curve`; default: validation loss, or f for a test function.
        against: "step", "seconds" or "gradients" (gradient-equivalents).
        ax: axes to draw on; default: a new figure.

    Raises:
        ValueError: if `against` is none of the three.
    """
    if against not in ("step", "seconds", "gradients"):
        known = ("step", "seconds", "gradients")
        raise unknown_name("learning_curves", "cost axis", against, known)
    figure, ax = canvas.axes(ax)
    fresh = _fresh(runs)
    quantity = quantity or next(iter(quantities(runs)), "train_loss")
    metric = study["problem"]["metric"] if quantity.endswith("_metric") else None
    higher = bool(metric and metric["higher_is_better"])
    drawn: list[MedianCurve] = []
    for entry in study["optimizers"]:
        own = [run for run in fresh if run["optimizer"] == entry["label"]]
        curve = median_curve(own, quantity, against, higher_is_better=higher)
        if curve is not None:
            _draw_curve(ax, entry["label"], curve, gap(study, quantity))
            drawn.append(curve)
    _set_range(ax, drawn, gap(study, quantity), log=metric is None)
    name = words.axis_name(quantity, study)
    ax.set_xlabel(words.axis_name(against, study))
    ax.set_ylabel(f"{name} − minimum" if gap(study, quantity) else name)
    several = any(curve.n > 1 for curve in drawn)
    band = "median and 25–75% band over " if several else ""
    canvas.caption(
        ax,
        f"{_capital(name)} against {words.axis_name(against, study)}",
        f"{study['problem']['name']}; {band}{words.describe(study, fresh)}",
    )
    canvas.legend(ax)
    return figure


def _draw_curve(ax: Axes, label: str, curve: MedianCurve, offset: float) -> None:
    look = series(label)
    low, middle, high = (curve.low - offset, curve.middle - offset, curve.high - offset)
    if curve.n > 1:
        ax.fill_between(curve.x, low, high, color=look.colour, alpha=0.16, linewidth=0)
    every = max(1, math.ceil(len(curve.x) / 7))
    ax.plot(
        curve.x,
        middle,
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markevery=every,
        label=label,
    )


def _set_range(ax: Axes, drawn: Sequence[MedianCurve], offset: float, *, log: bool) -> None:
    """Limits from the values, not from what stands for a divergence; log where all are positive."""
    ax.margins(x=0.02)
    values = np.concatenate([curve.drawn for curve in drawn] or [np.zeros(0)]) - offset
    if values.size == 0:
        return
    starts = [abs(curve.middle[0] - offset) for curve in drawn if abs(curve.middle[0]) < WORST]
    ceiling = 10 * max(starts, default=math.inf) if log else math.inf
    low, high = float(values.min()), float(min(values.max(), max(ceiling, values.min())))
    if log and low >= 0 and high > 0:
        _log_range(ax, low, high)
    else:
        pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        ax.set_ylim(low - pad, high + pad)
        canvas.plain_axis(ax.yaxis)


def _log_range(ax: Axes, low: float, high: float) -> None:
    for line in ax.lines:
        line.set_ydata(np.maximum(np.asarray(line.get_ydata(), dtype=float), FLOOR))
    low = max(low, FLOOR)
    canvas.log_axis(ax.yaxis, low, max(high, low * 1.05))


@styled
def paths(study: Record, runs: Sequence[Record], *, ax: Axes | None = None) -> Figure:
    """The surface of a two-dimensional problem with one confirm run of each optimizer.

    Of each optimizer the run with the smallest seed is drawn.

    Raises:
        ValueError: if the problem has no surface.
    """
    surface = study["problem"].get("surface")
    if surface is None:
        raise ValueError(f"paths: the problem {study['problem']['name']} has no surface to draw.")
    fresh = sorted((run for run in _fresh(runs) if run["path"]), key=lambda run: run["seed"])
    first: dict[str, Record] = {}
    for entry in study["optimizers"]:
        own = [run for run in fresh if run["optimizer"] == entry["label"]]
        if own:
            first[entry["label"]] = own[0]
    line = f"{words.formula(surface['formula'])}; {words.describe(study, list(first.values()))}"
    title = f"Paths on {study['problem']['name']}"
    tracks = {label: run["path"] for label, run in first.items()}
    return contour(surface, tracks, ax=ax, title=title, line=line)


def _fresh(runs: Sequence[Record]) -> list[Record]:
    return [run for run in runs if run["stage"] == "confirm" and run["status"] != "failed"]


def _capital(text: str) -> str:
    return text if len(text) == 1 else text[:1].upper() + text[1:]
