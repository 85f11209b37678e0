r"""How long Adam's steps can be, in units of its learning rate.

Under a constant gradient the corrected mean is the gradient and the corrected second moment its
square, so the step is the rate. Kingma and Ba bound it by
:math:`\eta (1 - \beta_1) / \sqrt{1 - \beta_2}` where that is more than :math:`\eta`, met by one
gradient after a long silence. Cauchy and Schwarz give what holds for every history,

.. math::
    \frac{|m|}{\sqrt v} \le \frac{1 - \beta_1}
        {\sqrt{(1 - \beta_2)\,(1 - \beta_1^2 / \beta_2)}} ,

with equality for gradients that grow by :math:`\beta_2 / \beta_1` a step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.optim import SGD, Adam
from thalweg.report import canvas
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT"]

MEAN, SQUARE = 0.9, 0.999  # beta1, beta2
RATE, SILENCE, SEEDS = 0.01, 8000, (1, 2, 3, 4, 5)
PAPER = "Kingma and Ba 2015"
SPARSE = (1 - MEAN) / math.sqrt(1 - SQUARE)
SHARP = SPARSE / math.sqrt(1 - MEAN**2 / SQUARE)

Method = Callable[..., Any]


def steps(method: Method, gradients: Tensor, **settings: Any) -> tuple[Tensor, Any]:
    """The steps, in learning rates, that gradients [steps, n] cause, and the optimizer."""
    point = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer, moved = method([point], lr=RATE, **settings), []
    for gradient in gradients:
        point.grad = gradient
        before = point.detach().clone()
        optimizer.step()
        moved.append((before - point.detach()) / RATE)
    return torch.stack(moved), optimizer


def uncorrected(gradients: Tensor) -> Tensor:
    """The steps of Adam without its two corrections, in learning rates."""
    mean = square = torch.zeros_like(gradients[0])
    moved = []
    for gradient in gradients:
        mean = MEAN * mean + (1 - MEAN) * gradient
        square = SQUARE * square + (1 - SQUARE) * gradient**2
        moved.append(mean / (square.sqrt() + 1e-8))
    return torch.stack(moved)


@functools.cache
def after_silence(method: Method, betas: tuple[float, float] = (MEAN, SQUARE)) -> Tensor:
    """The steps under :func:`histories`, after so many zeros that the corrections are over."""
    tail = histories()
    silence = torch.zeros(SILENCE, *tail.shape[1:], dtype=tail.dtype)
    return steps(method, torch.cat([silence, tail]), betas=betas)[0][SILENCE:]


def histories() -> Tensor:
    """Gradients [120, 3] for after a silence: one alone, a constant, and one that grows."""
    alone = torch.zeros(120, dtype=torch.float64)
    alone[0] = 1.0
    growing = (SQUARE / MEAN) ** torch.arange(-119.0, 1.0, dtype=torch.float64)
    return torch.stack([alone, torch.ones_like(alone), growing * 1e4], dim=1)


def constant_claims(method: Method = Adam) -> list[Claim]:
    """What a constant gradient does to the mean and to the step."""
    sizes = torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)
    gradients = sizes.expand(1000, 3)
    moved, optimizer = steps(method, gradients)
    state = next(iter(optimizer.state.values()))
    corrected = state["exp_avg"] / (1 - MEAN**1000) / sizes
    velocity = steps(SGD, gradients, momentum=MEAN)[0][-1] / sizes
    first = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = next(iter(steps(method, first[None])[1].state.values()))["exp_avg"]
    error = float(((once / (1 - MEAN) - first) / first).abs().max())
    words = "corrected mean after one gradient, 1,000 normal ones (seed 0): largest relative error"
    span = [float(moved.min()), float(moved.max())]
    bound = "1 less at most 1e-4 (eps), never more"
    within = 1 - 1e-4 < span[0] <= span[1] <= 1 + 1e-12
    return [
        near("constant gradient: corrected mean / g after 1,000 steps", PAPER, 1, _far(corrected)),
        near("SGD with momentum 0.9 beside it: velocity / g", "1/(1 - beta)", 10, _far(velocity)),
        Claim(
            "constant gradients 0.001, 1, 1000: least, largest step / lr",
            PAPER,
            bound,
            span,
            within,
        ),
        Claim(words, f"{PAPER}, section 3: m_1/(1 - beta1) = g_1", "0", error, error < 1e-12),
    ]


def _far(values: Tensor) -> float:
    """The value that is farthest from their mean: all agree if it does."""
    return float(values[(values - values.mean()).abs().argmax()])


def correction_claims(method: Callable[[Tensor], Tensor] = uncorrected) -> list[Claim]:
    """What the same gradients do without the corrections."""
    moved = method(torch.ones(200, 1, dtype=torch.float64)).flatten()
    peak = max((1 - MEAN**t) / math.sqrt(1 - SQUARE**t) for t in range(1, 201))
    law = f"{PAPER}, sections 3 and 6.4; (1 - beta1^t)/sqrt(1 - beta2^t)"
    return [
        near(
            "without correction, constant gradient: first step / lr", law, SPARSE, moved[0].item()
        ),
        near("without correction: longest step / lr", law, peak, moved.max().item()),
    ]


def mean_claims(method: Method = Adam) -> list[Claim]:
    """The expectation of the mean at the first steps, with and without its correction."""
    found = averages(method)
    rows = (("corrected", 0, 0.0), ("uncorrected", 1, MEAN))
    return [
        Claim.of_sample(
            f"gradients of mean 1 and deviation 1: average of the {name} mean at step {t}",
            f"{PAPER}, section 3, equation 4",
            1 - lost**t,
            found[k, :, t - 1].tolist(),
        )
        for name, k, lost in rows
        for t in (1, 10)
    ]


def averages(method: Method = Adam) -> Tensor:
    """The mean with and without correction, [2, seeds, 40], over 4,000 coordinates."""
    found = torch.zeros(2, len(SEEDS), 40, dtype=torch.float64)
    for row, seed in enumerate(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(40, 4000, generator=generator, dtype=torch.float64)
        point = nn.Parameter(torch.zeros_like(noise[0]))
        optimizer = method([point], lr=RATE)
        for t, gradient in enumerate(1 + noise, start=1):
            point.grad = gradient
            optimizer.step()
            raw = optimizer.state[point]["exp_avg"].mean()
            found[:, row, t - 1] = torch.stack([raw / (1 - MEAN**t), raw])
    return found


def bound_claims(method: Method = Adam) -> list[Claim]:
    """The two cases of the paper's bound, and what is true of every history."""
    longest = after_silence(method).abs().amax(0).tolist()
    # Second case: 1 - beta1 = 0.1 is less than sqrt(1 - beta2) = 0.22.
    other = after_silence(method, (0.9, 0.95))[:, :2].abs().amax(0).tolist()
    equal = after_silence(method, (0.95, 0.95))[:, :2].abs().max().item()
    first, second = f"{PAPER}, section 2.1, first case", f"{PAPER}, section 2.1, second case"
    sharp = "derived: Cauchy and Schwarz; the cause of what does not hold above"
    alone = "one gradient after a silence"
    both = f"longest step / lr, {alone}, or a burst of equal ones"
    burst = (
        "It is the bound of a single gradient. Equal ones after a silence add up faster in the "
        "mean than in the second moment; the sharp bound covers every history."
    )
    return [
        near(f"{alone}: step / lr = (1 - beta1)/sqrt(1 - beta2)", first, SPARSE, longest[0]),
        _at_most(
            f"read as a bound for all gradients: {both}", first, SPARSE, max(longest[:2]), burst
        ),
        near("sharp bound, met by gradients that grow by beta2/beta1", sharp, SHARP, longest[2]),
        near(f"betas (0.9, 0.95): {alone}", second, 0.1 / math.sqrt(0.05), other[0]),
        _at_most(
            f"betas (0.9, 0.95), bound 1 for all gradients: {both}", second, 1.0, max(other), burst
        ),
        _at_most(f"betas (0.95, 0.95), where the sharp bound is 1: {both}", sharp, 1.0, equal),
    ]


