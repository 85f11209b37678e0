"""The figures of an inspection: sharpness by layer, the gauge of the learning rate, all on a page.

Each takes the plain record of an inspection and draws on ``ax`` or on a new figure.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.report import canvas
from thalweg.report.inspection_words import answers, quantity, share
from thalweg.report.spectrum_figure import density
from thalweg.report.style import styled, tone
from thalweg.study.statistics import number


__all__ = ["density", "gauge", "layers", "overview"]

Record = Mapping[str, Any]
_SHOWN = 24  # layers in the figure; the table has all


@styled
def layers(inspection: Record, *, ax: Axes | None = None) -> Figure:
    """The sharpness of each layer's own block, with its part of the top direction."""
    rows = [row for row in inspection["layers"] if (row["sharpness"]["value"] or 0) > 0]
    rows = sorted(rows, key=lambda row: row["sharpness"]["value"])[-_SHOWN:]
    height = max(2.2, 0.32 * len(rows) + 1.4)
    figure, ax = canvas.axes(ax, (6.2, height))
    values = [row["sharpness"]["value"] for row in rows]
    if not rows:
        ax.text(0.5, 0.5, "no layer curves up", transform=ax.transAxes, ha="center")
        return figure
    top = inspection["largest"]["value"]
    low, high = min(values) / 2, max([*values, top]) * 1.3
    ax.barh(range(len(rows)), [v - low for v in values], left=low, color=tone("sky"), height=0.62)
    for k, row in enumerate(rows):
        ax.annotate(
            f"{number(row['sharpness']['value'], 3)}, {share(row['share'])}",
            xy=(row["sharpness"]["value"], k),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=tone("ink"),
            bbox={"facecolor": tone("paper"), "edgecolor": "none", "pad": 0.8},
        )
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.axvline(top, color=tone("vermillion"), linewidth=1.2, linestyle=(0, (4, 2)))
    canvas.log_axis(ax.xaxis, low, high * (high / low) ** 0.3)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("λ_max of the layer alone (dashed: of the whole)")
    hidden = len(inspection["layers"]) - len(rows)
    more = f"; {hidden} more in the table" if hidden else ""
    canvas.caption(ax, "Sharpness by layer", f"and its share of the top direction{more}")
    return figure


@styled
def gauge(inspection: Record, *, ax: Axes | None = None) -> Figure:
    """The learning rate in use against the largest stable one."""
    figure, ax = canvas.axes(ax, (11.0, 2.0))
    used = inspection["stability"]
    limited = used is not None and used["limit"] is not None
    limit = used["limit"] if limited else inspection["descent_limit"]
    if limit is None:
        text = inspection["missing"].get("descent_limit", "no limit is known")
        ax.text(0.5, 0.5, textwrap.fill(text, 60), transform=ax.transAxes, ha="center", va="center")
        ax.set_axis_off()
        return figure
    edge = limit["value"]
    marks = [(edge, f"limit {number(edge, 3)}", "vermillion")]
    if limited:
        marks.append((used["lr"], f"yours {number(used['lr'], 3)}", "ink"))
    best = inspection["optimal_rate"]
    if best is not None and not (limited and (used["preconditioned"] or "β" in used["formula"])):
        marks.append((best["value"], f"best {number(best['value'], 3)}", "green"))
    low = min(value for value, *_ in marks if value > 0) / 4
    high = max(value for value, *_ in marks) * 4
    ax.axvspan(low, edge, color=tone("green"), alpha=0.16)
    ax.axvspan(edge, high, color=tone("vermillion"), alpha=0.16)
    canvas.log_axis(ax.xaxis, low, high)
    ax.set_xlim(low, high)
    for k, (value, name, colour) in enumerate(sorted(marks)):
        ax.axvline(value, color=tone(colour), linewidth=2.2)
        right = value < math.sqrt(low * high)
        ax.annotate(
            name,
            xy=(value, 0.82 - 0.3 * (k % 3)),
            xycoords=("data", "axes fraction"),
            xytext=(6 if right else -6, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            color=tone(colour),
        )
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.set_xlabel("learning rate (green: stable on the local quadratic)")
    whose = (
        f"{used['optimizer']}, {used['formula']}" if limited else "plain gradient descent, 2 / λ"
    )
    canvas.caption(ax, "Stable learning rates", f"{whose}; λ = {_lambda(inspection, limited)}")
    return figure


def _lambda(inspection: Record, limited: bool) -> str:
    return quantity(inspection["stability"]["sharpness"] if limited else inspection["largest"])


@styled
def overview(record: Record) -> Figure:
    """Answers and figures on one page, for a file to be sent on."""
    inspection = record["inspection"]
    lines: list[tuple[str, bool]] = []
    for title, given in answers(inspection):
        lines.append((title, True))
        for advice in given:
            lines += [(line, False) for line in textwrap.wrap(advice["text"], 145)]
        lines.append(("", False))
    step = 0.17
    words = step * len(lines) + 0.75
    count = min(_SHOWN, len(inspection["layers"]))
    lower = max(4.2, 0.26 * count + 1.6)
    figure = Figure(figsize=(11.0, words + lower + 2.0))
    total = words + lower + 2.0
    figure.text(0.04, 1 - 0.3 / total, record["title"], fontsize=14, fontweight="bold", va="top")
    for k, (line, bold) in enumerate(lines):
        height = 1 - (0.75 + step * k) / total
        weight = "bold" if bold else "normal"
        figure.text(0.04, height, line, fontsize=9, fontweight=weight, va="top")
    bottom = lower / total
    box = figure.add_axes((0.07, bottom + 0.55 / total, 0.89, 0.85 / total))
    gauge(inspection, ax=box)
    density(inspection, ax=figure.add_axes((0.07, 0.6 / total, 0.4, bottom - 1.35 / total)))
    layers(inspection, ax=figure.add_axes((0.62, 0.6 / total, 0.34, bottom - 1.35 / total)))
    return figure
