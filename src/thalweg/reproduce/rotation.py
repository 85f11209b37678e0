r"""Turning a bowl: gradient descent does not notice, methods that scale coordinates do.

The bowl is :math:`\tfrac12 (u^2 + 100 v^2)`, where (u, v) are the coordinates turned by an angle
about the minimum; the start turns with it, so that every angle is the same problem in other
coordinates. Gradient descent and heavy ball move by sums of gradients, which turn along. Adam
divides each coordinate by its own root mean square, which mends the condition number only where
the axes of the bowl are those of the parameters.

Counts are of the first step with f below a millionth of its first value, and of the step from which
f stays below it: a method that flies past the minimum has a low first count and a high second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD, Adam
from thalweg.problems import quadratic
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import walk


__all__ = ["EXPERIMENT"]

LOW, HIGH, LEVEL = 1.0, 100.0, 1e-6
ANGLES = torch.arange(0.0, 91.0, 5.0, dtype=torch.float64)  # degrees
PUBLISHED = "published counts for this bowl, start, precision and torch.optim's rules"
TURNS = "derived: sums of gradients turn with the bowl"
COORDINATES = "derived: turning by 90 degrees exchanges the coordinates, up to sign"
STAYS = "counted here; gradient descent shrinks f at each step, the others need not"

Make = Callable[[list[Tensor]], Any]


@final
@dataclass(frozen=True)
class Method:
    """A method: how it is drawn and called, how it is made, and its budget in steps."""

    label: str
    title: str
    make: Make
    budget: int


METHODS = (
    Method("sgd", "gradient descent, rate 2/101", lambda p: SGD(p, lr=2 / (LOW + HIGH)), 600),
    Method("momentum", "heavy ball 0.9, rate 0.01", lambda p: SGD(p, lr=0.01, momentum=0.9), 600),
    Method("adam", "Adam, rate 0.01", lambda p: Adam(p, lr=0.01), 3000),
    Method("amsgrad", "Adam, rate 0.1", lambda p: Adam(p, lr=0.1), 3000),
)


def turned(degrees: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The bowls of these angles on points [..., angles, 2], and the starts [angles, 2]."""
    cos, sin = torch.cos(degrees * math.pi / 180), torch.sin(degrees * math.pi / 180)

    def bowls(points: Tensor) -> Tensor:
        x, y = points.unbind(-1)
        return 0.5 * (LOW * (cos * x + sin * y) ** 2 + HIGH * (cos * y - sin * x) ** 2)

    return bowls, torch.stack([-cos - sin, cos - sin], dim=-1)  # (-1, 1), turned


def counts(make: Make, budget: int, degrees: Tensor = ANGLES) -> tuple[list[int], list[int]]:
    """First and last count for each angle, [angles]; the budget + 1 where f is not below.

    All angles are walked at once: no method here lets one coordinate's step depend on another's.
    """
    bowls, starts = turned(degrees)
    heights = bowls(walk(bowls, starts, make, budget))
    low = heights < LEVEL * heights[0]
    first = torch.where(low.any(0), low.int().argmax(0), budget + 1)
    last = budget + 1 - low.flip(0).int().cummin(0).values.sum(0)
    return first.tolist(), last.tolist()


def claims(found: list[tuple[list[int], list[int]]]) -> list[Claim]:
    """The published counts, what follows from the rules, and the stricter count."""
    across, gradient, ball, slow, fast = ANGLES.tolist().index(45.0), *METHODS
    first = {method: row for method, (row, _) in zip(METHODS, found, strict=True)}
    last = {method: row for method, (_, row) in zip(METHODS, found, strict=True)}
    made = []
    for method, straight, oblique in (
        (gradient, 346, 346),
        (slow, 269, 2818),
        (fast, 82, 406),
    ):
        for words, expected, row in (
            ("not turned", straight, 0),
            ("turned by 45", oblique, across),
        ):
            count = first[method][row]
            claim = f"{method.title}, {words}: steps"
            made.append(Claim(claim, PUBLISHED, expected, count, count == expected))
    for method in (gradient, ball):
        span = [min(first[method]), max(first[method])]
        same = [first[method][0]] * 2
        claim = f"{method.title}: fewest and most steps over {len(ANGLES)} angles"
        made.append(Claim(claim, TURNS, same, span, span == same))
    for method in (slow, fast):
        ends = first[method][0], first[method][-1]
        claim = f"{method.title}: steps at 90 degrees as at 0"
        made.append(Claim(claim, COORDINATES, *ends, ends[0] == ends[1]))
    for method in (gradient, slow):
        hit, stay = ([row[method][k] for k in (0, across)] for row in (first, last))
        claim = f"{method.title}: f stays below from the first count on, at 0 and 45 degrees"
        made.append(Claim(claim, STAYS, hit, stay, hit == stay))
    for method in (ball, fast):
        hit, stay = first[method][0], last[method][0]
        rises = f"f rises above again, of {method.budget:,} steps below only from"
        claim = f"{method.title}, not turned: {rises}"
        made.append(Claim(claim, STAYS, f"> {hit}", stay, stay > hit))
    return made