def _at_most(claim: str, source: str, bound: float, measured: float, because: str = "") -> Claim:
    holds = measured <= bound * (1 + 1e-6)
    return Claim(claim, source, f"<= {bound:.4g}", round(measured, 4), holds, because=because)


def sparse_claims(method: Method = Adam) -> list[Claim]:
    """Normal gradients that are present once in a hundred steps."""
    longest = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        gradients = torch.randn(3000, 1000, generator=generator, dtype=torch.float64)
        gradients *= torch.rand(3000, 1000, generator=generator) < 0.01
        longest.append(steps(method, gradients)[0][1000:].abs().max().item())
    words = "normal gradients, present in 1% of steps: longest step / lr over 1,000 coordinates"
    within = all(1 < value <= SHARP for value in longest)
    found, source = Interval.of(longest), f"{PAPER}, section 2.1; every seed is within"
    half = found.half_width or 0.0
    span = (found.mean - half, found.mean + half)
    expected = f"above 1, at most {SHARP:.3f}"
    return [Claim(words, source, expected, found.mean, within, span, found.n)]


def _run() -> Outcome:
    claims = (
        *constant_claims(),
        *correction_claims(),
        *mean_claims(),
        *bound_claims(),
        *sparse_claims(),
    )
    figures = {"constant": _constant(), "correction": _correction(), "silence": _silence()}
    settings = {
        "optimizer": f"thalweg.optim.Adam, betas ({MEAN}, {SQUARE}) unless said, eps 1e-8",
        "lr": RATE,
        "dtype": "float64",
        "silence": f"{SILENCE:,} steps of gradient 0",
        "seeds": list(SEEDS),
    }
    return Outcome(claims, figures, settings)


