r"""The straight line through weight space: from the start of training to its end, and between two.

Along :math:`J((1 - t)\,\theta_0 + t\,\theta_1)` Goodfellow et al. saw no obstacle between the start
and the solution of one run, whatever the network, and a hump between the solutions of two. The path
that training takes is not the line: it goes round, at a distance of a good part of its length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from thalweg.landscape import Interpolation, interpolate
from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.digit_networks import Trained, closure, layers, train
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT", "Family", "claims", "detour", "excess", "lines_of"]

GOODFELLOW = "Goodfellow, Vinyals and Saxe 2014, 1412.6544"
SEEDS, STEPS, POINTS = 6, 600, 41


@final
@dataclass(frozen=True)
class Kind:
    """An activation, and the rate at which it is trained."""

    name: str
    activation: Callable[[], nn.Module]
    rate: float
    tone: str


KINDS = (
    Kind("ReLU", nn.ReLU, 0.1, "blue"),
    Kind("tanh", nn.Tanh, 0.1, "vermillion"),
    Kind("sigmoid", nn.Sigmoid, 0.3, "green"),
)


@final
@dataclass(frozen=True, eq=False)
class Family:
    """The runs of one activation, and the lines through them.

    Args:
        kind: The activation.
        runs: The runs.
        ways: From the start to the solution of each.
        humps: Between the solutions of each pair.
    """

    kind: Kind
    runs: list[Trained]
    ways: list[Interpolation]
    humps: list[Interpolation]


def lines_of(kind: Kind, seeds: int = SEEDS, steps: int = STEPS) -> Family:
    """Train, and look along the lines."""
    build = partial(layers, 64, 64, 64, 10, activation=kind.activation)
    descend = partial(torch.optim.SGD, lr=kind.rate, momentum=0.9)
    runs = [train(build, descend, steps, seed, every=5) for seed in range(seeds)]
    ways = []
    for run in runs:
        test = closure(run.model, "test")
        line = partial(interpolate, closure(run.model), run.start, run.model, POINTS)
        ways.append(line(beyond=0.25, also={"test": test}))
    loss = closure(runs[0].model)
    humps = [interpolate(loss, a.model, b.model, 25) for a, b in combinations(runs, 2)]
    return Family(kind, runs, ways, humps)


def excess(t: np.ndarray, values: np.ndarray) -> float:
    """How far a curve rises above the largest convex function under it, over its range.

    Example:
        >>> excess(np.array([0.0, 0.5, 1.0]), np.array([2.0, 1.5, 0.0]))
        0.25
    """
    hull: list[int] = []
    for k in range(len(t)):
        while len(hull) > 1:
            a, b = hull[-2:]
            if (values[b] - values[a]) * (t[k] - t[a]) < (values[k] - values[a]) * (t[b] - t[a]):
                break
            hull.pop()
        hull.append(k)
    beneath = np.interp(t, t[hull], values[hull])
    return float((values - beneath).max() / (values.max() - values.min()))


def detour(run: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Where a path is along the line from its start to its end, and how far off, in its length."""
    away = run.path.matrix().double() - run.path.matrix()[0].double()
    line = away[-1]
    along = away @ line / (line @ line)
    off = (away - along[:, None] * line).norm(dim=1) / line.norm()
    return along.numpy(), off.numpy()


def claims(families: list[Family]) -> list[Claim]:
    """What was published of both lines, and of the path beside them."""
    made = []
    for family in families:
        name, count = family.kind.name, len(family.ways)
        falls = sum(way.monotone() for way in family.ways)
        words = f"{name}: the loss falls all the way from the start to the solution"
        made.append(
            Claim(words, GOODFELLOW, f"{count} of {count}", f"{falls} of {count}", falls == count)
        )
        rises = [hump.barrier() for hump in family.humps]
        ends = [max(hump.loss[0], hump.loss[-1]) for hump in family.humps]
        words = f"{name}: a hump between two solutions, in every pair; the lowest hump over the "
        words += "worse end"
        least = min(rise / end for rise, end in zip(rises, ends, strict=True))
        made.append(Claim(words, GOODFELLOW, "> 1", float(f"{least:.3g}"), least > 1, n=len(rises)))
        made.append(_off(name, [float(detour(run)[1].max()) for run in family.runs]))
        made.append(_bent(name, [_above(way) for way in family.ways]))
    return made


