r"""What momentum gains, and how far its learning rate may go.

Under a constant gradient the velocity :math:`v \leftarrow \beta v + g` tends to
:math:`g / (1 - \beta)`, under an alternating one to :math:`g / (1 + \beta)`. On a quadratic with
curvature :math:`\lambda`, heavy ball's error has the roots of
:math:`z^2 - (1 + \beta - \eta\lambda) z + \beta` and Nesterov's those of
:math:`z^2 - (1 - \eta\lambda)(1 + \beta) z + (1 - \eta\lambda)\beta`. As :math:`\eta` grows, a root
leaves the unit circle at :math:`z = -1`, which gives the limits :math:`\eta\lambda = 2 (1 + \beta)`
and :math:`2 (1 + \beta) / (1 + 2 \beta)`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.optim import SGD, Nesterov
from thalweg.report import canvas
from thalweg.report.style import series, styled, tone
from thalweg.reproduce import acceleration
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, slope, walk


__all__ = ["EXPERIMENT"]

BETAS = (0.0, 0.5, 0.9, 0.99)
KAPPAS = [10 ** (k / 2) for k in range(2, 9)]
TOLERANCE = 1e-4
HEAVY_BALL = "Polyak 1964; Goh, Why momentum really works, 2017"
ROOTS = "derived: the characteristic polynomial has its root at -1"

Method = Callable[..., Any]


def velocity(method: Method, beta: float, gradients: Tensor) -> Tensor:
    """The velocity after each of the gradients: the steps that a rate of 1 takes."""
    point = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, steps = method([point], lr=1.0, momentum=beta), []
    for gradient in gradients:
        before = point.detach().clone()
        point.grad = gradient.reshape(1)
        optimizer.step()
        steps.append(before - point.detach())
    return torch.cat(steps)


def descent_steps(kappa: float, method: Method = SGD, momentum: bool = False) -> int:
    """Steps to a 10,000th of the error on curvatures 1 and kappa, at the best rate and beta."""
    root = math.sqrt(kappa)
    best = {"lr": 2 / (1 + kappa)}
    if momentum:
        best = {"lr": (2 / (1 + root)) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2}
    curvatures = torch.tensor([1.0, kappa], dtype=torch.float64)
    point = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer, steps, goal = method([point], **best), 0, TOLERANCE * math.sqrt(2)
    while float(point.detach().norm()) > goal:
        point.grad = curvatures * point.detach()
        optimizer.step()
        steps += 1
    return steps


@functools.cache
def limit(method: Method, beta: float) -> float:
    """The least rate times curvature that grows, by cutting [0.5, 4] in 64 three times."""
    low, high = 0.5, 4.0
    for _ in range(3):
        products = torch.linspace(low, high, 65, dtype=torch.float64)
        start = torch.full_like(products, 1e-100)  # tiny, so that what grows stays finite
        path = walk(
            lambda x, c=products: 0.5 * c * x**2,
            start,
            lambda p: method(p, lr=1.0, momentum=beta),
            300,
        ).abs()
        # Crests, not values: below the limit the error may swing.
        grows = path[200:].amax(0) > path[100:200].amax(0)
        first = int(grows.int().argmax()) or 1
        low, high = products[first - 1].item(), products[first].item()
    return high


def velocity_claims(method: Method = SGD) -> list[Claim]:
    """The limits of the velocity under a constant and an alternating gradient."""
    ones = torch.ones(2000, dtype=torch.float64)
    turns = ones.clone()
    turns[1::2] = -1.0
    laws = (
        ("constant", ones, lambda b: 1 / (1 - b)),
        ("alternating", turns, lambda b: 1 / (1 + b)),
    )
    return [
        near(
            f"velocity under a{'n' * (kind == 'alternating')} {kind} gradient g, beta = {beta}: "
            f"g/(1 {'-' if kind == 'constant' else '+'} beta), in g",
            HEAVY_BALL,
            law(beta),
            abs(velocity(method, beta, gradients)[-1].item()),
            1e-6,
        )
        for kind, gradients, law in laws
        for beta in BETAS[1:]
    ]


def step_claims(plain_steps: list[int], fast_steps: list[int]) -> list[Claim]:
    """The powers of kappa with which steps grow."""
    laws = {
        "gradient descent: steps grow like kappa^p, p": (1.0, plain_steps),
        "heavy ball: steps grow like kappa^p, p": (0.5, fast_steps),
        "gradient descent / heavy ball: steps saved grow like kappa^p, p": (
            0.5,
            np.divide(plain_steps, fast_steps),
        ),
    }
    made = []
    for words, (expected, steps) in laws.items():
        power, half = slope(np.log(KAPPAS), np.log(steps))
        source = f"{HEAVY_BALL}; fit over {len(KAPPAS)} kappa from 10 to 10,000, to 0.05"
        holds = abs(power - expected) <= 0.05
        span = (power - half, power + half)
        made.append(Claim(words, source, expected, round(power, 4), holds, span))
    # Heavy ball's exponent is above 1/2 here because its double root adds a factor k to rho^k.
    words = f"heavy ball: steps at kappa = {KAPPAS[-1]:,.0f}"
    law, predicted = (
        "derived: errors (1 + b k) (+-sqrt(beta))^k at a double root",
        predicted_steps(),
    )
    return [*made, Claim(words, law, predicted, fast_steps[-1], predicted == fast_steps[-1])]


def predicted_steps(kappa: float = KAPPAS[-1]) -> int:
    """Heavy ball's steps at its best, where both curvatures have a double root."""
    rho = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
    rate, k = (2 / (1 + math.sqrt(kappa))) ** 2, np.arange(100_000)
    # e_0 = 1 and e_1 = 1 - rate * curvature give b, for the roots rho and -rho.
    slow, steep = (1 - rate) / rho - 1, (1 - rate * kappa) / -rho - 1
    size = rho**k * np.sqrt((1 + slow * k) ** 2 + (1 + steep * k) ** 2)
    return int(np.argmax(size <= TOLERANCE * math.sqrt(2)))


