r"""Adam and AdaHessian on one sigmoid neuron, two parameters, from the same starts.

The loss is the mean of :math:`(\sigma(w x + b) - y)^2` over points of a neuron with weight 1.5 and
bias 0.5: a valley with plateaus, lowest at a known point with loss 0. A run *stabilises* at the
first epoch from which on, to the last of 200, the loss stays at or below 1% of the loss at the
start. An epoch is one step on all points.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import AdaHessian, AdamW
from thalweg.report import contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.curved_walk import curved_walk
from thalweg.reproduce.walks import walk


__all__ = ["EXPERIMENT"]

ARTICLE = "Arya, AdaHessian: implementation, analysis and Adam comparison, 2024"
WEIGHT, BIAS, POINTS, EPOCHS = 1.5, 0.5, 60, 200
SHARE = 0.01
RATES = (0.05, 0.1, 0.15, 0.3, 0.5)
RUNS, SEED = 20, 0
METHODS = {"Adam": "adam", "AdaHessian": "adahessian"}
INPUTS = torch.linspace(-4, 4, POINTS, dtype=torch.float64)
TARGETS = torch.sigmoid(WEIGHT * INPUTS + BIAS)

Method = Callable[..., Any]


def loss(point: Tensor) -> Tensor:
    """The loss at (weight, bias); leading dimensions are kept."""
    outputs = torch.sigmoid(point[..., :1] * INPUTS + point[..., 1:])
    return (outputs - TARGETS).square().mean(-1)


@functools.cache
def starts() -> Tensor:
    """Twenty starts, uniform in [-4, 4] in both parameters."""
    source = torch.Generator().manual_seed(SEED)
    return torch.rand(RUNS, 2, generator=source, dtype=torch.float64) * 8 - 4


def adahessian_path(start: Tensor, rate: float, method: Method = AdaHessian) -> Tensor:
    """The points of a run with curvature."""
    return curved_walk(loss, start, lambda p: method(p, lr=rate), EPOCHS)


def adam_path(start: Tensor, rate: float) -> Tensor:
    """The points of a run of AdamW without decay, which is Adam."""
    return walk(loss, start, lambda p: AdamW(p, lr=rate, weight_decay=0.0), EPOCHS)


@functools.cache
def paths(name: str, rate: float) -> Tensor:
    """The runs from all starts, [runs, epochs + 1, 2]."""
    run = adam_path if name == "Adam" else adahessian_path
    return torch.stack([run(start, rate) for start in starts()])


def stabilises(points: Tensor) -> float:
    """The epoch at which a run stabilises, infinity if by 200 it has not."""
    losses = loss(points)
    above = torch.nonzero(~(losses <= SHARE * losses[0])).flatten()
    last = int(above[-1]) if len(above) else -1
    return float(last + 1) if last < EPOCHS else math.inf


@functools.cache
def epochs(name: str, rate: float) -> tuple[float, ...]:
    """The epoch of each start."""
    return tuple(stabilises(points) for points in paths(name, rate))


@functools.cache
def best(name: str) -> float:
    """The rate with the least median."""
    return min(RATES, key=lambda rate: float(np.median(epochs(name, rate))))


def claims() -> tuple[Claim, ...]:
    """The two methods, each at its best rate; then over rates; then the plateaus."""
    adam, ours = (np.array(epochs(name, best(name))) for name in METHODS)
    ratio, sooner = float(np.median(ours / adam)), int((ours < adam).sum())
    medians = {
        name: np.array([np.median(epochs(name, rate)) for rate in RATES]) for name in METHODS
    }
    ahead = int((medians["AdaHessian"] < medians["Adam"]).sum())
    rates = f"AdaHessian at {best('AdaHessian'):g}, Adam at {best('Adam'):g}"
    return (
        Claim(
            f"epoch at which the loss stabilises, AdaHessian's over Adam's, median of {RUNS} "
            f"starts ({rates}, each its best; medians {np.median(ours):g} and {np.median(adam):g})",
            f"{ARTICLE}: about 150 and 175, one start; below 1",
            round(150 / 175, 3),
            round(ratio, 3),
            ratio < 1,
            n=RUNS,
        ),
        Claim(
            f"of {RUNS} starts, at these rates: AdaHessian stabilises first",
            f"{ARTICLE}, one start; more than half",
            f"> {RUNS // 2}",
            sooner,
            sooner > RUNS // 2,
            n=RUNS,
        ),
        Claim(
            f"of {len(RATES)} rates, the same for both: AdaHessian's median epoch is less",
            f"{ARTICLE}, at one rate; at all",
            len(RATES),
            ahead,
            ahead == len(RATES),
            because=(
                "The rates of the two are not in one unit: Adam's is a length in parameters, "
                "AdaHessian's a share of a Newton step."
            ),
        ),
        Claim(
            "the least median epoch over rates: AdaHessian's over Adam's",
            f"{ARTICLE}: about 150 and 175, one start; below 1",
            round(150 / 175, 3),
            round(float(np.median(ours) / np.median(adam)), 3),
            float(np.median(ours)) < float(np.median(adam)),
            n=RUNS,
            because=(
                "It is first from most starts and last from a few, where a plateau has next to no "
                "curvature or negative one: the two medians over starts are nearly equal."
            ),
        ),
    )


def _run() -> Outcome:
    settings = {
        "model": "sigmoid(w x + b), mean squared error",
        "data": f"{POINTS} inputs from -4 to 4, targets of the neuron with w = 1.5, b = 0.5",
        "stabilises": "first epoch from which on, to epoch 200, the loss is <= 1% of the start's",
        "optimizers": "thalweg.optim.AdamW (weight_decay 0) and AdaHessian, defaults",
        "lr": list(RATES),
        "epochs": f"{EPOCHS}, one step on all points each",
        "starts": f"{RUNS}, uniform in [-4, 4]^2, seed {SEED}, the same for both",
        "dtype": "float64",
    }
    chosen = _shown()
    figures = {
        "losses": _losses(chosen),
        "contour": _contour(chosen),
        "surface": _surface(chosen),
        "rates": _rates(),
    }
    return Outcome(claims(), figures, settings)


def _shown() -> int:
    """The start with the median gap among those from which both stabilise."""
    adam, ours = (np.array(epochs(name, best(name))) for name in METHODS)
    both = np.flatnonzero(np.isfinite(adam) & np.isfinite(ours))
    gaps = (adam - ours)[both]
    return int(both[np.argsort(gaps, kind="stable")[len(gaps) // 2]])


def _grid(low: Sequence[float], high: Sequence[float], count: int = 121) -> tuple[Any, Any, Any]:
    w = torch.linspace(low[0], high[0], count, dtype=torch.float64)
    b = torch.linspace(low[1], high[1], count, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(w, b, indexing="xy"), -1)
    return w.numpy(), b.numpy(), loss(points).numpy()


def _box(chosen: int) -> tuple[list[float], list[float]]:
    """Around both paths and the minimum, with a margin."""
    seen = torch.cat([paths(name, best(name))[chosen] for name in METHODS])
    seen = torch.cat([seen, torch.tensor([[WEIGHT, BIAS]], dtype=torch.float64)])
    low, high = seen.amin(0) - 0.8, seen.amax(0) + 0.8
    return low.tolist(), high.tolist()


@styled
def _losses(chosen: int) -> Figure:
    figure = Figure(figsize=(6.6, 4.3), layout="constrained")
    axes = figure.add_subplot()
    for name, label in METHODS.items():
        look, rate = series(label), best(name)
        losses = loss(paths(name, rate)[chosen]).clamp_min(1e-12)
        epoch = stabilises(paths(name, rate)[chosen])
        axes.plot(
            losses, color=look.colour, ls=look.dash, label=f"{name}, {rate:g}: epoch {epoch:.0f}"
        )
        axes.plot([epoch], [losses[int(epoch)]], look.marker, color=look.colour, ms=7)
    bar = SHARE * float(loss(starts()[chosen]))
    axes.axhline(bar, color=tone("muted"), lw=0.9, ls=":")
    axes.annotate("1% of the start's", (EPOCHS * 0.7, bar * 1.3), fontsize=8.5)
    axes.set(yscale="log", xlabel="epoch", ylabel="loss (log)")
    axes.set_title(f"One neuron, start {chosen + 1} of {RUNS}, each at its best rate")
    axes.legend()
    return figure


@styled
def _contour(chosen: int) -> Figure:
    low, high = _box(chosen)
    w, b, heights = _grid(low, high)
    start = starts()[chosen].tolist()
    surface = {"x": w, "y": b, "z": heights, "minima": [[WEIGHT, BIAS, 0.0]], "start": start}
    drawn = {label: paths(name, best(name))[chosen].tolist() for name, label in METHODS.items()}
    line = f"start {chosen + 1} of {RUNS}, {EPOCHS} epochs, each at its best rate"
    figure = contour(surface, drawn, title="Two paths to the minimum of one neuron", line=line)
    figure.axes[0].set(xlabel="weight", ylabel="bias", aspect="auto")
    return figure


@styled
def _surface(chosen: int) -> Figure:
    figure = Figure(figsize=(7.4, 5.6), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    low, high = _box(chosen)
    w, b, heights = _grid(low, high, 61)
    axes.plot_surface(*np.meshgrid(w, b), heights, cmap="Greys", alpha=0.55, lw=0, zorder=1)
    for name, label in METHODS.items():
        look, path = series(label), paths(name, best(name))[chosen]
        axes.plot(
            *path.T.numpy(),
            loss(path).numpy() + 2e-3,
            color=look.colour,
            lw=2,
            label=name,
            zorder=3,
        )
    axes.plot([WEIGHT], [BIAS], [0.0], "*", color=tone("ink"), ms=10, label="minimum", zorder=4)
    axes.set(xlabel="weight", ylabel="bias", zlabel="loss")
    axes.view_init(elev=38, azim=-60)
    axes.set_title(f"The loss of one neuron, start {chosen + 1} of {RUNS}")
    axes.legend(loc="upper left")
    return figure


@styled
def _rates() -> Figure:
    figure = Figure(figsize=(6.6, 4.3), layout="constrained")
    axes = figure.add_subplot()
    for shift, (name, label) in zip((0.97, 1.03), METHODS.items(), strict=True):
        look = series(label)
        found = np.array([epochs(name, rate) for rate in RATES])
        shown = np.where(np.isfinite(found), found, EPOCHS * 1.06)
        for rate, row in zip(RATES, shown, strict=True):
            axes.plot([rate * shift] * RUNS, row, look.marker, color=look.colour, ms=3, alpha=0.5)
        axes.plot(
            np.array(RATES) * shift,
            np.median(shown, 1),
            color=look.colour,
            ls=look.dash,
            label=f"{name}, median",
        )
    axes.axhline(EPOCHS, color=tone("muted"), lw=0.9, ls=":")
    axes.set(xscale="log", xlabel="rate (log)", ylabel="epoch at which the loss stabilises")
    axes.set_title(f"{RUNS} starts at each rate; above the line: not within {EPOCHS}")
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


EXPERIMENT = Experiment(
    name="adahessian-neuron",
    title="One neuron: Adam and AdaHessian from the same starts",
    summary=(
        "A weight and a bias are trained for 200 epochs from twenty starts at five rates. The loss "
        "stabilises when it is at 1% of where it began and stays there. Each at its best rate, "
        "AdaHessian stabilises earlier from most starts, by about the published factor, and later "
        "from a few, so that the medians over starts are nearly equal."
    ),
    run=_run,
    seconds=30.0,
)
