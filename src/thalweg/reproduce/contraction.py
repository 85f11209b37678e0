r"""How much of an error gradient descent keeps: a factor a step along each eigenvector.

On a quadratic with curvature :math:`\lambda` the rate :math:`\alpha` gives
:math:`e_k = (1 - \alpha\lambda)^k\, e_0`. With :math:`\alpha\lambda \le 1` the error decays,
between 1 and 2 it changes sign at each step, beyond 2 it grows. One rate serves all curvatures, so
the best is the one where the two ends shrink alike, :math:`2 / (\lambda_{\min} + \lambda_{\max})`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD
from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, walk


__all__ = ["EXPERIMENT"]

RATE, CURVATURES, STEPS = 0.005, (100.0, 0.01), (5, 10_000)
PRODUCTS = tuple(k / 20 for k in range(1, 61))  # of rate and curvature, 0.05 to 3
ENDS, TRIED = (1.0, 5.0), [k / 300 for k in range(1, 136)]  # rates 1/300 to 0.45
LAW = "closed form (1 - alpha lambda)^k"
BEST = "2/(lambda_min + lambda_max): Boyd and Vandenberghe 2004, 9.3; Goh 2017"

Method = Callable[..., Any]


@functools.cache
def errors(method: Method, rate: float, curvatures: tuple[float, ...], steps: int) -> Tensor:
    """The errors after 0, 1, ... steps, [steps + 1, curvatures], from 1 in each."""
    bends = torch.tensor(curvatures, dtype=torch.float64)
    start = torch.ones_like(bends)
    return walk(lambda x: 0.5 * bends * x**2, start, lambda p: method(p, lr=rate), steps)


def claims(method: Method = SGD) -> list[Claim]:
    """All claims, for gradient descent or for what is to be found out as something else."""
    kept = errors(method, RATE, CURVATURES, STEPS[1])
    words = "lambda = {:g}, alpha = 0.005: share of the error left after {:,} steps, about {}"
    left = [
        near(words.format(curve, k, said), LAW, (1 - RATE * curve) ** k, kept[k, axis].item(), 1e-9)
        for axis, (curve, k, said) in enumerate(zip(CURVATURES, STEPS, ("3%", "60%"), strict=True))
    ]
    return [*left, *regimes(method), *balance(method)]


def factors(method: Method) -> np.ndarray:
    """The factor a step at each tried rate for both ends, [rates, 2], as a mean of ten steps."""
    paths = [errors(method, rate, ENDS, 10) for rate in TRIED]
    return np.array([(path[-1].abs() ** 0.1).tolist() for path in paths])


def regimes(method: Method) -> list[Claim]:
    """Where the error decays, oscillates and grows."""
    path = errors(method, 1.0, PRODUCTS, 40)
    size, turns = path[-1].abs(), path[1:] * path[:-1]
    steady, swings = (turns >= 0).all(0), (turns < 0).all(0)
    found = {
        "decays without changing sign": (steady & (size < 1), [0.05, 1.0]),
        "changes sign at each step and shrinks": (swings & (size < 1), [1.05, 1.95]),
        "changes sign and keeps its size": (swings & (size == 1), [2.0, 2.0]),
        "changes sign and grows": (swings & (size > 1), [2.05, 3.0]),
    }
    made = []
    for words, (where, expected) in found.items():
        kept = [product for product, yes in zip(PRODUCTS, where, strict=True) if yes]
        span = [kept[0], kept[-1]] if kept else []
        # No gaps: as many values as fit between the two ends, 0.05 apart.
        whole = len(kept) == round((expected[1] - expected[0]) / 0.05) + 1
        claim = f"the error {words}: at alpha lambda (of 0.05, 0.1 ... 3)"
        holds = span == expected and whole
        made.append(Claim(claim, LAW, _reach(expected), _reach(span), holds))
    return made


def _reach(span: list[float]) -> str:
    """A range in words."""
    if not span:
        return "none"
    return f"{span[0]:g}" if span[0] == span[1] else f"{span[0]:g} to {span[1]:g}"


def balance(method: Method) -> list[Claim]:
    """The best rate for two curvatures."""
    found = factors(method)
    worst = found.max(axis=1)
    low, high = found[int(worst.argmin())]
    return [
        near("lambda 1 and 5: rate of the fastest descent", BEST, 1 / 3, TRIED[worst.argmin()]),
        near("lambda 1 and 5: factor a step at it, (5 - 1)/(5 + 1)", BEST, 2 / 3, worst.min()),
        near("lambda 1 and 5: there both ends shrink alike, ratio of factors", BEST, 1, low / high),
    ]


def _run() -> Outcome:
    figures = {"rate": _rates(factors(SGD)), "kept": _kept(), "regimes": _panels()}
    settings = {
        "f": "lambda x^2 / 2 along each axis",
        "start": "error 1 on each axis",
        "dtype": "float64",
        "optimizer": "thalweg.optim.SGD, no momentum",
        "runs": "one each: nothing is random",
    }
    return Outcome(tuple(claims()), figures, settings)


@styled
def _rates(found: np.ndarray) -> Figure:
    figure, axes = canvas.axes(None)
    worst = found.max(axis=1)
    axes.plot(TRIED, worst, color=tone("rule"), lw=6, label="the larger of both, measured")
    for axis, (name, colour) in enumerate((("λ = 1", "blue"), ("λ = 5", "orange"))):
        axes.plot(TRIED, found[:, axis], color=tone(colour), label=f"{name}: measured factor")
    best = int(worst.argmin())
    words = f"best: rate {TRIED[best]:.3f}, factor {worst[best]:.3f}"
    axes.plot(TRIED[best], worst[best], "o", color=tone("ink"), label=words)
    axes.axvline(0.4, color=tone("muted"), lw=0.9, ls=":")
    axes.annotate("2/5: unstable beyond", (0.397, 0.06), ha="right", fontsize=8.5)
    axes.set(xlabel="learning rate", ylabel="factor of the error a step", ylim=(0, 1.3))
    line = f"SGD, float64, mean of 10 steps at each of {len(TRIED)} rates"
    canvas.caption(axes, "The best rate balances both ends: 1/3, factor 2/3", line)
    canvas.legend(axes)
    return figure


@styled
def _kept() -> Figure:
    figure, axes = canvas.axes(None)
    path = errors(SGD, RATE, CURVATURES, STEPS[1])
    for axis, colour in enumerate(("orange", "blue")):
        k, curve = STEPS[axis], CURVATURES[axis]
        axes.plot(range(1, STEPS[1] + 1), path[1:, axis], color=tone(colour))
        axes.plot(k, path[k, axis], "o", color=tone(colour))
        words = f"λ = {curve:g}\n{path[k, axis]:.1%} left after {k:,} steps"
        shift, side = ((8, 8), "left") if axis == 0 else ((-10, -18), "right")
        axes.annotate(words, (k, path[k, axis]), shift, textcoords="offset points", ha=side)
    axes.set(xscale="log", xlabel="step (log)", ylabel="share of the error left", ylim=(-0.03, 1.2))
    line = "SGD at the rate 0.005, curvatures 100 and 0.01, float64, one run"
    canvas.caption(axes, "One rate: the steep direction is done before the flat one starts", line)
    return figure


@styled
def _panels() -> Figure:
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    panels = {
        "αλ ≤ 1: decays": (0.2, 1.0),
        "1 < αλ < 2: oscillates": (1.5, 1.9),
        "αλ > 2: diverges": (2.05, 2.1),
    }
    for axes, (title, products) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for product, colour in zip(products, ("blue", "orange"), strict=True):
            path = errors(SGD, 1.0, (product,), 20)
            label = f"αλ = {product:g}"
            axes.plot(path, ".-", color=tone(colour), lw=1.2, label=label)
        axes.set(xlabel="step", xticks=range(0, 21, 5), title=title)
        axes.set(ylim=(-7, 11) if min(products) > 2 else (-1.1, 1.7))
        axes.legend(loc="upper right")
    figure.axes[0].set(ylabel="error (1 at the start)")
    figure.suptitle("Three regimes of SGD: rate α, curvature λ, float64, one run each")
    return figure


EXPERIMENT = Experiment(
    name="contraction",
    title="Gradient descent on a quadratic: a factor a step along each eigenvector",
    summary=(
        "SGD on curvatures from 0.01 to 100: the share of the error left is (1 - alpha lambda)^k; "
        "it decays, oscillates or diverges as alpha lambda passes 1 and 2; and with two curvatures "
        "the best rate is the one at which both ends shrink alike."
    ),
    run=_run,
    seconds=4.0,
)