def limit_claims(heavy_ball: Method = SGD, nesterov: Method = Nesterov) -> list[Claim]:
    """Where the rate becomes too large."""
    laws = (
        ("heavy ball", heavy_ball, lambda b: 2 * (1 + b), "2 (1 + beta)"),
        ("Nesterov", nesterov, lambda b: 2 * (1 + b) / (1 + 2 * b), "2 (1 + beta)/(1 + 2 beta)"),
    )
    return [
        near(
            f"{name}, beta = {beta}: stable to rate x lambda_max = {words}",
            ROOTS,
            law(beta),
            limit(method, beta),
        )
        for name, method, law, words in laws
        for beta in BETAS
    ]


def _run() -> Outcome:
    steps = [[descent_steps(kappa, momentum=m) for kappa in KAPPAS] for m in (False, True)]
    claims = (*velocity_claims(), *step_claims(*steps), *limit_claims(), *acceleration.claims())
    figures = {
        "velocity": _velocities(),
        "condition": _condition(*steps),
        "limits": _limits(),
        "acceleration": acceleration.figure(),
    }
    settings = {
        "dtype": "float64",
        "velocity": "rate 1, gradients 1 or +-1, 2000 steps",
        "condition": "curvatures 1 and kappa, start (1, 1), to 1e-4 of the error, best rate, beta",
        "limits": "errors from 1; grows: largest of steps 200-300 above that of 100-200",
        "acceleration": "rate 1/L; 91 curvatures from 1e-9 to 1, start 1; momentum (k-1)/(k+2)",
        "runs": "one each: nothing is random",
    }
    return Outcome(claims, figures, settings)