def _run() -> Outcome:
    found = [counts(method.make, method.budget) for method in METHODS]
    settings = {
        "f": "(u^2 + 100 v^2) / 2, (u, v) turned about the minimum; the start (-1, 1) turns along",
        "dtype": "float64",
        "stop": "first step with f < 1e-6 of its first value; and from when on f stays below",
        "angles": "0 to 90 degrees by 5",
        "optimizers": {method.title: f"{method.budget} steps" for method in METHODS},
        "adam": "betas (0.9, 0.999), eps 1e-8, constant rate",
        "runs": "one each: nothing is random",
    }
    figures = {"angles": _angles(found), "paths": _paths(found)}
    return Outcome(tuple(claims(found)), figures, settings)


@styled
def _angles(found: list[tuple[list[int], list[int]]]) -> Figure:
    figure, axes = canvas.axes(None)
    for method, (first, last) in zip(METHODS, found, strict=True):
        look = series(method.label)
        style = {"color": look.colour, "ls": look.dash, "marker": look.marker}
        axes.plot(ANGLES, first, label=method.title, **style)
        if last != first:
            axes.plot(ANGLES, last, color=look.colour, lw=0.9, ls=":")
    axes.plot([], [], color=tone("muted"), lw=0.9, ls=":", label="from where f stays below")
    axes.set(xlabel="angle, degrees", ylabel="steps to f = 1e-6 of its start (log)")
    axes.set_xticks(range(0, 91, 15))
    canvas.log_axis(axes.yaxis, 70, 5000)
    line = "curvatures 1 and 100, start (−1, 1) turned along, float64, one run each"
    canvas.caption(axes, "Turning the bowl: Adam notices, gradient descent does not", line)
    canvas.legend(axes)
    return figure


@styled
def _paths(found: list[tuple[list[int], list[int]]]) -> Figure:
    figure = Figure(figsize=(12.0, 3.7), layout="constrained")
    panels = iter(figure.subplots(1, 4))
    for index in (0, 2):
        method = METHODS[index]
        name, _, rate = method.title.partition(", ")
        for angle in (0.0, 45.0):
            bowl, steps = _drawn(angle), found[index][0][ANGLES.tolist().index(angle)]
            start = torch.tensor(bowl["start"], dtype=torch.float64)
            path = walk(bowl["fn"], start, method.make, steps).tolist()
            title = f"{name}: {steps:,} steps"
            line, box = f"{rate}, turned by {angle:g} degrees", next(panels)
            contour(bowl, {method.label: path}, ax=box, title=title, line=line, legend=False)
            if index == 0:  # thinner, so that its zig-zag does not close to a surface
                next(k for k in box.lines if k.get_label() == method.label).set_linewidth(0.6)
    figure.suptitle("The same bowl and start, turned; to f = 1e-6 of its start; one run each")
    return figure


def _drawn(angle: float) -> dict[str, Any]:
    radians = math.radians(angle)
    start = (-math.cos(radians) - math.sin(radians), math.cos(radians) - math.sin(radians))
    bowl = quadratic((LOW, HIGH), radians, start=start)
    x = np.linspace(-1.6, 1.2, 141)
    z = bowl(torch.tensor(np.stack(np.meshgrid(x, x), axis=-1))).tolist()
    minima = [[0.0, 0.0, 0.0]]
    return {"x": x, "y": x, "z": z, "minima": minima, "start": start, "fn": bowl.fn}


EXPERIMENT = Experiment(
    name="rotation",
    title="Turning a bowl by 45 degrees: gradient descent does not notice, Adam does",
    summary=(
        "Steps to a millionth of the first value on a quadratic of condition number 100, turned "
        "by 0 to 90 degrees: gradient descent and heavy ball take the same at every angle, Adam "
        "up to ten times as many. First counts reward flukes, so the step from which f stays below "
        "is counted too."
    ),
    run=_run,
    seconds=8.0,
)