@styled
def _constant() -> Figure:
    figure, axes = canvas.axes(None)
    gradients, t = torch.ones(200, 1, dtype=torch.float64), range(1, 201)
    runs = (
        (steps(Adam, gradients)[0], "adam", "-", "Adam"),
        (uncorrected(gradients), "adam", "--", "Adam without bias correction"),
        (steps(SGD, gradients, momentum=MEAN)[0], "momentum", "-", "SGD, momentum 0.9, g = 1"),
    )
    for moved, label, dash, words in runs:
        axes.plot(t, moved, color=series(label).colour, ls=dash, label=words)
    axes.set(
        xscale="log", yscale="log", xlabel="step (log)", ylabel="length of the step / lr (log)"
    )
    canvas.log_axis(axes.yaxis, 0.8, 12)
    canvas.caption(axes, "A constant gradient: Adam's step is its rate", "float64, one run each")
    canvas.legend(axes)
    return figure


@styled
def _correction() -> Figure:
    figure, axes = canvas.axes(None)
    t = range(1, 41)
    for rows, words, colour in zip(
        averages(), ("corrected", "not corrected"), ("vermillion", "muted"), strict=True
    ):
        axes.plot(t, rows.mean(0), color=tone(colour), label=f"mean of gradients, {words}")
        axes.fill_between(t, rows.amin(0), rows.amax(0), color=tone(colour), alpha=0.25, lw=0)
    axes.axhline(1, color=tone("ink"), lw=0.9, ls=":")
    axes.set(xlabel="step", ylabel="average over 4,000 coordinates", ylim=(0, 1.15))
    line = "normal gradients of mean 1, deviation 1; seeds 1-5 (band: least to largest)"
    canvas.caption(axes, "Bias correction recovers the mean from step 1", line)
    canvas.legend(axes)
    return figure


@styled
def _silence() -> Figure:
    figure, axes = canvas.axes(None)
    moved = after_silence(Adam)
    names = (
        "one gradient, then none",
        "a constant gradient",
        "a gradient that grows by 11% a step",
    )
    for column, (name, colour) in enumerate(zip(names, ("blue", "green", "wine"), strict=True)):
        axes.plot(range(1, 121), moved[:, column], color=tone(colour), label=name)
    for height, words in (
        (1, "lr"),
        (SPARSE, "Kingma and Ba: 3.16"),
        (SHARP, f"sharp: {SHARP:.2f}"),
    ):
        axes.axhline(height, color=tone("ink"), lw=0.9, ls=":")
        axes.annotate(words, (32, height + 0.1), fontsize=8.5)
    axes.set(xlabel="step after a long silence", ylabel="step / lr", ylim=(0, 8))
    canvas.caption(axes, "Steps longer than the rate", "Adam's defaults, float64, one run each")
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="adam-step-bound",
    title="Adam's step: the learning rate under a constant gradient, more after a silence",
    summary=(
        "Steps of Adam in units of its learning rate under constant, noisy, sparse and sudden "
        "gradients; the bias correction of the mean and what happens without it. The published "
        "bound for sparse gradients is met by one gradient after a silence; a burst goes beyond "
        "it, up to the bound of Cauchy and Schwarz."
    ),
    run=_run,
    seconds=10.0,
)
