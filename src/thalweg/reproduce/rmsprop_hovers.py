r"""RMSprop at a constant learning rate does not converge: it hovers half a rate from the minimum.

Without noise each coordinate ends in a cycle of two points. Let it be at :math:`\pm a`: the
gradient is :math:`\pm ha`, the average of its square settles at :math:`h^2a^2`, and the step is
:math:`\eta\, ha / ha = \eta`, which leads from one point to the other if :math:`a = \eta / 2`. So
:math:`f = \tfrac12 \sum_i h_i (\eta/2)^2 = \eta^2 \operatorname{tr} H / 8`, whatever the curvature.
With gradient noise of the standard deviation :math:`\sigma` the method is SGD at the rate
:math:`\eta/\sigma`, and f hovers at :math:`\eta\sigma/4` a coordinate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD, RMSprop
from thalweg.report import canvas
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.fits import exponent


__all__ = ["EXPERIMENT"]

CURVATURE = torch.tensor([1.0, 100.0], dtype=torch.float64)
START = (-1.0, 1.0)
STEPS, PUBLISHED_STEPS, SETTLED = 20_000, 3000, 15_000
RATES = (0.001, 0.003, 0.01, 0.03)
NOISY_RATES, NOISE, SEEDS, COPIES = (0.003, 0.01, 0.03), 1.0, 16, 256
PUBLISHED = "published counts for diag(1, 100) from (-1, 1), float64, alpha 0.99"
CYCLE = "the cycle of two points at eta / 2"


def descend(rate: float, schedule: Callable[[int], float] | None = None) -> np.ndarray:
    """The values of f before each step on diag(1, 100), and after the last one."""
    point = torch.tensor(START, dtype=torch.float64)
    optimizer = RMSprop([point], lr=rate)
    return _values(optimizer, point, schedule)


def _values(
    optimizer: Any, point: Tensor, schedule: Callable[[int], float] | None = None
) -> np.ndarray:
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) if schedule else None
    values = []
    for _ in range(STEPS):
        point.grad = CURVATURE * point
        values.append(0.5 * point.dot(point.grad))
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    values.append(0.5 * point.dot(CURVATURE * point))
    return torch.stack(values).numpy()


def hover(rate: float) -> list[float]:
    """The mean f of a coordinate under gradient noise, by seed; curvature 1."""
    source = torch.Generator().manual_seed(1)
    point = torch.zeros(SEEDS, COPIES, dtype=torch.float64)
    optimizer, total = RMSprop([point], lr=rate), torch.zeros(SEEDS, dtype=torch.float64)
    settling, counted = int(8 * NOISE / rate), 1000
    for k in range(settling + counted):
        noise = torch.randn(SEEDS, COPIES, generator=source, dtype=torch.float64)
        point.grad = point + NOISE * noise
        optimizer.step()
        if k >= settling:
            total += 0.5 * point.square().mean(1) / counted
    return total.tolist()


def _run() -> Outcome:
    runs = {rate: descend(rate) for rate in RATES}
    late = {rate: float(f[SETTLED:].mean()) for rate, f in runs.items()}
    cured = descend(0.01, lambda k: 1 / (1 + k / 200))
    point = torch.tensor(START, dtype=torch.float64)
    plain = _values(SGD([point], lr=2 / 101), point)
    noisy = {rate: hover(rate) for rate in NOISY_RATES}
    claims = (
        *_published(runs),
        *_cycle(late),
        *_noise(noisy),
        *_cure(cured, plain),
    )
    figures = {"hovering": _hovering(runs, cured), "scaling": _scaling(late, noisy)}
    settings = {
        "f": "diag(1, 100), start (-1, 1), float64",
        "rmsprop": "alpha 0.99, eps 1e-8",
        "rates": list(RATES),
        "steps": STEPS,
        "noise": (
            f"curvature 1, standard deviation {NOISE:g}, {SEEDS} seeds of {COPIES} coordinates"
        ),
        "decay": "lr 0.01 / (1 + k / 200)",
    }
    return Outcome(claims, figures, settings)


def _published(runs: dict[float, np.ndarray]) -> list[Claim]:
    claims = []
    for rate, hit, final in ((0.001, 1311, 1.0e-4), (0.01, 143, 1.3e-3)):
        found = int(np.argmax(runs[rate] < 1e-6 * runs[rate][0]))
        words = f"learning rate {rate:g}: first step with f below a millionth of the start's"
        claims.append(Claim(words, PUBLISHED, hit, found, found == hit))
        value = float(runs[rate][PUBLISHED_STEPS])
        near = abs(value / final - 1) < 0.06
        words = f"learning rate {rate:g}: f after {PUBLISHED_STEPS} steps, which is above that"
        claims.append(Claim(words, f"{PUBLISHED}; printed to two digits", final, value, near))
    return claims


def _cycle(late: dict[float, float]) -> list[Claim]:
    expected = {rate: rate**2 * float(CURVATURE.sum()) / 8 for rate in RATES}
    values = zip(late.items(), expected.values(), strict=True)
    claims = [
        Claim(
            f"learning rate {rate:g}: f after {SETTLED} steps and more, mean",
            f"{CYCLE}: eta^2 tr H / 8; to 0.1%",
            value,
            found,
            abs(found / value - 1) < 1e-3,
        )
        for (rate, found), value in values
        if rate in (0.001, 0.01)
    ]
    law = exponent(list(late), list(late.values())) / 2
    words = "exponent of the distance to the minimum in the learning rate"
    return [*claims, Claim(words, CYCLE, 1.0, law, abs(law - 1) < 0.05)]


def _noise(noisy: dict[float, list[float]]) -> list[Claim]:
    """Against SGD at the rate eta / sigma: its stationary variance, exactly."""
    claims = []
    for rate, values in noisy.items():
        step = rate / NOISE
        expected = 0.5 * (step * NOISE) ** 2 / (1 - (1 - step) ** 2)
        words = f"noisy gradients, learning rate {rate:g}: f a coordinate"
        source = "SGD at eta / sigma: about eta sigma / 4; to 3%"
        claims.append(Claim.of_sample(words, source, expected, values, 0.03))
    laws = [exponent(list(noisy), column) / 2 for column in zip(*noisy.values(), strict=True)]
    words = "noisy gradients: exponent of the distance in the learning rate"
    return [*claims, Claim.of_sample(words, "the same; to 3%", 0.5, laws, 0.03)]


def _cure(cured: np.ndarray, plain: np.ndarray) -> list[Claim]:
    t = np.arange(1, STEPS + 2)
    late = slice(STEPS // 4, None)
    law = exponent(t[late], cured[late]) / 2
    return [
        Claim(
            "a rate that decays like 1/k: exponent of the distance in the step",
            "half of the rate of the moment; to 5%",
            -1.0,
            law,
            abs(law + 1) < 0.05,
        ),
        Claim(
            "plain gradient descent at a constant rate, 2/101: f at the end",
            "(99/101)^(2k) f(start): converges",
            "< 1e-30",
            float(plain[-1]),
            bool(plain[-1] < 1e-30),
        ),
    ]


@styled
def _hovering(runs: dict[float, np.ndarray], cured: np.ndarray) -> Figure:
    figure, axes = canvas.axes(None, (9.0, 4.8))
    look = series("rmsprop")
    lines = (
        ("learning rate 0.01", runs[0.01], look.colour, "-"),
        ("learning rate 0.001", runs[0.001], tone("wine"), (0, (5, 1.6))),
        ("learning rate 0.01 / (1 + k / 200)", cured, tone("black"), (0, (1.4, 1.4))),
    )
    for label, f, colour, dash in lines:
        axes.plot(np.maximum(f, 1e-20), color=colour, ls=dash, label=label)
    for rate in (0.01, 0.001):
        level = rate**2 * float(CURVATURE.sum()) / 8
        axes.axhline(level, lw=0.8, ls=":", color=tone("muted"))
        note = f"η² tr H / 8 at {rate:g}"
        axes.annotate(note, (5000, level), (0, 4), textcoords="offset points", fontsize=8.5)
    axes.set(yscale="log", xlim=(0, 10_000), ylim=(1e-14, 1e2))
    axes.set(xlabel="step k", ylabel="f (log, from 1e-14)")
    line = f"curvatures 1 and 100, α = 0.99, float64, one run each; half of {STEPS:,} steps shown"
    canvas.caption(axes, "RMSprop comes close, leaves again, and hovers", line)
    canvas.legend(axes)
    return figure


@styled
def _scaling(late: dict[float, float], noisy: dict[float, list[float]]) -> Figure:
    figure, axes = canvas.axes(None)
    look = series("rmsprop")
    trace = float(CURVATURE.sum())
    rates = np.array(RATES)
    x = np.sqrt([8 * late[rate] / trace for rate in RATES]) / 2
    axes.plot(rates, x, look.marker, color=look.colour, label="no noise: measured")
    axes.plot(rates, rates / 2, "-", color=look.colour, lw=1, label="no noise: η / 2")
    means = [np.sqrt(2 * np.mean(values)) for values in noisy.values()]
    axes.plot(NOISY_RATES, means, "o", color=tone("wine"), label="noise σ = 1: measured")
    line = np.sqrt(NOISE * rates / 2)
    axes.plot(rates, line, "--", color=tone("wine"), lw=1, label="noise σ = 1: √(ησ / 2)")
    axes.set(xscale="log", yscale="log", xlabel="learning rate η (log)")
    axes.set(ylabel="distance of a coordinate (root mean square, log)")
    line = f"α = 0.99, float64; with noise: mean of {SEEDS} seeds of {COPIES} coordinates"
    canvas.caption(axes, "RMSprop hovers at half a learning rate from the minimum", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="rmsprop-hovers",
    title="RMSprop hovers: at a constant learning rate it does not converge",
    summary=(
        "On a quadratic without any noise RMSprop passes the minimum closer and closer, until its "
        "average of squares has forgotten the large gradients; then it leaves again and ends in a "
        "cycle of two points, half a learning rate from the minimum in each coordinate. A first "
        "hit of a threshold therefore says little. With noise it hovers at the root of the "
        "learning rate; a decaying rate cures both."
    ),
    run=_run,
    seconds=6.0,
)
