r"""L2, L1 and early stopping on a quadratic, and what decoupling changes under Adam.

With :math:`f = \tfrac12 \sum_i h_i (\theta_i - \theta^*_i)^2`, the minimum with
:math:`\tfrac\lambda2 \lVert\theta\rVert^2` is :math:`\theta^*_i h_i / (h_i + \lambda)`: a factor;
with :math:`\lambda \lVert\theta\rVert_1` it is
:math:`\operatorname{sign}(\theta^*_i) \max(|\theta^*_i| - \lambda/h_i, 0)`: a constant off, and
zeros. Gradient descent from 0, stopped after :math:`\tau` steps, is at
:math:`(1 - (1 - \eta h_i)^\tau)\,\theta^*_i`, the L2 solution with
:math:`(1 - \eta h_i)^\tau = \lambda / (h_i + \lambda)`.

Under Adam an L2 term in the gradient leaves the minimum of the penalised loss where it is, while
decay of the weights themselves ends at the minimum in the box
:math:`\lVert\theta\rVert_\infty \le 1/\lambda`; where gradient noise of the deviation
:math:`\sigma_i` rules the divisor, it shrinks by :math:`h_i / (h_i + \lambda\sigma_i)`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import Optimizer

from thalweg.optim import SGD, Adam, AdamW
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

CURVATURE = torch.tensor([4.0, 1.0, 0.25, 1.0, 0.25], dtype=torch.float64)
MINIMUM = torch.tensor([1.0, -1.0, 1.0, 0.3, -0.4], dtype=torch.float64)
PENALTY, RATE, STEPS = 0.4, 0.05, 3000
STOPS = (3, 10, 30, 100)
BOX_DECAY, NOISE_DECAY, NOISE = 2.0, 0.2, (1.0, 10.0)
BETAS = (0.9, 0.99)
SEEDS, COPIES = 16, 64
STOPPING = "Early stopping walks near the L2 path"
BOOK = "Goodfellow, Bengio, Courville 2016, section"
Make = Callable[[list[Tensor]], Optimizer]
LOSHCHILOV, XIE = "Loshchilov, Hutter 2019", "Xie, Li 2024"


def walk(
    make: Make,
    steps: int,
    *,
    falling: bool = False,
    curvature: Tensor = CURVATURE,
    minimum: Tensor = MINIMUM,
) -> Iterator[Tensor]:
    """Where a method is on the quadratic, from 0, before its first step and after each."""
    point = torch.zeros_like(minimum)
    optimizer = make([point])
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        yield point
        if falling:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / steps)
        point.grad = curvature * (point - minimum)
        optimizer.step()
    yield point


def minimise(make: Make, steps: int, **options: Any) -> Tensor:
    """Where a method is after that many steps."""
    return collections.deque(walk(make, steps, **options), maxlen=1)[0]


def noisy(make: Make) -> Tensor:
    """The mean of late iterates, [seeds, noise levels], of curvature 1 around 1."""
    source = torch.Generator().manual_seed(1)
    point = torch.ones(SEEDS, COPIES, len(NOISE), dtype=torch.float64)
    deviation = torch.tensor(NOISE, dtype=torch.float64)
    optimizer, total, counted = make([point]), torch.zeros_like(point), 2000
    for step in range(2 * counted):
        noise = deviation * torch.randn(point.shape, generator=source, dtype=torch.float64)
        point.grad = point - 1 + noise
        optimizer.step()
        if step >= counted:
            total += point / counted
    return total.mean(1)


def shrunk(penalty: float | Tensor) -> Tensor:
    """The minimum with the L2 penalty."""
    return MINIMUM * CURVATURE / (CURVATURE + penalty)


def thresholded(penalty: float) -> Tensor:
    """The minimum with the L1 penalty."""
    return MINIMUM.sign() * (MINIMUM.abs() - penalty / CURVATURE).clamp_min(0)


def _run() -> Outcome:
    claims = (*_penalties(), *_stopping(), *_decoupled(), *_noise())
    figures = {"shrinkage": _shrinkage(), "stopping": _paths()}
    settings = {
        "h": CURVATURE.tolist(),
        "minimum": MINIMUM.tolist(),
        "penalty": PENALTY,
        "SGD": f"rate {RATE}, from 0, float64, {STEPS} steps",
        "box": f"AdamW and Adam, weight decay {BOX_DECAY}, betas {BETAS}, rate 0.01 falling to 0",
        "noise": (
            f"h = 1 around 1, deviations {NOISE}, weight decay {NOISE_DECAY}, rate 0.01, "
            f"{SEEDS} seeds of {COPIES} runs, mean of steps 2,001 to 4,000"
        ),
    }
    return Outcome(claims, figures, settings)


def _close(words: str, source: str, expected: Tensor, found: Tensor, to: float) -> Claim:
    """A claim that two points agree in every coordinate."""
    off = float((found - expected).abs().max())
    return Claim(words, f"{source}; to {to:g}", _short(expected), _short(found), off <= to)


def _short(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") + 0.0 for value in values.tolist()]


def _penalties() -> Iterator[Claim]:
    l2 = minimise(lambda p: SGD(p, lr=RATE, weight_decay=PENALTY), STEPS)
    words = "SGD with weight_decay: each weight shrinks by the factor h / (h + lambda)"
    yield _close(words, f"{BOOK} 7.1.1", shrunk(PENALTY), l2, 1e-9)
    l1 = minimise(lambda p: SGD(p, lr=RATE, l1=PENALTY), STEPS)
    words = "SGD with l1, constant rate: lambda / h off each weight, or a step from it"
    yield _close(words, f"{BOOK} 7.1.2", thresholded(PENALTY), l1, 2 * RATE * PENALTY)
    falling = minimise(lambda p: SGD(p, lr=RATE, l1=PENALTY), STEPS, falling=True)
    words = "SGD with l1, falling rate: lambda / h off each weight"
    yield _close(words, f"{BOOK} 7.1.2", thresholded(PENALTY), falling, 1e-4)
    zeros = thresholded(PENALTY) == 0
    largest = float(falling[zeros].abs().max())
    words = f"the {int(zeros.sum())} weights that L1 puts to zero: the largest of them"
    yield Claim(words, f"{BOOK} 7.1.2; at most 1e-4", 0.0, largest, largest <= 1e-4)
    smallest = float(l2[zeros].abs().min())
    words = "the same weights under L2: the smallest of them, which is not zero"
    yield Claim(
        words, f"{BOOK} 7.1.1", float(shrunk(PENALTY)[zeros].abs().min()), smallest, smallest > 0.1
    )


def _stopping() -> Iterator[Claim]:
    worst_closed = worst_l2 = 0.0
    for tau in STOPS:
        stopped = minimise(lambda p: SGD(p, lr=RATE), tau)
        left = (1 - RATE * CURVATURE) ** tau
        worst_closed = max(worst_closed, float((stopped - (1 - left) * MINIMUM).abs().max()))
        penalties = (CURVATURE * left / (1 - left)).tolist()
        for k, penalty in enumerate(penalties):  # the lambda that suits this coordinate
            rate = min(RATE, 1 / (CURVATURE[k].item() + penalty))
            equal = minimise(lambda p, r=rate, d=penalty: SGD(p, lr=r, weight_decay=d), STEPS)
            worst_l2 = max(worst_l2, float((equal - stopped)[k].abs()))
    stops = ", ".join(map(str, STOPS))
    words = f"stopped after {stops} steps: departure from (1 - (1 - rate h)^tau) times the minimum"
    yield Claim(words, f"{BOOK} 7.8; to 1e-12", 0.0, worst_closed, worst_closed < 1e-12)
    words = "the same: departure from SGD run to the end with the weight_decay of (1 - rate h)^tau"
    source = f"{BOOK} 7.8: = lambda / (h + lambda); to 1e-9"
    yield Claim(words, source, 0.0, worst_l2, worst_l2 < 1e-9)
    tau, flat = 10, 0.25
    left = (1 - RATE * flat) ** tau
    words = f"where rate h is small: tau = 1 / (rate lambda), for tau = {tau}, h = {flat}"
    yield near(words, f"{BOOK} 7.8", tau, (1 - left) / (left * flat * RATE), 0.1)


def _decoupled() -> Iterator[Claim]:
    coupled = minimise(lambda p: SGD(p, lr=RATE, weight_decay=PENALTY), 50)
    beside = minimise(
        lambda p: SGD(p, lr=RATE, weight_decay=PENALTY, decoupled_weight_decay=True), 50
    )
    words = "SGD, 50 steps: coupled against decoupled decay, largest difference"
    off = float((coupled - beside).abs().max())
    yield Claim(words, f"{LOSHCHILOV}, proposition 1; to 1e-12", 0.0, off, off < 1e-12)
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": BOX_DECAY, "betas": BETAS}
    l2 = minimise(lambda p: Adam(p, **options), 5000, falling=True)
    words = "Adam with L2 in the gradient: the minimum of the penalised loss"
    yield _close(words, "closed form", shrunk(BOX_DECAY), l2, 1e-3)
    box = MINIMUM.clamp(-1 / BOX_DECAY, 1 / BOX_DECAY)
    decayed = minimise(lambda p: AdamW(p, **options), 5000, falling=True)
    words = "AdamW, no noise: the minimum in the box of half-width 1 / lambda, no shrinkage inside"
    yield _close(words, f"{XIE}, theorem 1.1", box, decayed, 1e-2)


def _noise() -> Iterator[Claim]:
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": NOISE_DECAY}
    l2, decayed = noisy(lambda p: Adam(p, **options)), noisy(lambda p: AdamW(p, **options))
    for k, sigma in enumerate(NOISE):
        expected = 1 / (1 + NOISE_DECAY)
        words = f"Adam with L2, gradient noise {sigma:g}: the mean weight"
        source = "h / (h + lambda), whatever the noise; to 3%"
        yield Claim.of_sample(words, source, expected, l2[:, k].tolist(), 0.03)
        # The divisor is the root mean square of the gradient, which the shift from 1 adds to.
        expected = _balance(sigma)
        words = f"AdamW, gradient noise {sigma:g}: the mean weight"
        source = "h / (h + lambda rms(g)), rms(g)^2 = sigma^2 + (h shift)^2; to 3%"
        yield Claim.of_sample(words, source, expected, decayed[:, k].tolist(), 0.03)


def _balance(sigma: float) -> float:
    """The weight w with (1 - w) / rms = lambda w, rms^2 = sigma^2 + (1 - w)^2."""
    w = 0.5
    for _ in range(200):
        w = 1 / (1 + NOISE_DECAY * float(np.hypot(sigma, 1 - w)))
    return w


@styled
def _shrinkage() -> Figure:
    """Where the weights end over where they would without a penalty; curvature 1."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    minima = np.linspace(-1.5, 1.5, 301)
    soft = np.sign(minima) * np.maximum(np.abs(minima) - PENALTY, 0)
    box = np.clip(minima, -1 / BOX_DECAY, 1 / BOX_DECAY)
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": BOX_DECAY, "betas": BETAS}
    makes: tuple[tuple[Axes, str, Make, np.ndarray, str, str], ...] = (
        (
            left,
            "SGD, L2",
            lambda p: SGD(p, lr=RATE, weight_decay=PENALTY),
            minima / (1 + PENALTY),
            "blue",
            "o",
        ),
        (left, "SGD, L1", lambda p: SGD(p, lr=RATE, l1=PENALTY), soft, "wine", "s"),
        (
            right,
            "Adam, L2 in the gradient",
            lambda p: Adam(p, **options),
            minima / (1 + BOX_DECAY),
            series("adam").tone,
            "s",
        ),
        (
            right,
            "AdamW, decay of the weights",
            lambda p: AdamW(p, **options),
            box,
            series("adamw").tone,
            "D",
        ),
    )
    for axes in (left, right):
        axes.plot(minima, minima, ":", color=tone("muted"), label="no penalty")
    some = torch.linspace(-1.5, 1.5, 16, dtype=torch.float64)
    for axes, label, make, line, name, mark in makes:
        one = torch.ones_like(some)
        found = minimise(make, STEPS, falling=True, curvature=one, minimum=some)
        axes.plot(minima, line, lw=1, color=tone(name))
        axes.plot(some, found, mark, color=tone(name), label=label)
    left.set(title=f"SGD: L2 scales, L1 cuts; λ = {PENALTY:g}", ylabel="weight at the end")
    right.set(title=f"Adam: decoupling matters; λ = {BOX_DECAY:g}")
    for axes in (left, right):
        axes.set(xlabel="minimum without penalty, θ*")
        axes.legend(loc="upper left")
    figure.suptitle(
        f"Shrinkage at curvature 1: lines theory, points after {STEPS:,} steps, float64, no noise"
    )
    return figure


