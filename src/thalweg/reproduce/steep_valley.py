r"""Four runs in a steep valley: what the learning rate, momentum and Adam do to ill conditioning.

The valley is :math:`f(p) = \tfrac12 (p - m)^\top \mathrm{diag}(1, 100)\,(p - m)`, so gradient
descent with the rate :math:`\eta` multiplies the error along an eigenvector by
:math:`1 - \eta\lambda`: it is stable below :math:`2/\lambda_{\max}` and fastest at
:math:`2/(\lambda_{\min} + \lambda_{\max})`, where both ends shrink by
:math:`(\kappa - 1)/(\kappa + 1)` a step. Heavy ball at its best takes
:math:`(\sqrt\kappa - 1)/(\sqrt\kappa + 1)`.
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
from torch.optim import Optimizer

from thalweg.objective import Objective
from thalweg.optim import SGD, Adam
from thalweg.problems import quadratic
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome


__all__ = ["EXPERIMENT"]

LOW, HIGH = 1.0, 100.0
KAPPA = HIGH / LOW
TOLERANCE, LIMIT, BOX = 1e-6, 10_000, 5.0
STABLE = 2 / HIGH
OPTIMAL = 2 / (LOW + HIGH)
VALLEY = quadratic((LOW, HIGH), centre=(0.8, 0.6), start=(0.0, 0.0))
# As the figures name them, in the order of the runs.
NAMES = {"sgd": "SGD", "momentum": "momentum 0.9", "adam": "Adam"}
RATES = ("1.01 × 2/100", "2/101", "0.175 × 2/101", "2/101")
SOURCE = "published step counts for this valley, start, precision and stopping rule"


@final
@dataclass(frozen=True)
class Walk:
    """A run: its path, the values of f along it, and how it ended."""

    path: list[list[float]]
    values: list[float]
    ending: str

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.values)


def walk(make: Callable[[list[Tensor]], Optimizer]) -> Walk:
    """Step until f, taken before the step, is at most 1e-6; or a coordinate is beyond 5."""
    point = torch.nn.Parameter(torch.tensor(VALLEY.start))
    optimizer: Any = make([point])
    objective = Objective.of(VALLEY.fn)
    path, values = [point.tolist()], []
    while len(values) < LIMIT:
        values.append(float(optimizer.step(objective.closure(point))))
        path.append(point.tolist())
        if values[-1] <= TOLERANCE:
            return Walk(path, values, "converged")
        if point.detach().abs().max() > BOX:
            return Walk(path, values, "diverged")
    return Walk(path, values, "limit")


def _run() -> Outcome:
    rate = 0.175 * OPTIMAL
    walks = {
        "sgd, too fast": walk(lambda p: SGD(p, lr=1.01 * STABLE)),
        "sgd": walk(lambda p: SGD(p, lr=OPTIMAL)),
        "momentum": walk(lambda p: SGD(p, lr=rate, momentum=0.9)),
        "adam": walk(lambda p: Adam(p, lr=OPTIMAL)),
    }
    claims = (*_counts(walks), *_theory(walks))
    figures = {"paths": _paths(walks), "values": _values(walks)}
    settings = {
        "f": "(p - m)^T diag(1, 100) (p - m) / 2",
        "m": [0.8, 0.6],
        "start": list(VALLEY.start),
        "dtype": "float32",
        "stop": "f <= 1e-6 before the step, 10,000 steps, or a coordinate beyond 5",
        "rates": {
            "sgd, too fast": 1.01 * STABLE,
            "sgd": OPTIMAL,
            "momentum": rate,
            "adam": OPTIMAL,
        },
    }
    return Outcome(claims, figures, settings)


def _counts(walks: dict[str, Walk]) -> list[Claim]:
    """The four published endings."""
    fast = walks["sgd, too fast"]
    words = f"{fast.ending} ({fast.steps} steps)"
    diverged = fast.ending == "diverged"
    claims = [Claim("SGD at 1.01 * 2/lambda_max diverges", SOURCE, "diverges", words, diverged)]
    published = {
        "sgd": ("SGD at 2/(lambda_min + lambda_max): steps", 420),
        "momentum": ("momentum 0.9 at 0.175 of that rate: steps", 137),
        "adam": ("Adam at that rate: steps", 117),
    }
    for label, (words, expected) in published.items():
        steps = walks[label].steps
        claims.append(Claim(words, SOURCE, expected, steps, steps == expected))
    return claims


def _theory(walks: dict[str, Walk]) -> list[Claim]:
    """What the eigenvalues say beside it: the contraction a step, measured on the paths."""
    rate = (KAPPA - 1) / (KAPPA + 1)
    best = (math.sqrt(KAPPA) - 1) / (math.sqrt(KAPPA) + 1)
    # Both axes shrink by rate, f by its square; the last look at f is a step too.
    start = 0.5 * (LOW * 0.8**2 + HIGH * 0.6**2)
    steps = math.ceil(math.log(TOLERANCE / start) / (2 * math.log(rate))) + 1
    law = "log(1e-6 / f(start)) / (2 log((kappa-1)/(kappa+1))), rounded up, and the last look"
    taken = walks["sgd"].steps
    fast = _factor(walks["sgd, too fast"], axis=1)
    return [
        _near("SGD too fast: growth a step on the steep axis, |1 - rate * 100|", 1.02, fast),
        *(
            _near(f"SGD: factor a step on the {name} axis, (kappa-1)/(kappa+1)", rate, factor)
            for name, factor in (
                ("flat", _factor(walks["sgd"], axis=0)),
                ("steep", _factor(walks["sgd"], axis=1)),
            )
        ),
        Claim("SGD: steps that this factor predicts", law, steps, taken, steps == taken),
        _near(
            "momentum 0.9 at 0.175 of the rate: factor a step, the largest root modulus",
            max(_radius(0.175 * OPTIMAL, 0.9, curvature) for curvature in (LOW, HIGH)),
            _settled(0.175 * OPTIMAL, 0.9),
        ),
        _near(
            "heavy ball at its best, momentum 0.67: (sqrt(kappa)-1)/(sqrt(kappa)+1)",
            best,
            _settled((2 / (math.sqrt(HIGH) + math.sqrt(LOW))) ** 2, best**2),
        ),
    ]


def _radius(rate: float, momentum: float, curvature: float) -> float:
    """The larger modulus of the roots of z^2 - (1 + mu - eta lambda) z + mu."""
    return float(np.abs(np.roots([1.0, rate * curvature - 1.0 - momentum, momentum])).max())


def _settled(rate: float, momentum: float) -> float:
    """Heavy ball's factor a step, late in a float64 run towards the origin.

    Towards 0 the error keeps its relative precision however small it gets, so that what is left
    of the start (a factor k at a double root) no longer counts.
    """
    bowl = quadratic((LOW, HIGH), centre=(0.0, 0.0), start=(1.0, 1.0))
    point = torch.nn.Parameter(torch.tensor(bowl.start, dtype=torch.float64))
    optimizer, objective = SGD([point], lr=rate, momentum=momentum), Objective.of(bowl.fn)
    values = [float(optimizer.step(objective.closure(point))) for _ in range(1501)]
    first, last = max(values[450:500]), max(values[1450:1500])  # the crests of an oscillation
    return (last / first) ** (1 / 2000)


def _near(claim: str, expected: float, measured: float, tolerance: float = 2e-3) -> Claim:
    holds = abs(measured - expected) <= tolerance * expected
    source = f"eigenvalues 1 and 100; agreement to {tolerance:.1%}"
    return Claim(claim, source, round(expected, 5), round(measured, 5), holds)


def _factor(run: Walk, axis: int) -> float:
    """The mean factor by which the error along an axis changes a step, over the first half."""
    errors = np.abs(np.array(run.path)[:, axis] - (0.8, 0.6)[axis])
    half = len(errors) // 2
    return float((errors[half] / errors[0]) ** (1 / half))


def _surface(half: float = 0.75) -> dict[str, Any]:
    """The valley around the way down, as the report draws surfaces."""
    x, y = np.linspace(-0.25, 1.25, 121), np.linspace(0.6 - half, 0.6 + half, 121)
    grid = torch.tensor(np.stack(np.meshgrid(x, y), axis=-1))
    minimum = [0.8, 0.6, 0.0]
    z = VALLEY(grid).tolist()
    return {"x": x, "y": y, "z": z, "minima": [minimum], "start": VALLEY.start}


@styled
def _paths(walks: dict[str, Walk]) -> Figure:
    """A panel a run: on one plane the zig-zags would hide each other."""
    figure = Figure(figsize=(12.0, 4.1), layout="constrained")
    panels = zip(figure.subplots(1, 4), walks.items(), RATES, strict=True)
    for axes, (label, run), rate in panels:
        name, line = label.partition(",")[0], f"rate {rate}"
        surface = _surface()
        if run.ending == "diverged":
            surface, line = _surface(4.7), f"{line}; taller box"
        title = f"{NAMES[name]}: {_ending(run)}"
        contour(surface, {name: run.path}, ax=axes, title=title, line=line, legend=False)
        axes.set(aspect="auto", xticks=(0.0, 0.4, 0.8, 1.2))
        if name == "sgd":  # thinner, so that its zig-zag does not close to a surface
            next(k for k in axes.lines if k.get_label() == name).set_linewidth(0.6)
    figure.suptitle(
        "A steep valley, condition number 100: start (0, 0), float32, to f ≤ 1e-6; one run each"
    )
    return figure


def _ending(run: Walk) -> str:
    return "diverges" if run.ending == "diverged" else f"{run.steps} steps"


@styled
def _values(walks: dict[str, Walk]) -> Figure:
    figure, axes = canvas.axes(None)
    for (label, run), rate in zip(walks.items(), RATES, strict=True):
        name = label.partition(",")[0]
        look, dash = series(name), ":" if run.ending == "diverged" else "-"
        words = f"{NAMES[name]}, rate {rate}: {_ending(run)}"
        axes.plot(run.values, label=words, color=look.colour, ls=dash)
    axes.axhline(TOLERANCE, lw=0.8, ls=":", color=tone("muted"))
    axes.set(yscale="log", xlabel="step", ylabel="f before the step (log)", xlim=(0, 440))
    line = "condition number 100, float32, one run each; dotted level: 1e-6, where a run ends"
    canvas.caption(axes, "Steps to f = 1e-6 in the steep valley", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="steep-valley",
    title="A steep valley: the learning rate, momentum and Adam on condition number 100",
    summary=(
        "Gradient descent just above and at its best learning rate, momentum and Adam on a "
        "quadratic with eigenvalues 1 and 100, counted to the step, with the contraction factors "
        "that the eigenvalues predict beside those that the paths show."
    ),
    run=_run,
    seconds=2.0,
)
