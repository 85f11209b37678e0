r"""Fletcher and Reeves against Polak and Ribiere: who gets out of a bad direction.

On :math:`\tfrac12 \lVert x\rVert^2` with exact searches, Fletcher and Reeves's rule keeps the
angle :math:`\theta` between a direction and the way down: the error shrinks by
:math:`\sin\theta` a step, for ever. Polak and Ribiere's :math:`\beta` is zero there, and the next
step ends at the minimum. A function that is a bowl for some steps behaves so: the first rule jams,
the second starts again by itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.objective import Objective
from thalweg.optim import NonlinearCG
from thalweg.report import canvas
from thalweg.report.style import SeriesStyle, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

RULES = {"FR": "fletcher-reeves", "PR+": "polak-ribiere"}
LOOKS = {"FR": SeriesStyle("vermillion", (0, (5, 1.6)), "s"), "PR+": SeriesStyle("blue", "-", "o")}
POWELL = "Powell, Restart procedures for the conjugate gradient method, 1977"
TABLE = "Nocedal and Wright 2006, table 5.1; Gilbert and Nocedal 1992"
ANGLES = (60.0, 80.0, 87.0)  # degrees
N, MOST, TOLERANCE = 1000, 1500, 1e-5

Function = Callable[[Tensor], Tensor]


# ---- a bad direction in a round bowl --------------------------------------------------------
def jammed(rule: str, degrees: float, steps: int) -> list[tuple[float, float]]:
    """From a direction so far off the way down: (angle in degrees, error) step by step.

    The direction is given to the method as the one that its last step left behind.
    """
    point = nn.Parameter(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    optimizer = NonlinearCG([point], rule=rule, restart=0, decrease=1e-10, curvature=1e-9)
    closure = Objective.of(lambda x: 0.5 * x.dot(x)).closure(point)
    off = math.tan(math.radians(degrees))
    across = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    optimizer.memory.update(direction=across, beta=off, count=0, reach=1.0, gained=1.0)
    found = []
    for _ in range(steps):
        before, error = point.detach().clone(), float(point.detach().norm())
        optimizer.step(closure)
        move = point.detach() - before
        if not move.any():
            break
        cosine = float(-move.dot(before) / (move.norm() * error))
        found.append((math.degrees(math.acos(min(cosine, 1.0))), error))
    return [*found, (math.nan, float(point.detach().norm()))]


def angle_claims(first: str = "fletcher-reeves", second: str = "polak-ribiere") -> list[Claim]:
    """The angle that stays, and the one that does not."""
    claims = []
    for degrees in ANGLES:
        path = jammed(first, degrees, 30)
        words = f"round bowl, first direction {degrees:g} degrees off: FR's angle after 30 steps"
        claims.append(near(words, POWELL, degrees, path[-2][0], 1e-6))
        factor = (path[-1][1] / path[0][1]) ** (1 / 30)
        words = f"round bowl, {degrees:g} degrees off: FR's factor of the error a step, the sine"
        law = math.sin(math.radians(degrees))
        claims.append(near(words, "derived from it", law, factor, 1e-6))
    left = max(jammed(second, degrees, 2)[-1][1] for degrees in ANGLES)
    words = "round bowl, the same directions: PR+'s error after two steps, the largest"
    claims.append(Claim(words, POWELL, "below 1e-12", float(f"{left:.1e}"), left < 1e-12))
    return claims


# ---- functions of a thousand variables ------------------------------------------------------
def trigonometric(x: Tensor) -> Tensor:
    """More, Garbow and Hillstrom's 26th function."""
    n, cosines = len(x), x.cos()
    place = torch.arange(1, n + 1, dtype=x.dtype)
    return (n - cosines.sum() + place * (1 - cosines) - x.sin()).square().sum()


def powell_singular(x: Tensor) -> Tensor:
    """Their 22nd, extended: the Hessian is singular at the minimum."""
    a, b, c, d = x.view(-1, 4).unbind(1)
    squares = (a + 10 * b).square() + 5 * (c - d).square()
    return (squares + (b - 2 * c) ** 4 + 10 * (a - d) ** 4).sum()


def generalised_rosenbrock(x: Tensor) -> Tensor:
    """A chain of valleys, with the minimum 1."""
    steep, flat = x[1:] - x[:-1].square(), 1 - x[1:]
    return 1 + (100 * steep.square() + flat.square()).sum()


@final
@dataclass(frozen=True)
class Case:
    """A function with its start."""

    name: str
    fn: Function
    start: Tensor