@styled
def _paths() -> Figure:
    """Early stopping and L2 between 0 and the minimum, for two curvatures."""
    h, minimum = torch.tensor([[4.0, 0.25], [1.0, 1.0]], dtype=torch.float64)
    steps = walk(lambda p: SGD(p, lr=RATE), 1200, curvature=h, minimum=minimum)
    penalties = torch.logspace(3, -4, 300, dtype=torch.float64)[:, None]
    x = y = np.linspace(-0.1, 1.3, 121)
    z = 2 * (x[None, :] - 1) ** 2 + 0.125 * (y[:, None] - 1) ** 2
    surface = {"x": x, "y": y, "z": z.tolist(), "minima": [[1.0, 1.0, 0.0]], "start": [0.0, 0.0]}
    stopped = [point.tolist() for point in steps]
    line = f"SGD at {RATE:g} from 0, one run, float64; numbers: steps after which it stops"
    figure = contour(surface, {"SGD": stopped}, title=STOPPING, line=line, legend=False)
    axes, look = figure.axes[0], series("sgd")
    found = (h / (h + penalties) * minimum).numpy()
    axes.plot(*found.T, color=tone("wine"), ls=(0, (5, 1.6)), label="minimum with L2, closed form")
    for k in STOPS:
        axes.plot(*stopped[k], "o", color=look.colour, markersize=5, zorder=6)
        axes.annotate(f"{k}", (stopped[k][0], stopped[k][1]), (7, -11), textcoords="offset points")
    axes.set(xlabel="weight of curvature 4", ylabel="weight of curvature 0.25")
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="regularisation",
    title="Regularisation: L2 scales, L1 cuts, early stopping is L2, and decoupling matters",
    summary=(
        "On a quadratic the weights that SGD ends at with weight_decay and with l1 are those of "
        "the closed forms, and stopping early equals an L2 penalty in each eigendirection. Under "
        "SGD it makes no difference whether decay is in the gradient or beside the step; under "
        "Adam the first ends at the penalised minimum and the second in a box, or, with noise, "
        "shrinks the noisy weights most."
    ),
    run=_run,
    seconds=7.0,
)