def _off(name: str, distances: list[float]) -> Claim:
    found = Interval.of(distances)
    half = found.half_width or 0.0
    interval = (found.mean - half, found.mean + half)
    words = f"{name}: training leaves the line; its largest distance, over the line's length"
    source = f"{GOODFELLOW}; clearly above 0"
    return Claim(words, source, "> 0.1", found.mean, interval[0] > 0.1, interval, found.n)


def _above(way: Interpolation) -> float:
    inside = (way.t >= 0) & (way.t <= 1)
    return excess(way.t[inside], way.loss[inside])


def _bent(name: str, shares: list[float]) -> Claim:
    found = Interval.of(shares)
    half = found.half_width or 0.0
    interval = (found.mean - half, found.mean + half)
    words = f"{name}: nearly convex along the line; its rise above a convex curve, over its range"
    because = (
        "Near the start the loss bends down like the shoulder of a hill: small weights put out "
        "nearly nothing, and turning them up pays only when both layers have grown. Frankle 2020 "
        "(2012.06898) saw the same plateau, and wider, in larger networks."
    )
    holds = found.mean <= 0.05
    return Claim(
        words, f"{GOODFELLOW}; at most 5 %", 0.05, found.mean, holds, interval, found.n, because
    )


@styled
def _lines(families: list[Family]) -> Figure:
    figure = Figure(figsize=(11.0, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for family in families:
        colour = tone(family.kind.tone)
        for k, way in enumerate(family.ways):
            label = f"{family.kind.name}, train" if k == 0 else None
            left.plot(way.t, way.loss, color=colour, lw=1.0, label=label)
            label = f"{family.kind.name}, test" if k == 0 else None
            left.plot(way.t, way.metrics["test_loss"], color=colour, lw=0.9, ls=":", label=label)
        heights = np.array([hump.loss for hump in family.humps])
        t = family.humps[0].t
        right.fill_between(t, heights.min(0), heights.max(0), color=colour, alpha=0.13, lw=0)
        right.plot(t, heights.mean(0), color=colour, label=f"{family.kind.name}, mean")
    for end in (0.0, 1.0):
        left.axvline(end, color=tone("rule"), lw=1.0, zorder=0)
    low = min(way.loss.min() for family in families for way in family.ways)
    high = max(way.loss.max() for family in families for way in family.ways)
    canvas.log_axis(left.yaxis, low, high)
    left.set(xlabel="t, from the start (0) to the solution (1)", ylabel="cross-entropy (log)")
    right.set(xlabel="t, from one solution (0) to another (1)", ylabel="cross-entropy")
    right.set_ylim(bottom=0.0)
    seeds, pairs = len(families[0].ways), len(families[0].humps)
    canvas.caption(left, "One run: downhill all the way", f"{seeds} seeds each, {POINTS} points")
    canvas.caption(
        right, "Two runs: a hump between", f"{pairs} pairs each; band: lowest to highest"
    )
    left.legend(ncols=1)
    right.legend()
    return figure


@styled
def _detours(families: list[Family]) -> Figure:
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True)
    for axes, family in zip(panels, families, strict=True):
        colour = tone(family.kind.tone)
        for run in family.runs:
            along, off = detour(run)
            axes.plot(along, off, color=colour, lw=1.1)
            axes.plot(along[[0, -1]], off[[0, -1]], "o", color=colour, ms=4)
        axes.axhline(0.0, color=tone("muted"), lw=0.9, ls=":")
        axes.set(xlabel="along the line (start 0, solution 1)", title=family.kind.name)
    panels[0].set_ylabel("distance from the line")
    figure.suptitle(
        f"Training does not follow the line; {len(families[0].runs)} seeds each, "
        "lengths over that of the line"
    )
    return figure


def _run() -> Outcome:
    families = [lines_of(kind) for kind in KINDS]
    settings: dict[str, Any] = {
        "data": "digits, 1168 to train on, 359 for the test",
        "network": "64-64-64-10",
        "training": f"SGD with momentum 0.9, {STEPS} steps of 64",
        "rates": {kind.name: kind.rate for kind in KINDS},
        "seeds": SEEDS,
        "points": {"start to solution": POINTS, "solution to solution": 25},
    }
    figures = {"lines": _lines(families), "detours": _detours(families)}
    return Outcome(tuple(claims(families)), figures, settings)


EXPERIMENT = Experiment(
    name="linear-path",
    title="The straight line from the start to the solution, and from one solution to another",
    summary=(
        "Three kinds of network on the digits, six seeds each: the loss along the line from the "
        "first weights to the last falls all the way, between two solutions it has a hump, and "
        "training itself takes another way."
    ),
    run=_run,
    seconds=45.0,
)
