"""The spectrum of a Hessian over training: how many eigenvalues of each size, and when."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from thalweg.errors import bad_argument
from thalweg.report import canvas
from thalweg.report.spectrum_figure import decades, edges
from thalweg.report.style import RAMP, styled, tone
from thalweg.study.statistics import number


__all__ = ["SpectralDensity", "spectra"]

_SPAN = 1e-5  # of the largest: what is smaller counts as zero


class SpectralDensity(Protocol):
    """What is drawn of a density: its quadratures, a row a probe, and how many eigenvalues."""

    @property
    def nodes(self) -> Any:
        """[probes, steps]."""
        ...

    @property
    def weights(self) -> Any:
        """[probes, steps], each row summing to one."""
        ...

    @property
    def n(self) -> int:
        """The number of eigenvalues."""
        ...


@styled
def spectra(
    densities: Mapping[int, SpectralDensity],
    *,
    monitor: Sequence[Mapping[str, Any]] = (),
    ax: Axes | None = None,
    title: str = "Spectrum over training",
    line: str | None = None,
) -> Figure:
    """Draw spectral densities by the step at which they were measured.

    Args:
        densities: step to density, as :func:`thalweg.curvature.spectral_density` gives it.
        monitor: records of a :class:`~thalweg.curvature.CurvatureMonitor`: their sharpness is drawn
            on top, and the largest stable one beside it where they know the learning rate.
        ax: axes to draw on; default: a new figure.
        title: the title.
        line: the muted line under the title.

    Raises:
        ValueError: if there is no density.
    """
    if not densities:
        raise bad_argument("spectra", "densities", densities, "one density or more, by step")
    figure, ax = canvas.axes(ax, (7.0, 4.6))
    steps = sorted(densities)
    low = min(float(np.min(np.asarray(densities[k].nodes))) for k in steps)
    high = max(float(np.max(np.asarray(densities[k].nodes))) for k in steps)
    zero = max(abs(low), abs(high)) * _SPAN or 1e-12
    bins = edges(low, high, zero)
    counts = np.array([_counts(densities[k], bins) for k in steps]).T
    shown = np.ma.masked_less(counts, 1e-3)
    shades = ["paper", *reversed(RAMP), "blue"]
    colours = LinearSegmentedColormap.from_list("counts", [tone(name) for name in shades])
    norm = LogNorm(max(float(shown.min()), 1e-3), max(float(shown.max()), 1.0))
    drawn = ax.pcolormesh(_borders(steps), bins, shown, cmap=colours, norm=norm, zorder=1)
    drawn.set_edgecolor("face")
    ax.set_yscale("symlog", linthresh=zero, linscale=0.4)
    ax.set_ylim(bins[0], bins[-1])
    ends = np.array([_ends(densities[k]) for k in steps])
    for column, name in ((1, "largest and smallest"), (0, None)):
        ax.plot(steps, ends[:, column], color=tone("vermillion"), lw=1.3, label=name, zorder=3)
    _draw_monitor(ax, monitor)
    decades(ax.yaxis, low, high, zero)
    ax.grid(visible=False)
    ax.set_xlabel("step")
    ax.set_ylabel("eigenvalue")
    bar = figure.colorbar(
        drawn, cax=ax.inset_axes((1.025, 0, 0.032, 1)), label="eigenvalues in a bin"
    )
    bar.outline.set_edgecolor(tone("rule"))  # pyrefly: ignore
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    probes = len(np.atleast_2d(np.asarray(densities[steps[0]].nodes)))
    under = (
        f"{densities[steps[0]].n:,} eigenvalues at {len(steps)} steps, "
        f"from {probes} probe{'s' * (probes != 1)}"
    )
    canvas.caption(ax, title, under if line is None else line)
    canvas.legend(ax)
    return figure


def _draw_monitor(ax: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    held = [record for record in records if record.get("sharpness") is not None]
    if not held:
        return
    steps = [record["step"] for record in held]
    values = [record["sharpness"] for record in held]
    ax.plot(steps, values, "o", color=tone("ink"), markersize=3, label="sharpness", zorder=4)
    limits = [(r["step"], r["sharpness"] / r["ratio"]) for r in held if r.get("ratio")]
    if limits:
        dashed: Any = (0, (4, 2))
        ax.plot(
            *zip(*limits, strict=True), color=tone("ink"), ls=dashed, lw=1.2, label="largest stable"
        )
        top = max(limit for _, limit in limits)
        ax.set_ylim(top=max(ax.get_ylim()[1], 1.15 * top))


def _counts(density: SpectralDensity, bins: np.ndarray) -> np.ndarray:
    """[bins] eigenvalues in each, averaged over probes."""
    nodes = np.atleast_2d(np.asarray(density.nodes, float))
    weights = np.atleast_2d(np.asarray(density.weights, float))
    rows = [
        np.histogram(np.clip(x, bins[0], bins[-1]), bins, weights=w)[0]
        for x, w in zip(nodes, weights, strict=True)
    ]
    return density.n * np.mean(rows, axis=0)


def _ends(density: SpectralDensity) -> tuple[float, float]:
    nodes = np.asarray(density.nodes, float)
    held = nodes[np.asarray(density.weights, float) > 0]
    return float(held.min()), float(held.max())


def _borders(steps: Sequence[int]) -> np.ndarray:
    """The borders of columns around steps: half way to the neighbours."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = [(a + b) / 2 for a, b in itertools.pairwise(steps)]
    first, last = steps[0] - (middle[0] - steps[0]), steps[-1] + (steps[-1] - middle[-1])
    return np.array([first, *middle, last])