@styled
def _velocities() -> Figure:
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    ones = torch.ones(40, dtype=torch.float64)
    turns = ones.clone()
    turns[1::2] = -1.0
    looks = (("sgd", "-"), ("momentum", (0, (5, 1.6))), ("momentum", "-"))
    for beta, (name, dash) in zip(BETAS[:3], looks, strict=True):
        colour = series(name).colour
        for axes, gradients, end in ((left, ones, 1 / (1 - beta)), (right, turns, 1 / (1 + beta))):
            found = velocity(SGD, beta, gradients)
            size = found if axes is left else found.abs()
            label = f"β = {beta:g}: tends to {end:.3g} g"
            axes.plot(range(1, 41), size, color=colour, ls=dash, label=label)
            axes.axhline(end, color=tone("muted"), lw=0.9, ls=":")
    left.set(title="Constant gradient g: to g/(1 − β)", xlabel="step", ylim=(0, 14.5))
    left.set(ylabel="velocity, in g")
    right.set(
        title="Alternating gradient +g, −g: to g/(1 + β)", xlabel="step", ylabel="|velocity|, in g"
    )
    right.set_ylim(0, 1.45)
    for axes in (left, right):
        axes.legend(loc="upper left")
    figure.suptitle("What the velocity tends to: SGD with momentum, float64, one run each")
    return figure


@styled
def _condition(slow: list[int], fast: list[int]) -> Figure:
    figure, axes = canvas.axes(None)
    for steps, name, label in ((slow, "gradient descent", "sgd"), (fast, "heavy ball", "momentum")):
        power, half = slope(np.log(KAPPAS), np.log(steps))
        look = series(label)
        words = f"{name}: steps like κ to the power {power:.3f} ± {half:.3f}"
        axes.plot(KAPPAS, steps, color=look.colour, marker=look.marker, label=words)
    canvas.log_axis(axes.xaxis, 10, 1e4)
    canvas.log_axis(axes.yaxis, min(fast), max(slow))
    axes.set(xlabel="condition number κ (log)", ylabel="steps to 1e-4 of the error (log)")
    line = "each at its best rate and β; curvatures 1 and κ, float64, one run each; fit ± 95%"
    canvas.caption(axes, "Momentum saves a factor of about √κ in steps", line)
    canvas.legend(axes)
    return figure


@styled
def _limits() -> Figure:
    figure, axes = canvas.axes(None)
    grid = np.linspace(0, 1, 101)
    heavy, look_ahead = 2 * (1 + grid), 2 * (1 + grid) / (1 + 2 * grid)
    laws = (
        (SGD, "heavy ball", "momentum", heavy, "2 (1 + β)"),
        (Nesterov, "Nesterov", "nesterov", look_ahead, "2 (1 + β)/(1 + 2β)"),
    )
    for method, name, label, law, words in laws:
        look = series(label)
        axes.plot(grid, law, color=look.colour, ls=look.dash, label=f"{name}: {words}")
        found = [limit(method, beta) for beta in BETAS]
        axes.plot(BETAS, found, look.marker, color=look.colour, label=f"{name}: measured")
        axes.fill_between(grid, law, color=look.colour, alpha=0.12, lw=0)
    axes.set(xlabel="momentum β", ylabel="rate × largest curvature", xlim=(-0.02, 1.02))
    axes.set_ylim(0, 4.3)
    line = "shaded: stable, darker: Nesterov too; by section search on runs of 300 steps, float64"
    canvas.caption(axes, "Momentum widens the stable range, Nesterov narrows it", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="momentum-limit",
    title="Momentum: what the velocity tends to, what it saves, and its largest rate",
    summary=(
        "The velocity under constant and alternating gradients; tuned heavy ball against gradient "
        "descent over condition numbers from 10 to 10,000, where its exponent is a little above "
        "1/2 because at a double root the error shrinks like k rho^k; the largest stable rate of "
        "heavy ball and of Nesterov, by section search; and Nesterov's 1/k^2 against 1/k, with the "
        "bounds above and, on the worst function for each k, the bound below."
    ),
    run=_run,
    seconds=12.0,
)
