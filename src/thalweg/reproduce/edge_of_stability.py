r"""The edge of stability: full-batch training takes the sharpness to its own limit, and no further.

On a quadratic a rate :math:`\eta` is stable below the sharpness :math:`2/\eta`, with momentum
:math:`\beta` below :math:`2(1+\beta)/\eta`, and Adam below
:math:`\frac{2(1+\beta_1)}{(1-\beta_1)\eta} = 38/\eta` of the Hessian divided by its own scale. A
network sharpens until it is there: gradient descent then hovers just above the limit; heavy ball
and Adam climb to it, are thrown back by some per cent, and climb again. How wide they swing is a
matter of the setting: on pixels in [0, 1] Adam at 0.0003 went between 0.85 and 1.06 of its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.curvature.eigen import eigsh
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.preconditioned import step_curvature
from thalweg.objective import Objective
from thalweg.optim import SGD, Adam
from thalweg.problems.networks import perceptron
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim


__all__ = ["METHODS", "Ascent", "ascent", "claims", "figure", "settled"]

COHEN = "Cohen et al. 2021, 2103.00065"
ADAPTIVE = "Cohen et al. 2022, 2207.14484"
SETTING = (
    "the first 1000 of the digits in full batches, pixels standardised, tanh 64-100-100-10, half "
    "the squared error; gradient descent 0.3, heavy ball 0.2 with 0.9, Adam 0.001"
)
EVERY = 25  # steps between two looks; odd, since what is unstable changes sign each step


@final
@dataclass(frozen=True)
class Method:
    """A method at one rate, how long it runs, and how its sharpness is read.

    Args:
        name: In words.
        look: Its style in figures.
        make: Makes the optimizer.
        law: The limit of its sharpness.
        source: Who found it.
        steps: How many steps it runs.
        tolerance: How near to the limit it is to end, relative.
    """

    name: str
    look: str
    make: Callable[[Any], Any]
    law: str
    source: str
    steps: int
    tolerance: float


METHODS = (
    Method("gradient descent", "sgd", partial(SGD, lr=0.3), "2/η", COHEN, 1000, 0.06),
    Method(
        "heavy ball",
        "momentum",
        partial(SGD, lr=0.2, momentum=0.9),
        "2(1 + β)/η",
        COHEN,
        1750,
        0.02,
    ),
    Method("Adam", "adam", partial(Adam, lr=1e-3), "38/η", ADAPTIVE, 1200, 0.02),
)


@final
@dataclass(frozen=True)
class Ascent:
    """Sharpness over its limit, the loss, and the steps at which they were taken."""

    steps: np.ndarray
    ratios: np.ndarray
    losses: np.ndarray


def half_squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of a sample, in the mean."""
    return 0.5 * ((outputs - targets) ** 2).sum(1).mean()


def data() -> tuple[Tensor, Tensor]:
    """The images, each pixel of mean 0 and deviation 1, and one-hot digits."""
    from sklearn.datasets import load_digits  # takes a second to import

    images, digits = load_digits(return_X_y=True)
    x = torch.tensor(images[:1000] / 16.0, dtype=torch.float32)
    y = torch.nn.functional.one_hot(torch.as_tensor(digits[:1000]).long(), 10)
    return (x - x.mean(0)) / (x.std(0) + 1e-2), y.to(x)


def ascent(method: Method, steps: int | None = None) -> Ascent:
    """Train with a method, and look at the sharpness every few steps."""
    x, y = data()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = perceptron(64, 100, 100, 10)
    params = list(model.parameters())
    optimizer, closure = method.make(params), Objective(model, half_squared).closure(x, y)
    found, start = [], None
    for k in range(1, (steps or method.steps) + 1):
        loss = half_squared(model(x), y)
        for p, slope in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.grad = slope
        optimizer.step()
        if k % EVERY == 0:
            hessian = Hessian(closure)
            step = step_curvature(hessian, params, optimizer)
            top = eigsh(step.operator, tol=0.03, start=start)
            start = top.vectors
            found.append((k, float(top.values[0]), hessian.loss))
    return Ascent(*np.array(found).T)


def settled(run: Ascent) -> np.ndarray:
    """The sharpness from where the limit is first reached, as means of fifths; or nothing."""
    if run.ratios.max() < 1.0:
        return np.zeros(0)
    reached = int(np.argmax(run.ratios >= 1.0))
    return np.array([part.mean() for part in np.array_split(run.ratios[reached:], 5) if part.size])


def claims(runs: list[Ascent]) -> list[Claim]:
    """The mean of what has settled, with its interval over fifths of the run, and the limit."""
    made = []
    for method, run in zip(METHODS, runs, strict=True):
        words = f"{method.name}: sharpness over {method.law}, the mean once it has been reached"
        source = f"{method.source}; mean to {method.tolerance:.0%}, interval over fifths of the run"
        values = settled(run)
        if len(values) < 2:
            made.append(Claim(words, source, 1.0, float(run.ratios.max()), False))
            continue
        sample = Claim.of_sample(words, source, 1.0, values)
        holds = abs(sample.measured - 1.0) <= method.tolerance
        made.append(Claim(words, source, 1.0, sample.measured, holds, sample.interval, sample.n))
    return made


@styled
def figure(runs: list[Ascent]) -> Figure:
    """Sharpness over its limit, a panel a method."""
    drawing = Figure(figsize=(9.0, 3.4), layout="constrained")
    panels = drawing.subplots(1, len(METHODS), sharey=True)
    for axes, method, run in zip(panels, METHODS, runs, strict=True):
        axes.axhline(1.0, color=tone("muted"), lw=1.0, ls=":")
        axes.plot(run.steps, run.ratios, color=series(method.look).colour, lw=1.4)
        axes.set(title=f"{method.name}: limit {method.law}", xlabel="step", ylim=(0, 1.35))
    panels[0].set_ylabel("sharpness over its limit")
    drawing.suptitle("Full-batch training sharpens up to the edge of stability")
    return drawing
