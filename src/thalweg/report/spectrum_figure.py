"""The figure of a spectrum: how many eigenvalues there are of each size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.study.statistics import number


__all__ = ["decades", "density", "edges"]

Record = Mapping[str, Any]


@styled
def density(inspection: Record, *, ax: Axes | None = None) -> Figure:
    """How many eigenvalues there are of each size, on a logarithmic axis to both sides of zero."""
    figure, ax = canvas.axes(ax)
    low, high = inspection["smallest"]["value"], inspection["largest"]["value"]
    zero = inspection["point"]["tolerance"] or 1e-12
    bins = edges(low, high, zero)
    counts = _counts(inspection, bins)
    ax.stairs(counts, bins, fill=True, color=tone("blue"), alpha=0.75, baseline=0)
    ax.set_xscale("symlog", linthresh=zero, linscale=0.4)
    ax.set_yscale("symlog", linthresh=1.0, linscale=0.3)
    ax.set_ylim(0, max(counts.max() * 1.6, 2.0))
    ax.set_xlim(bins[0], bins[-1] * 1.02)
    for value, name, side in ((low, "λ_min", "right"), (high, "λ_max", "left")):
        ax.axvline(value, color=tone("vermillion"), linewidth=1.2, linestyle=(0, (4, 2)))
        pair = (-4, "right") if side == "left" else (4, "left")
        ax.annotate(
            f"{name} = {number(value, 3)}",
            xy=(value, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(pair[0], 0),
            textcoords="offset points",
            ha=pair[1],
            va="top",
            fontsize=8.5,
            color=tone("vermillion"),
        )
    ax.axvspan(-zero, zero, color=tone("grid"), zorder=0)
    decades(ax.xaxis, low, high, zero)
    ax.set_xlabel("eigenvalue of the Hessian (grey: zero within the tolerance)")
    ax.set_ylabel("eigenvalues a bin")
    probes = len(inspection["density"]["nodes"])
    canvas.caption(
        ax,
        "Spectrum",
        f"{inspection['parameters']:,} eigenvalues, {_runs(inspection, probes)}",
    )
    return figure


def _runs(inspection: Record, probes: int) -> str:
    if inspection["largest"]["method"] == "dense eigenvalues":
        return "all computed"
    steps = max(len(row) for row in inspection["density"]["nodes"])
    return f"from {probes} random probe{'s' * (probes != 1)} of {steps} Lanczos steps"


def edges(low: float, high: float, zero: float) -> np.ndarray:
    """Bins of equal width in the logarithm on both sides, and one for what counts as zero."""

    def side(end: float) -> np.ndarray:
        decades = math.log10(end / zero)
        return zero * np.logspace(0, decades, max(2, math.ceil(8 * decades)) + 1)

    up = side(max(high, zero) * 1.05)
    down = -side(max(-low, zero) * 1.05)[::-1]
    return np.concatenate([down, up])


def _counts(inspection: Record, edges: np.ndarray) -> np.ndarray:
    held = inspection["density"]
    rows = [
        np.histogram(np.clip(x, edges[0], edges[-1]), edges, weights=w)[0]
        for x, w in zip(held["nodes"], held["weights"], strict=True)
    ]
    return inspection["parameters"] * np.mean(rows, axis=0)


def decades(axis: Any, low: float, high: float, zero: float) -> None:
    """Ticks at powers of ten, few enough to be read."""

    def powers(end: float) -> list[float]:
        first, last = math.ceil(math.log10(zero)), math.floor(math.log10(max(end, zero)))
        every = max(1, (last - first + 1) // 3)
        return [10.0**k for k in range(last, first - 1, -every)]

    ticks = sorted([-t for t in powers(-low)] + [0.0] + powers(high))
    axis.set_ticks(ticks, labels=[_power(t) for t in ticks])
    axis.set_minor_locator(NullLocator())


def _power(value: float) -> str:
    if value == 0:
        return "0"
    sign, exponent = ("−" if value < 0 else ""), round(math.log10(abs(value)))
    if -3 <= exponent <= 3:
        return f"{sign}{number(abs(value))}"
    return f"{sign}$10^{{{exponent}}}$"
