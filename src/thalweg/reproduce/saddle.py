r"""How long a strict saddle holds gradient descent, and what carries it through.

Near the saddle of :math:`x^2 - y^2` the distance from the line that leads into it grows by
:math:`1 + \alpha|\lambda_-|` a step: from :math:`\delta` it takes
:math:`\log(1/\delta) / \log(1 + \alpha|\lambda_-|)` steps to leave, and from the line itself for
ever. Gradient noise of deviation :math:`\sigma` is a start of that order. Momentum grows by the
larger root z of :math:`z^2 - (1 + \beta + \alpha|\lambda_-|) z + \beta`. Summed over the noise of
all steps, :math:`y_k \approx s\, z^k\, \xi` with a standard normal :math:`\xi` and

.. math::
    s = \frac{\alpha\sigma}{\sqrt{z^2 - 1}} \cdot \frac{z}{z - \beta/z} , \qquad
    \mathbb{E}\,T \approx \frac{\log(1/s) + (\gamma + \log 2)/2}{\log z} + \frac12 .
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from thalweg.optim import SGD
from thalweg.problems import SADDLE
from thalweg.report import canvas, contour
from thalweg.report.style import SeriesStyle, series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, slope, walk
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT"]

RATE, CURVATURE, EXIT = 0.05, 2.0, 1.0
NOISES = [10.0**-k for k in range(1, 9)]
DISTANCES = [10.0**-k for k in range(2, 13, 2)]
BETAS, RUNS, SEED = (0.0, 0.5, 0.9), 64, 0
DRAWN = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)  # the momenta of the figure against momentum
LEE = "Lee et al., Gradient descent only converges to minimizers, 2016"
NOISE = "Pemantle 1990; Jin et al., How to escape saddle points efficiently, 2017"
MOMENTUM = "O'Neill and Wright, Behavior of accelerated gradient methods near critical points, 2019"

Method = Callable[..., Any]


def growth(beta: float) -> float:
    """The factor a step at which the distance from the line grows."""
    middle = (1 + beta + RATE * CURVATURE) / 2
    return middle + math.sqrt(middle**2 - beta)


def theory(noise: float, beta: float) -> float:
    """The mean number of steps to leave."""
    z = growth(beta)
    reach = RATE * noise / math.sqrt(z**2 - 1) * z / (z - beta / z)
    return (math.log(EXIT / reach) + (np.euler_gamma + math.log(2)) / 2) / math.log(z) + 0.5


def leave(
    starts: torch.Tensor, method: Method, noise: torch.Tensor, limit: int = 1000
) -> list[Any]:
    """Steps until |y| reaches 1, for each of the starts [n, 2]; None if it never does."""
    point = nn.Parameter(starts.clone())
    optimizer = method([point])
    generator = torch.Generator().manual_seed(SEED)
    left = torch.zeros(len(starts))
    for step in range(1, limit + 1):
        (slope_here,) = torch.autograd.grad(SADDLE(point).sum(), point)
        # One stream of noise for all levels: levels differ in scale alone.
        draw = torch.randn(RUNS, 2, generator=generator, dtype=torch.float64)
        point.grad = (
            slope_here + noise[:, None] * draw.repeat(len(starts) // RUNS + 1, 1)[: len(starts)]
        )
        optimizer.step()
        left[(point[:, 1].detach().abs() >= EXIT) & (left == 0)] = step
        if left.all():
            break
    return [int(step) if step else None for step in left]


def noisy(beta: float, method: Method = SGD) -> np.ndarray:
    """Steps to leave from (1.5, 0), [noise levels, runs]."""
    starts = torch.tensor([[1.5, 0.0]], dtype=torch.float64).repeat(len(NOISES) * RUNS, 1)
    levels = torch.tensor(NOISES, dtype=torch.float64).repeat_interleave(RUNS)
    steps = leave(starts, lambda p: method(p, lr=RATE, momentum=beta), levels)
    return np.array(steps).reshape(len(NOISES), RUNS)


def quiet_claims(method: Method = SGD) -> list[Claim]:
    """Without noise: for ever on the line, and a logarithm beside it."""
    starts = torch.tensor([[1.5, d] for d in (0.0, *DISTANCES)], dtype=torch.float64)
    none, made = torch.zeros(len(starts), dtype=torch.float64), []
    for beta in (0.0, 0.9):
        name = f"momentum {beta:g}" if beta else "SGD"
        found = leave(starts, lambda p, b=beta: method(p, lr=RATE, momentum=b), none)
        stays = "no step of 1,000" if found[0] is None else f"step {found[0]}"
        claim = f"{name} from (1.5, 0), on the line into the saddle, no noise: leaves at"
        made.append(Claim(claim, LEE, "no step of 1,000", stays, found[0] is None))
        predicted = [_predicted(distance, beta) for distance in DISTANCES]
        claim = f"{name}, no noise, from y = 1e-2, 1e-4 ... 1e-12: steps to leave"
        law = "derived: y_k+1 = (1 + a) y_k + beta (y_k - y_k-1), a = lr |lambda_-|"
        made.append(Claim(claim, law, predicted, found[1:], found[1:] == predicted))
        rise, _ = slope(np.log(1 / np.array(DISTANCES)), found[1:])
        words = f"{name}: steps for each factor e nearer to the line, 1/log of the growth"
        made.append(near(words, LEE, 1 / math.log(growth(beta)), rise, 0.02))
    return made


def _predicted(y: float, beta: float) -> int:
    step, velocity = 0, 0.0
    while y < EXIT:
        velocity = beta * velocity + RATE * CURVATURE * y
        y, step = y + velocity, step + 1
    return step


def noise_claims(times: dict[float, np.ndarray]) -> list[Claim]:
    """With noise: the slope in log(1/sigma), and the mean at one level for each momentum."""
    made = []
    for beta, steps in times.items():
        slopes = [slope(np.log(1 / np.array(NOISES)), run)[0] for run in steps.T]
        name = f"momentum {beta:g}" if beta else "SGD"
        law = "1/log(1 + a), a = lr |lambda_-| = 0.1" if not beta else "1/log z"
        words = f"{name}: steps to leave for each factor e less noise, {law}"
        source, expected = f"{NOISE}, to 2%", 1 / math.log(growth(beta))
        made.append(Claim.of_sample(words, source, expected, slopes, 0.02))
        words = f"{name}: steps to leave at noise 1e-4"
        source = f"{MOMENTUM if beta else NOISE}; derived mean, to 2%"
        values = steps[NOISES.index(1e-4)].tolist()
        made.append(Claim.of_sample(words, source, theory(1e-4, beta), values, 0.02))
    return made


def _run() -> Outcome:
    drawn = {beta: noisy(beta) for beta in DRAWN}
    times = {beta: drawn[beta] for beta in BETAS}
    figures = {"leave": _leave(times, drawn), "stall": _stall(), "paths": _paths()}
    settings = {
        "f": SADDLE.formula,
        "start": "(1.5, 0), on the line into the saddle, unless said",
        "optimizer": "thalweg.optim.SGD",
        "lr": RATE,
        "momentum": list(BETAS),
        "noise": "normal, added to each coordinate of the gradient at each step",
        "left": "|y| >= 1",
        "dtype": "float64",
        "runs": f"{RUNS} independent streams of noise, seed {SEED}",
    }
    return Outcome((*quiet_claims(), *noise_claims(times)), figures, settings)


def _label(beta: float) -> tuple[str, Any]:
    if beta == 0.0:
        return "SGD", series("sgd")
    look = series("momentum")
    return f"momentum {beta:g}", look if beta == 0.9 else SeriesStyle(look.tone, (0, (1, 1)), "^")


@styled
def _leave(times: dict[float, np.ndarray], drawn: dict[float, np.ndarray]) -> Figure:
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for beta, steps in times.items():
        name, look = _label(beta)
        line = [theory(noise, beta) for noise in NOISES]
        left.plot(NOISES, line, color=look.colour, ls=look.dash)
        _means(left, NOISES, steps, fmt=look.marker, color=look.colour, label=name)
    canvas.log_axis(left.xaxis, NOISES[-1], NOISES[0])
    left.invert_xaxis()
    left.set(xlabel="deviation of the gradient noise (log, less to the right)")
    left.set(ylabel="steps to leave", ylim=(0, None), title="Less noise, longer")
    left.legend(loc="upper left")
    grid = np.linspace(0.0, 0.97, 98)
    for level, colour, mark in ((1e-8, "black", "D"), (1e-4, "wine", "o")):
        right.plot(grid, [theory(level, beta) for beta in grid], color=tone(colour))
        steps = np.stack([drawn[beta][NOISES.index(level)] for beta in DRAWN])
        _means(
            right,
            DRAWN,
            steps,
            fmt=mark,
            color=tone(colour),
            label=f"noise {level:.0e}".replace("e-0", "e-"),
        )
    right.set(xlabel="momentum β", title="More momentum, sooner")
    right.legend(loc="upper right")
    figure.suptitle(
        f"Steps out of the saddle of x² − y², rate {RATE}: lines theory, points mean of {RUNS} "
        f"runs with 95% interval, seed {SEED}"
    )
    return figure


def _means(axes: Axes, at: Sequence[float], steps: np.ndarray, **style: Any) -> None:
    """The mean of each row with its 95% interval."""
    found = [Interval.of(row) for row in steps.astype(float)]
    halves = [value.half_width or 0.0 for value in found]
    axes.errorbar(at, [value.mean for value in found], halves, capsize=2, **style)


@styled
def _stall() -> Figure:
    figure, axes = canvas.axes(None)
    for beta in (0.0, 0.9):
        name, look = _label(beta)
        for height, width in ((1e-3, 1.2), (1e-6, 2.2)):
            path = _path((1.5, height), beta, 220)
            slopes = 2 * path.norm(dim=1)
            words = f"{name} from y = {height:.0e}".replace("e-0", "e-")
            axes.plot(slopes, color=look.colour, lw=width, label=words)
    axes.set(yscale="log", xlabel="step", ylabel="length of the gradient (log)", ylim=(1e-3, 1e2))
    line = f"x² − y² from x = 1.5, rate {RATE}, no noise, one run each; until beyond 30"
    canvas.caption(axes, "The gradient almost vanishes, then grows again", line)
    canvas.legend(axes)
    return figure


def _path(start: tuple[float, float], beta: float, steps: int, noise: float = 0.0) -> torch.Tensor:
    """A path, as long as it stays near; the noise is a slope that changes at each step."""
    generator = torch.Generator().manual_seed(SEED)

    def rough(p: torch.Tensor) -> torch.Tensor:
        draw = noise * torch.randn(2, generator=generator, dtype=torch.float64)
        return SADDLE(p) + (draw * p).sum()

    begin = torch.tensor(start, dtype=torch.float64)
    path = walk(rough, begin, lambda p: SGD(p, lr=RATE, momentum=beta), steps)
    return path[path.abs().amax(1) < 30]


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    x, y, z = SADDLE.grid(81)
    surface = {"x": x, "y": y, "z": z, "saddles": SADDLE.saddles, "start": (1.5, 0.0)}
    panels = {
        "SGD, no noise": ("sgd", _path((1.5, 0.0), 0.0, 150)),
        "SGD, noise 0.1": ("sgd", _path((1.5, 0.0), 0.0, 150, 0.1)),
        "momentum 0.9, noise 0.1": ("momentum", _path((1.5, 0.0), 0.9, 150, 0.1)),
    }
    for axes, (title, (label, path)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        gone = (path[:, 1].abs() >= EXIT).nonzero()
        words = f"leaves at step {int(gone[0])}" if len(gone) else "150 steps: at the saddle"
        contour(surface, {label: path.tolist()}, ax=axes, title=title, line=words, legend=False)
    figure.suptitle(
        f"Started on the line into the saddle of x² − y²: rate {RATE}, noise of seed {SEED}"
    )
    return figure


EXPERIMENT = Experiment(
    name="saddle",
    title="A strict saddle: gradient descent stalls, noise and momentum carry it through",
    summary=(
        "SGD with and without momentum at the saddle of x^2 - y^2: for ever on the line that leads "
        "into it, the logarithm of the distance beside it, and with gradient noise the logarithm "
        "of its level, against the derived mean."
    ),
    run=_run,
    seconds=5.0,
)
