r"""What the moving average of curvature is for: a bowl with ripples.

:math:`f(x) = x^2 + 0.1\, x \sin(20 \pi x)` is a bowl whose second derivative,
:math:`2 + 4\pi\cos(20\pi x) - 40\pi^2 x \sin(20\pi x)`, swings by almost 400 to both sides near
x = 1, where the bowl's own is 2. A step divided by the curvature of one point is long or short by
chance; divided by an average over points it is neither.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import AdaHessian
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.curved_walk import curved_walk


__all__ = ["EXPERIMENT"]

PAPER = "Yao et al., AdaHessian, 2021, section 3.3"
STARTS = torch.linspace(0.2, 1.0, 81, dtype=torch.float64)
RATES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
STEPS, VALLEY, BETA1, DRAWN = 1000, 0.1, 0.9, 60
AVERAGED, ALONE = 0.999, 0.0
KINDS = (
    (ALONE, "curvature of the point alone", "vermillion", "s"),
    (AVERAGED, "average of curvature", "blue", "o"),
)


def ripples(x: Tensor) -> Tensor:
    """The function, entry by entry."""
    return x**2 + 0.1 * x * (20 * math.pi * x).sin()


@functools.cache
def path(rate: float, beta2: float, beta1: float = BETA1) -> np.ndarray:
    """The points from all starts, [steps + 1, starts]; one coordinate each, so H z is exact."""

    def method(params: list[Tensor]) -> Any:
        return AdaHessian(params, lr=rate, betas=(beta1, beta2), eps=1e-12)

    return curved_walk(lambda x: ripples(x).sum(), STARTS, method, STEPS).numpy()


def reached(points: np.ndarray) -> np.ndarray:
    """The first iteration inside the valley, |x| <= 0.1; infinity where there is none."""
    inside = np.abs(points) <= VALLEY
    return np.where(inside.any(0), inside.argmax(0).astype(float), np.inf)


def settled(points: np.ndarray) -> np.ndarray:
    """The first iteration from which on all are inside; infinity where the last is outside."""
    outside = ~(np.abs(points) <= VALLEY)
    last = len(points) - outside[::-1].argmax(0).astype(float)
    return np.where(outside[-1], np.inf, np.where(outside.any(0), last, 0.0))


def best(beta2: float) -> float:
    """The rate whose median start reaches the valley first."""
    return min(RATES, key=lambda rate: float(np.median(reached(path(rate, beta2)))))


def claims() -> tuple[Claim, ...]:
    """Without the average, with it, and what the published count leaves out."""
    runs = len(RATES) * len(STARTS)
    alone = sum(int(np.isfinite(settled(path(rate, ALONE))).sum()) for rate in RATES)
    rate = best(AVERAGED)
    counts = reached(path(rate, AVERAGED))
    low, high = np.quantile(counts, [0.25, 0.75])
    stays = settled(path(rate, AVERAGED))
    median = float(np.median(stays))
    return (
        Claim(
            f"without the average of curvature: of {runs} runs ({len(RATES)} rates, "
            f"{len(STARTS)} starts) in the valley for good within 1,000 iterations",
            f"{PAPER}: about 1,000 iterations; at most 1 run in 20",
            f"<= {runs // 20}",
            alone,
            alone <= runs // 20,
        ),
        Claim(
            f"with it, at the best of {len(RATES)} rates, {rate:g}: iterations until the valley is "
            f"reached, median of {len(STARTS)} starts (quartiles {low:g} and {high:g})",
            f"{PAPER}: 7; to 2 iterations",
            7,
            float(np.median(counts)),
            abs(float(np.median(counts)) - 7) <= 2,
        ),
        Claim(
            "with it, at that rate: iterations until it is in the valley for good, median",
            f"{PAPER}: 7; to 2 iterations",
            7,
            median if math.isfinite(median) else "not within 1,000",
            abs(median - 7) <= 2,
            because=(
                "The rate that reaches the valley in so few iterations is large: the averaged "
                "curvature is that of the ripples, near 200, and steps still overshoot a valley "
                "of width 0.2."
            ),
        ),
        Claim(
            "with it, at the best rate for that: starts in the valley for good within 1,000",
            f"{PAPER}, shown for one start; more than half",
            f"> {len(STARTS) // 2}",
            (most := max(int(np.isfinite(settled(path(r, AVERAGED))).sum()) for r in RATES)),
            most > len(STARTS) // 2,
        ),
    )


def _run() -> Outcome:
    settings = {
        "f": "x^2 + 0.1 x sin(20 pi x)",
        "starts": "81 from 0.2 to 1, evenly",
        "optimizer": "thalweg.optim.AdaHessian, hessian_power 1, eps 1e-12",
        "betas": f"({BETA1}, {AVERAGED}); without the average ({BETA1}, {ALONE:g})",
        "lr": RATES,
        "iterations": STEPS,
        "valley": "|x| <= 0.1, which holds both lowest points, x = -0.0734 and 0.0734",
        "dtype": "float64",
        "runs": "one each: in one coordinate the product with a random sign is exact",
    }
    figures = {"paths": _paths(), "rates": _rates()}
    return Outcome(claims(), figures, settings)


def _shown() -> int:
    """The start with the median count, the last of them that comes to stay soonest."""
    points = path(best(AVERAGED), AVERAGED)
    median = np.median(reached(points))
    far = np.abs(reached(points) - median)
    return int(np.lexsort((settled(points), far))[0])


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rate, column = best(AVERAGED), _shown()
    widest = 1.1
    for beta2, name, colour, mark in KINDS:
        points = path(rate, beta2)[: DRAWN + 1, column]
        near = torch.tensor(points[:13])
        widest = max(widest, 1.05 * float(near.abs().max())) if beta2 else widest
        left.plot(near, ripples(near), mark, ls=":", lw=0.9, ms=4, color=tone(colour), label=name)
        right.plot(np.maximum(np.abs(points), 1e-4), color=tone(colour), label=name)
    grid = torch.linspace(-widest, widest, 2001, dtype=torch.float64)
    left.plot(grid, ripples(grid), color=tone("muted"), lw=0.8, zorder=0)
    left.set(xlabel="x", ylabel="f(x)", xlim=(-widest, widest), ylim=(-0.05, 1.1 * widest**2))
    left.set_title("The first 12 iterations")
    right.axhline(VALLEY, color=tone("muted"), lw=0.9, ls=":")
    right.annotate("the valley", (DRAWN * 0.82, VALLEY * 0.6), fontsize=8.5)
    right.set(
        yscale="log", xlabel="iteration", ylabel="|x| (log)", title="Distance from the centre"
    )
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    start = float(STARTS[column])
    figure.suptitle(
        f"AdaHessian on x² + 0.1 x sin(20πx) from x = {start:.2f}, a start with the median count; "
        f"rate {rate:g}"
    )
    return figure


@styled
def _rates() -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for beta2, name, colour, mark in KINDS:
        first = [np.median(reached(path(rate, beta2))) for rate in RATES]
        held = [np.isfinite(settled(path(rate, beta2))).mean() for rate in RATES]
        shown = [value if math.isfinite(value) else np.nan for value in first]
        left.plot(RATES, shown, f"{mark}-", color=tone(colour), label=name)
        right.plot(RATES, held, f"{mark}-", color=tone(colour), label=name)
    left.axhline(7, color=tone("muted"), lw=0.9, ls=":")
    left.annotate("published: 7", (RATES[0], 7.6), fontsize=8.5)
    left.set(xscale="log", yscale="log", xlabel="rate (log)", ylabel="iteration (log)")
    for axes in (left, right):
        axes.set_xlim(RATES[0] / 1.2, RATES[-1] * 1.2)
    left.set_title("Reaches the valley (no point: not by 1,000)")
    right.set(xscale="log", xlabel="rate (log)", ylabel="share of starts", ylim=(-0.03, 1.03))
    right.set_title("In the valley for good within 1,000")
    left.legend()
    figure.suptitle(
        f"{len(STARTS)} starts from 0.2 to 1 at each of {len(RATES)} rates, β₁ = {BETA1}"
    )
    return figure


EXPERIMENT = Experiment(
    name="hessian-momentum",
    title="Hessian momentum: curvature of a point is noise, its average is not",
    summary=(
        "AdaHessian on a bowl with ripples, whose second derivative is two hundred times the "
        "bowl's own. Divided by the curvature of the point alone, steps are long or short by "
        "chance, and next to no run comes to stay; divided by a moving average, the valley is "
        "reached in the published seven iterations at the right rate. From there to staying takes "
        "longer than the published count says."
    ),
    run=_run,
    seconds=15.0,
)
