"""Curvature over training: the figure and the page of a monitor's log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.report import canvas, svg
from thalweg.report.files import replace
from thalweg.report.style import styled, tone
from thalweg.study.statistics import number


__all__ = ["monitor_figure", "monitor_html", "write_monitor"]

Record = Mapping[str, Any]


@styled
def monitor_figure(records: Sequence[Record]) -> Figure:
    """Sharpness against its limit, loss, trace, noise scale and index over training.

    Args:
        records: The lines of the log, as plain data.

    Returns:
        A figure with a panel for each quantity that was measured.
    """
    panels = [panel for panel in _PANELS if any(_shown(record, panel[0]) for record in records)]
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(10.4, 3.3 * rows + 0.3), layout="constrained")
    for k, (key, title, line, colour) in enumerate(panels):
        ax = figure.add_subplot(rows, min(2, len(panels)), k + 1)
        _panel(ax, records, key, colour)
        ax.set_xlabel("step")
        canvas.caption(ax, title, line)
    return figure


_PANELS = (
    ("sharpness", "Sharpness", "λ_max of the Hessian", "blue"),
    ("ratio", "Learning rate over its stable limit", "above 1 is unstable", "vermillion"),
    ("loss", "Loss", "of what was measured on", "ink"),
    ("trace", "Trace", "with its standard error", "green"),
    (
        "noise",
        "Gradient noise scale",
        "samples, with 95% interval; triangles: at least",
        "purple",
    ),
    ("index", "Negative eigenvalues", "beyond a thousandth of the largest", "orange"),
)


def _shown(record: Record, key: str) -> bool:
    low = key == "noise" and record.get("noise_low") is not None
    return low or record.get(key) is not None


def _panel(ax: Axes, records: Sequence[Record], key: str, colour: str) -> None:
    held = [record for record in records if record.get(key) is not None]
    steps = [record["step"] for record in held]
    values = [record[key] for record in held]
    ax.plot(steps, values, color=tone(colour), marker="o", markersize=3.5)
    if key == "trace":
        errors = [record["trace_stderr"] or 0.0 for record in held]
        low = [v - e for v, e in zip(values, errors, strict=True)]
        high = [v + e for v, e in zip(values, errors, strict=True)]
        ax.fill_between(steps, low, high, color=tone(colour), alpha=0.18, linewidth=0)
    if key == "noise":
        least = [r for r in records if r.get("noise") is None and r.get("noise_low") is not None]
        lows = [r["noise_low"] for r in least]
        ax.plot([r["step"] for r in least], lows, "^", color=tone(colour), markersize=5)
        ends = [(r["step"], r["noise_low"], r["noise_high"]) for r in held if r.get("noise_high")]
        if ends:
            x, low, high = zip(*ends, strict=True)
            floor = [max(v, min(values) / 10) for v in low]
            ax.fill_between(x, floor, high, color=tone(colour), alpha=0.18, linewidth=0)
    if key == "ratio":
        ax.axhline(1.0, color=tone("ink"), linewidth=1.2, linestyle=(0, (4, 2)))
    if key != "index" and values and min(values) > 0 and max(values) > 5 * min(values):
        ax.set_yscale("log")
    else:
        canvas.plain_axis(ax.yaxis)


def write_monitor(
    folder: str | Path, records: Sequence[Record], *, name: str = "curvature"
) -> list[Path]:
    """Write NAME.html, NAME.png and NAME.svg.

    Args:
        folder: Where.
        records: The lines of the log.
        name: The files' name.

    Returns:
        The files, the page first.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    figure = monitor_figure(records)
    drawing = canvas.render(figure, "svg")
    files = {
        root / f"{name}.html": _page(records, drawing, name).encode(),
        root / f"{name}.png": canvas.render(figure, "png"),
        root / f"{name}.svg": drawing,
    }
    for path, content in files.items():
        replace(path, content)
    return list(files)


def monitor_html(records: Sequence[Record], *, name: str = "curvature") -> str:
    """The page as text; nothing outside of itself is loaded."""
    return _page(records, canvas.render(monitor_figure(records), "svg"), name)


def _page(records: Sequence[Record], drawing: bytes, name: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    keys = ("step", "loss", "sharpness", "lr", "ratio", "trace", "noise", "index", "share")
    shown = [key for key in keys if any(record.get(key) is not None for record in records)]
    return environment.get_template("monitor.html.j2").render(
        name=name,
        summary=_summary(records),
        drawing=svg.inline(drawing, "monitor", "Curvature over training"),
        keys=shown,
        rows=[[number(record.get(key), 4) for key in shown] for record in records],
        light=svg.variables(),
        dark=svg.variables(dark=True),
    )


def _summary(records: Sequence[Record]) -> str:
    """What the log says first."""
    count = len(records)
    steps = f"{count} measurement{'s' * (count != 1)} over {records[-1]['step']:,} steps"
    ratios = [r for r in records if r.get("ratio") is not None]
    over = [r for r in ratios if r["ratio"] > 1]
    if not ratios:
        return f"{steps}."
    if not over:
        most = max(ratios, key=lambda r: r["ratio"])
        return (
            f"{steps}. The learning rate never passed its stable limit; it came nearest at step "
            f"{most['step']:,}, with {number(most['ratio'], 3)} of it."
        )
    return (
        f"{steps}. The learning rate was past its stable limit in {len(over)} of {len(ratios)}, "
        f"first at step {over[0]['step']:,}."
    )