def cases(n: int = N) -> list[Case]:
    """Three functions of the published table, with their starts."""
    double = torch.float64
    half = n // 2
    return [
        Case("TRIGON", trigonometric, torch.full((n,), 1 / n, dtype=double)),
        Case(
            "XPOWELL",
            powell_singular,
            torch.tensor([3.0, -1.0, 0.0, 1.0], dtype=double).repeat(n // 4),
        ),
        Case(
            "GENROS",
            generalised_rosenbrock,
            torch.arange(1, half + 1, dtype=double) / (half + 1),
        ),
    ]


@final
@dataclass(frozen=True)
class Walk:
    """A run: the gradients' largest entries, and the cosines of direction and way down."""

    steps: int
    evaluations: int
    ended: bool
    gradients: list[float]
    cosines: list[float]


def follow(case: Case, rule: str, most: int = MOST) -> Walk:
    """Until max |g| <= 1e-5 (1 + |f|)."""
    point = nn.Parameter(case.start.clone())
    optimizer = NonlinearCG([point], rule=rule, restart=0)
    closure = Objective.of(case.fn).closure(point)
    value, (before,) = closure.value_and_grad()
    gradients: list[float] = []
    cosines: list[float] = []
    while len(gradients) < most:
        where = point.detach().clone()
        value = optimizer.step(closure)
        grad, move = point.grad, point.detach() - where
        assert grad is not None
        cosines.append(float(-move.dot(before) / (move.norm() * before.norm())))
        gradients.append(float(grad.abs().max()))
        before = grad.clone()
        if gradients[-1] <= TOLERANCE * (1 + abs(float(value))):
            return Walk(len(gradients), optimizer.counts.nfev, True, gradients, cosines)
    return Walk(len(gradients), optimizer.counts.nfev, False, gradients, cosines)


@functools.cache
def walks(n: int = N, most: int = MOST) -> dict[str, dict[str, Walk]]:
    """Every run, by function and rule."""
    return {
        case.name: {name: follow(case, rule, most) for name, rule in RULES.items()}
        for case in cases(n)
    }


def walk_claims(found: dict[str, dict[str, Walk]]) -> list[Claim]:
    """Steps, evaluations and cosines on the three functions."""
    claims = []
    published = {"TRIGON": (231, 40), "XPOWELL": (533, 97)}
    for name, (slow, fast) in published.items():
        ratio = found[name]["FR"].steps / found[name]["PR+"].steps
        words = f"{name}, n = {N}: FR's steps over PR+'s ({slow} and {fast} in the table)"
        holds = ratio > 2 and found[name]["PR+"].ended
        claims.append(Claim(words, TABLE, "over 2", round(ratio, 2), holds))
    slow_run, fast_run = found["GENROS"]["FR"], found["GENROS"]["PR+"]
    told = {True: "ended", False: "not ended"}
    words = f"GENROS, n = {N // 2}: PR+ ends (after 1,067 steps in the table), FR does not"
    measured = (
        f"PR+ {told[fast_run.ended]} after {fast_run.steps:,}, "
        f"FR {told[slow_run.ended]} after {slow_run.steps:,}"
    )
    holds = fast_run.ended and not slow_run.ended
    claims.append(Claim(words, TABLE, "PR+ ended, FR not", measured, holds))
    middle = {rule: float(np.median(run.cosines)) for rule, run in found["TRIGON"].items()}
    ratio = middle["PR+"] / middle["FR"]
    words = "TRIGON: median cosine of step and way down, PR+'s over FR's"
    return [*claims, Claim(words, POWELL, "over 2", round(ratio, 2), ratio > 2)]


def _run() -> Outcome:
    found = walks()
    figures = {"angle": _angles(), "walks": _drawn(found)}
    settings = {
        "optimizer": "thalweg.optim.NonlinearCG, no restarts after a number of steps; Wolfe "
        "search with c2 = 0.1, in the round bowl 1e-9",
        "bowl": "|x|^2 / 2 in three dimensions from (1, 0, 0), the last direction across",
        "functions": "trigonometric and extended Powell singular, n = 1000; Rosenbrock's chain, "
        "n = 500",
        "stop": f"max |g| <= {TOLERANCE:g} (1 + |f|), or {MOST:,} steps",
        "steps": {name: {r: w.steps for r, w in row.items()} for name, row in found.items()},
        "evaluations": {
            name: {r: w.evaluations for r, w in row.items()} for name, row in found.items()
        },
        "dtype": "float64",
    }
    return Outcome((*angle_claims(), *walk_claims(found)), figures, settings)


@styled
def _angles() -> Figure:
    figure, axes = canvas.axes(None)
    for degrees, colour in zip(ANGLES, ("sky", "orange", "vermillion"), strict=True):
        path = jammed(RULES["FR"], degrees, 30)
        label = f"FR, first direction {degrees:g}° off"
        axes.plot([error for _, error in path], ".-", color=tone(colour), label=label)
    path = jammed(RULES["PR+"], ANGLES[-1], 2)
    label = f"PR+, first direction {ANGLES[-1]:g}° off"
    shown = [max(error, 1e-17) for _, error in path]
    axes.plot(shown, "o-", color=tone("blue"), label=label)
    axes.set(yscale="log", xlabel="step", ylabel="distance from the minimum (log)")
    line = "|x|²/2, exact searches: FR keeps the angle, PR+ starts again by itself"
    canvas.caption(axes, "One bad direction: FR never gets out of it", line)
    canvas.legend(axes)
    return figure


@styled
def _drawn(found: dict[str, dict[str, Walk]]) -> Figure:
    figure = Figure(figsize=(10.0, 5.6), layout="constrained")
    grid = figure.subplots(2, 3, sharex="col")
    for column, (name, runs) in enumerate(found.items()):
        for rule, run in runs.items():
            look = LOOKS[rule]
            steps = range(1, run.steps + 1)
            words = f"{rule}: {run.steps:,} steps" + ("" if run.ended else ", not ended")
            for axes, values in zip(grid[:, column], (run.gradients, run.cosines), strict=True):
                axes.plot(steps, values, color=look.colour, lw=1.1, label=words)
        grid[0, column].set(yscale="log", title=name)
        grid[0, column].legend(loc="lower left")
        grid[1, column].set(ylim=(-0.03, 1.05), xscale="log", xlabel="step (log)")
    grid[0, 0].set(ylabel="largest entry of the gradient (log)")
    grid[1, 0].set(ylabel="cosine of step and way down")
    figure.suptitle("A thousand variables (GENROS 500): where FR jams, steps are nearly across")
    return figure


EXPERIMENT = Experiment(
    name="fletcher-reeves-vs-polak-ribiere",
    title="Fletcher-Reeves jams where Polak-Ribiere starts again",
    summary=(
        "A bad direction in a round bowl, which one rule keeps for ever and the other drops at "
        "once, and three functions of up to a thousand variables from the literature's table: "
        "steps, evaluations, and the angle between the step and the way down."
    ),
    run=_run,
    seconds=15.0,
)
