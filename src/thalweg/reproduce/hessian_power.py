r"""From gradient descent to Newton's method: the power k of the curvature that a step divides by.

On a quadratic with curvatures :math:`\lambda` along the axes AdaHessian without momentum multiplies
each error by :math:`1 - \eta \lambda^{1 - k}`: the condition number :math:`\kappa` becomes
:math:`\kappa^{1-k}`, and at the best rate the slowest error falls by
:math:`(\kappa^{1-k} - 1) / (\kappa^{1-k} + 1)` a step.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from thalweg.objective import Objective
from thalweg.optim import AdaHessian
from thalweg.problems.digits import digits, digits_data
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.curved_walk import curved_walk
from thalweg.reproduce.walks import near
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT"]

PAPER = "Yao et al., AdaHessian, 2021, equation 9"
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
KAPPA, AXES, STEPS = 1e4, 9, 400
CURVATURES = torch.logspace(-4, 0, AXES, dtype=torch.float64)
RATES = (0.02, 0.1, 0.5, 2.0, 4.0)
SEEDS, TRAINED, BATCH = (0, 1, 2), 120, 128


def best_rate(power: float) -> float:
    """The rate at which the slowest and the fastest error fall alike."""
    ends = CURVATURES[0] ** (1 - power) + CURVATURES[-1] ** (1 - power)
    return float(2 / ends)


def factor(power: float) -> float:
    """The published factor a step, at that rate."""
    kappa = KAPPA ** (1 - power)
    return (kappa - 1) / (kappa + 1)


@functools.cache
def errors(power: float, steps: int = STEPS) -> np.ndarray:
    """The largest error over the axes after each step, from errors of 1."""

    def method(params: list[Tensor]) -> Any:
        options = {"betas": (0.0, 0.999), "eps": 1e-9, "hessian_power": power}
        return AdaHessian(params, lr=best_rate(power), **options)

    start = torch.ones(AXES, dtype=torch.float64)
    path = curved_walk(lambda x: 0.5 * (CURVATURES * x**2).sum(), start, method, steps)
    return path.abs().amax(1).numpy()


@functools.cache
def trained(power: float, rate: float) -> np.ndarray:
    """The training loss on the digits network after 0, 10, 20 ... steps, a row each seed."""
    problem, rows = digits(), []
    inputs, labels = digits_data().train
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = problem.model()
            optimizer = AdaHessian(
                model.parameters(), lr=rate, hessian_power=power, seed=1000 * seed
            )
            objective = Objective(model, F.cross_entropy)
            whole = objective.closure(inputs, labels)
            losses = [float(whole.value())]
            for step in range(1, TRAINED + 1):
                chosen = torch.randint(len(labels), (BATCH,))
                optimizer.step(objective.closure(inputs[chosen], labels[chosen]))
                if step % 10 == 0:
                    losses.append(float(whole.value()))
        rows.append(losses)
    return np.array(rows)


def best(power: float) -> float:
    """The rate with the least mean loss at the end."""
    return min(RATES, key=lambda rate: float(trained(power, rate)[:, -1].mean()))


def quadratic_claims() -> list[Claim]:
    """The factor a step for each power."""
    made = []
    for power in POWERS[:-1]:
        found = errors(power)
        measured = float((found[-1] / found[STEPS // 2]) ** (2 / STEPS))
        words = f"quadratic, condition number 10,000, k = {power:g}: 1 - factor a step"
        law = f"{PAPER}; derived: condition number to the power 1 - k"
        made.append(near(words, law, 1 - factor(power), 1 - measured))
    left = float(errors(1.0)[1])
    words = "quadratic, k = 1, which is Newton's method: largest error after one step"
    return [*made, Claim(words, f"{PAPER}; to rounding", 0.0, left, left < 1e-12)]


def digits_claims() -> list[Claim]:
    """The loss of the digits network at the end: at one rate, then each power at its best."""
    rate = RATES[0]
    same = [round(float(trained(power, rate)[:, -1].mean()), 3) for power in POWERS]
    ends = {power: np.log(trained(power, best(power))[:, -1]) for power in POWERS}
    falls = ends[0.0] - ends[1.0]
    tuned = f"digits network, {TRAINED} steps, each k at its best of {len(RATES)} rates"
    words = "logarithm of the training loss"
    return [
        Claim(
            f"digits network, {TRAINED} steps at rate {rate:g}: the training loss falls with k",
            f"{PAPER}: curvature sets the scale of a step",
            "falls",
            same,
            same == sorted(same, reverse=True),
            n=len(SEEDS),
        ),
        Claim(
            f"{tuned}: {words}, k = 0 less k = 1",
            f"{PAPER}: curvature helps; above 0",
            "> 0",
            round(float(falls.mean()), 4),
            bool(falls.mean() > 0),
            _interval(falls),
            len(SEEDS),
            because=(
                "This network is small and well conditioned, and with a rate a hundred times "
                "larger gradient descent with momentum trains it as well."
            ),
        ),
    ]


def _interval(values: np.ndarray) -> tuple[float, float]:
    found = Interval.of(values)
    half = found.half_width or 0.0
    return found.mean - half, found.mean + half


def _run() -> Outcome:
    settings = {
        "optimizer": "thalweg.optim.AdaHessian",
        "k": list(POWERS),
        "quadratic": f"{AXES} curvatures from 1e-4 to 1, errors of 1, no momentum, best rate of k",
        "digits": f"perceptron 64-64-64-10, batches of {BATCH}, {TRAINED} steps, defaults but lr",
        "lr on digits": list(RATES),
        "seeds": list(SEEDS),
    }
    figures = {"quadratic": _quadratic(), "digits": _digits()}
    return Outcome((*quadratic_claims(), *digits_claims()), figures, settings)


TONES = ("muted", "wine", "vermillion", "green", "blue")


@styled
def _quadratic() -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(STEPS + 1)
    for power, name in zip(POWERS, TONES, strict=True):
        shown = np.maximum(errors(power), 1e-14)
        left.plot(steps, shown, color=tone(name), label=f"k = {power:g}")
        left.plot(steps, np.maximum(factor(power) ** steps, 1e-14), "k:", lw=0.8)
    left.set(yscale="log", xlabel="step", ylabel="largest error (log)", ylim=(1e-12, 3))
    left.set_title("Errors; dotted: theory")
    left.legend(loc="center right")
    grid = np.linspace(0.0, 0.97, 98)
    right.plot(grid, [-1 / math.log(factor(k)) for k in grid], color=tone("ink"), label="theory")
    found = [(errors(k)[-1] / errors(k)[STEPS // 2]) ** (2 / STEPS) for k in POWERS[:-1]]
    counts = [-1 / math.log(value) for value in found]
    right.plot(POWERS[:-1], counts, "o", color=tone("vermillion"), label="measured")
    right.set(yscale="log", xlabel="power k", ylabel="steps for each factor e (log)")
    right.set_title("Newton's method at k = 1 takes one step")
    right.legend()
    figure.suptitle("Curvatures from 1e-4 to 1, each k at its best rate, no momentum; one run each")
    return figure


@styled
def _digits() -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    steps = np.arange(0, TRAINED + 1, 10)
    for power, name in zip(POWERS, TONES, strict=True):
        rows = trained(power, best(power))
        left.plot(
            steps, rows.mean(0), color=tone(name), label=f"k = {power:g}, rate {best(power):g}"
        )
        left.fill_between(steps, rows.min(0), rows.max(0), color=tone(name), alpha=0.15, lw=0)
        ends = [np.minimum(trained(power, rate)[:, -1], 5.0).mean() for rate in RATES]
        right.plot(RATES, ends, "o-", color=tone(name), label=f"k = {power:g}")
    left.set(yscale="log", xlabel="step", ylabel="training loss (log)")
    left.set_title("Each k at its best rate (band: least to largest)")
    left.legend()
    right.set(xscale="log", xlabel="rate (log)", title=f"After {TRAINED} steps (at most 5 drawn)")
    figure.suptitle(f"Digits network, mean of {len(SEEDS)} seeds")
    return figure


EXPERIMENT = Experiment(
    name="hessian-power",
    title="The power of the curvature: from gradient descent to Newton's method",
    summary=(
        "AdaHessian divides by the curvature to the power k. On an ill-conditioned quadratic its "
        "condition number falls to the power 1 - k, down to one step of Newton's method; on the "
        "digits network each k is run at several rates and seeds."
    ),
    run=_run,
    seconds=30.0,
)
