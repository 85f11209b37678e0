r"""Polyak-Ruppert averaging: the average of SGD's iterates is as good as any estimate can be.

With gradients :math:`H(\theta - \theta^*) + \xi`, :math:`\operatorname{Cov} \xi = S`, the last
iterate at a constant rate :math:`\eta` keeps the covariance C that solves
:math:`HC + CH - \eta HCH = \eta S`, of the order of :math:`\eta` however long it runs. The average
of n iterates has :math:`H^{-1} S H^{-1} / n`, whatever the rate: for least squares, where
:math:`H = E[xx^\top]` and :math:`S = \sigma^2 H`, the :math:`\sigma^2 H^{-1}/n` of the estimate
that solves the normal equations of all n samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD, WeightAveraging
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.fits import exponent


__all__ = ["EXPERIMENT"]

HESSIAN = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.2]], dtype=torch.float64)
NOISE = torch.tensor([[1.0, -0.4, 0.2], [-0.4, 0.6, 0.0], [0.2, 0.0, 0.4]], dtype=torch.float64)
RATES, DECAY, HOLD = (0.1, 0.4), 0.6, 50
SEEDS, COPIES, STEPS = 16, 64, 10_000
LOOKS = tuple(sorted({int(n) for n in np.geomspace(30, STEPS, 25)}))
PAPER = "Polyak, Juditsky 1992"
SHAPE = (SEEDS, COPIES, 3)


@final
@dataclass(frozen=True)
class Errors:
    """Errors of the average and of the last iterate at each of LOOKS, [looks, seeds, copies, 3]."""

    average: Tensor
    last: Tensor

    def squared(self, name: str) -> Tensor:
        """The mean squared distance by look and seed, [looks, seeds]."""
        return getattr(self, name).square().sum(-1).mean(-1)


def quadratic(rate: float) -> Errors:
    """SGD at a constant rate under additive noise, from a distance of 1 in each coordinate."""
    source = torch.Generator().manual_seed(1)
    point = torch.ones(SHAPE, dtype=torch.float64)
    root = torch.linalg.cholesky(NOISE).T

    def gradient() -> Tensor:
        return point @ HESSIAN + torch.randn(SHAPE, generator=source, dtype=torch.float64) @ root

    return _walk(point, gradient, rate, 0.0)


def regression() -> tuple[Errors, Tensor]:
    """SGD on one fresh sample a step, the rate falling; and least squares on the same samples."""
    source = torch.Generator().manual_seed(2)
    point = torch.ones(SHAPE, dtype=torch.float64)
    root = torch.linalg.cholesky(HESSIAN).T
    moments = torch.zeros(*SHAPE, 3, dtype=torch.float64)
    correlation = torch.zeros(SHAPE, dtype=torch.float64)

    def gradient() -> Tensor:
        x = torch.randn(SHAPE, generator=source, dtype=torch.float64) @ root
        noise = torch.randn(*SHAPE[:2], 1, generator=source, dtype=torch.float64)
        moments.add_(x[..., :, None] * x[..., None, :])
        correlation.add_(x * noise)  # the true weights are 0, so that y is the noise
        return ((x * point).sum(-1, keepdim=True) - noise) * x

    errors = _walk(point, gradient, 0.3, DECAY)
    return errors, torch.linalg.solve(moments, correlation)


def _walk(point: Tensor, gradient: Any, rate: float, decay: float) -> Errors:
    optimizer = WeightAveraging(SGD([point], lr=rate))
    average, last = [], []
    for n in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + n / HOLD) ** -decay
        point.grad = gradient()
        optimizer.step()
        if n in LOOKS:
            last.append(point.clone())
            with optimizer.evaluation():
                average.append(point.clone())
    return Errors(torch.stack(average), torch.stack(last))


def sandwich() -> Tensor:
    """The optimal covariance, H^-1 S H^-1."""
    inverse = torch.linalg.inv(HESSIAN)
    return inverse @ NOISE @ inverse


def stationary(rate: float) -> Tensor:
    """The covariance of the last iterate: H C + C H - rate H C H = rate S, solved as it stands."""
    one = torch.eye(3, dtype=torch.float64)
    system = torch.kron(HESSIAN, one) + torch.kron(one, HESSIAN)
    system = system - rate * torch.kron(HESSIAN, HESSIAN)
    return torch.linalg.solve(system, rate * NOISE.reshape(-1)).reshape(3, 3)


def _run() -> Outcome:
    runs = {rate: quadratic(rate) for rate in RATES}
    stream, solved = regression()
    claims = (*_averages(runs), *_last(runs), *_least_squares(stream, solved))
    figures = {"averaging": _picture(runs, stream, solved)}
    settings = {
        "H": HESSIAN.tolist(),
        "S": NOISE.tolist(),
        "rates": list(RATES),
        "least squares": (
            f"rate 0.3 (1 + n/{HOLD})^-{DECAY}, noise of variance 1, one sample a step"
        ),
        "steps": STEPS,
        "repetitions": f"{SEEDS} seeds of {COPIES} runs",
        "start": [1.0, 1.0, 1.0],
    }
    return Outcome(claims, figures, settings)


def _averages(runs: dict[float, Errors]) -> Iterator[Claim]:
    late = [k for k, n in enumerate(LOOKS) if n >= 500]
    for rate, errors in runs.items():
        squared = errors.squared("average")
        slopes = [exponent(np.array(LOOKS)[late], column[late]) for column in squared.T.numpy()]
        words = f"rate {rate}: exponent of the average's squared error in n, from 500 on"
        yield Claim.of_sample(words, f"{PAPER}; to 5%", -1.0, slopes, 0.05)
        scaled = STEPS * squared[-1]
        words = f"rate {rate}: n times the average's squared error at n = {STEPS}"
        source = f"{PAPER}: tr H^-1 S H^-1; to 5%"
        yield Claim.of_sample(words, source, float(sandwich().trace()), scaled.tolist(), 0.05)
    best = sandwich()
    error = runs[RATES[1]].average[-1].reshape(-1, 3)
    found = STEPS * error.T @ error / len(error)
    off = float((found - best).norm() / best.norm())
    yield Claim(
        f"rate {RATES[1]}: the whole covariance times n, relative distance from H^-1 S H^-1",
        f"{PAPER}; {len(error)} runs leave some 3%; at most 10%",
        0.0,
        off,
        off < 0.1,
    )


def _last(runs: dict[float, Errors]) -> Iterator[Claim]:
    late = [k for k, n in enumerate(LOOKS) if n >= 500]
    for rate, errors in runs.items():
        squared = errors.squared("last")[late].mean(0)
        words = f"rate {rate}: squared error of the last iterate, from step 500 on"
        source = "trace of the stationary covariance; to 2%"
        expected = float(stationary(rate).trace())
        yield Claim.of_sample(words, source, expected, squared.tolist(), 0.02)


def _least_squares(stream: Errors, solved: Tensor) -> Iterator[Claim]:
    late = [k for k, n in enumerate(LOOKS) if n >= 500]
    ratio = stream.squared("average")[-1] / solved.square().sum(-1).mean(-1)
    words = f"linear regression: squared error of the average over least squares', n = {STEPS}"
    yield Claim.of_sample(
        words, f"{PAPER}: as good as any; in the limit, to 10%", 1.0, ratio.tolist(), 0.1
    )
    for name, law in (("average", -1.0), ("last", -DECAY)):
        squared = stream.squared(name)
        slopes = [exponent(np.array(LOOKS)[late], column[late]) for column in squared.T.numpy()]
        words = f"linear regression, rate like n^-{DECAY}: exponent of the squared error, {name}"
        yield Claim.of_sample(words, f"{PAPER}; to 5%", law, slopes, 0.05)


@styled
def _picture(runs: dict[float, Errors], stream: Errors, solved: Tensor) -> Figure:
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    n = np.array(LOOKS)
    for (rate, errors), dash in zip(runs.items(), ("-", (0, (5, 1.6))), strict=True):
        _band(left, errors.squared("last"), "sgd", f"last iterate, rate {rate}", dash)
        _band(left, errors.squared("average"), "weight-averaging", f"average, rate {rate}", dash)
    left.plot(
        n, float(sandwich().trace()) / n, ":", color=tone("ink"), label="optimum: tr H⁻¹SH⁻¹ / n"
    )
    left.set_title("Noisy quadratic, constant rate")
    _band(right, stream.squared("last"), "sgd", "last iterate", "-")
    _band(right, stream.squared("average"), "weight-averaging", "average", "-")
    limit = float(torch.linalg.inv(HESSIAN).trace()) / n
    right.plot(n, limit, ":", color=tone("ink"), label="optimum: σ² tr H⁻¹ / n")
    end = float(solved.square().sum(-1).mean())
    right.plot(STEPS, end, "D", color=tone("ink"), label="least squares, all samples")
    right.set_title(f"Linear regression, rate like 1 / n^{DECAY}")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="steps n (log)")
        axes.legend(fontsize=8, loc="lower left")
    left.set_ylabel("squared distance to the minimum (log)")
    figure.suptitle(
        f"The average of SGD's iterates is optimal, the last is not: float64, mean of "
        f"{SEEDS * COPIES:,} runs, range over {SEEDS} seeds"
    )
    return figure


def _band(axes: Any, squared: Tensor, name: str, label: str, dash: Any) -> None:
    colour = series(name).colour
    axes.plot(LOOKS, squared.mean(1), color=colour, ls=dash, label=label)
    low, high = squared.min(1).values, squared.max(1).values
    axes.fill_between(LOOKS, low, high, color=colour, alpha=0.15, lw=0)


EXPERIMENT = Experiment(
    name="polyak-averaging",
    title="Polyak-Ruppert averaging: the mean of SGD's iterates is asymptotically optimal",
    summary=(
        "At a constant rate the last iterate of SGD hovers at a distance that the rate sets and "
        "that no more steps reduce, while the squared error of the average falls as 1/n, with the "
        "optimal covariance and whatever the rate. On linear regression, one sample a step and a "
        "falling rate, the average is as good as least squares on all the samples."
    ),
    run=_run,
    seconds=8.0,
)
