r"""Lookahead: its slow weights are an average, have less variance, and do not ring as much.

The slow weights after t synchronisations are an exponential average of where the fast ones got,
:math:`\phi_t = (1 - \alpha)^t \phi_0 + \alpha \sum_i (1 - \alpha)^{t-i}\, \theta_{i,k}`. On
:math:`\tfrac12 a (\theta - c)^2` with c normal, SGD has the stationary variance
:math:`V = \eta^2 a^2 \sigma^2 / (1 - (1 - \eta a)^2)`, and the slow weights have that times

.. math::
    \frac{\alpha^2 (1 - r^2)}{\alpha^2 (1 - r^2) + 2\alpha(1 - \alpha)(1 - r)},
    \qquad r = (1 - \eta a)^k .

On a quadratic without noise heavy ball and Lookahead around it are linear maps; their spectral
radii say how fast the error falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.optim import SGD, Adam, Lookahead
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, slope


__all__ = ["EXPERIMENT"]

PAPER = "Zhang, Lucas, Hinton, Ba 2019"
NOISY = ((0.1, 5, 0.5), (0.5, 5, 0.5), (0.5, 5, 0.8), (0.5, 20, 0.2))  # eta a, k, alpha
SEEDS, COPIES, ROUNDS = 16, 4096, 40
MOMENTUM, K, ALPHA = 0.99, 20, 0.5
LONG, BLOCK = 4000, 100
KINDS = {"momentum alone": None, "momentum kept": "keep", "momentum reset": "reset"}
RATES = np.geomspace(1e-5, 3.5, 200)


def averages(inner: Any, model: nn.Module, rounds: int = 60) -> float:
    """The largest departure of the slow weights from the average of the fast weights' ends.

    The ends are seen by a hook on the inner optimizer, before the weights go back.
    """
    optimizer, ends = Lookahead(inner, k=K, slow_lr=ALPHA), []
    inner.register_step_post_hook(lambda *_: ends.append(_flat(model)))
    slow, worst = _flat(model), 0.0
    source = torch.Generator().manual_seed(2)
    for step in range(1, rounds * K + 1):
        x = torch.randn(32, 6, generator=source, dtype=torch.float64)
        loss = (model(x)[:, 0] - x.prod(1).sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % K == 0:
            t = step // K
            weights = [ALPHA * (1 - ALPHA) ** (t - i) for i in range(1, t + 1)]
            found = (1 - ALPHA) ** t * slow
            for weight, end in zip(weights, ends[K - 1 :: K], strict=True):
                found = found + weight * end
            with optimizer.evaluation():
                worst = max(worst, float((_flat(model) - found).abs().max() / found.abs().max()))
    return worst


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def variance(rate: float, k: int = 0, alpha: float = 1.0) -> list[float]:
    """The stationary variance of SGD's weights (k = 0) or of the slow ones, by seed; a = 1."""
    source = torch.Generator().manual_seed(3)
    point = torch.zeros(SEEDS, COPIES)
    optimizer: Any = SGD([point], lr=rate)
    optimizer = Lookahead(optimizer, k=k, slow_lr=alpha) if k else optimizer
    for _ in range(ROUNDS * max(k, 5)):
        point.grad = point - torch.randn(SEEDS, COPIES, generator=source)
        optimizer.step()
    return point.double().square().mean(1).tolist()


def ratio(rate: float, k: int, alpha: float) -> float:
    """The published ratio of the slow weights' variance to SGD's."""
    r = (1 - rate) ** k
    top = alpha**2 * (1 - r**2)
    return top / (top + 2 * alpha * (1 - alpha) * (1 - r))


def radius(curvature: np.ndarray, kind: str | None = None) -> np.ndarray:
    """The factor a step for each eta lambda, from the linear map on (weight, velocity)."""
    one = np.ones_like(curvature)
    rows = [[one - curvature, -curvature * MOMENTUM], [one, MOMENTUM * one]]
    momentum = np.moveaxis(np.array(rows), (0, 1), (-2, -1))
    if kind is None:
        return np.abs(np.linalg.eigvals(momentum)).max(-1)
    back = np.diag([ALPHA, 1.0 if kind == "keep" else 0.0])
    outer = back @ np.linalg.matrix_power(momentum, K) + np.diag([1 - ALPHA, 0.0])
    return np.abs(np.linalg.eigvals(outer)).max(-1) ** (1 / K)


def tuned(kappa: float, kind: str | None) -> tuple[float, float]:
    """The best rate for a spectrum from 1 / kappa to 1, and the factor of its slowest part."""
    factors = radius(RATES[:, None] * _spectrum(kappa).numpy(), kind).max(1)
    # Momentum alone has many as good: the middle one of them, not one chosen by rounding.
    equal = np.flatnonzero(factors < factors.min() + 1e-9)
    best = int(equal[len(equal) // 2])
    return float(RATES[best]), float(factors[best])


def _spectrum(kappa: float) -> Tensor:
    decades = float(np.log10(kappa))
    return torch.logspace(-decades, 0.0, int(40 * decades), dtype=torch.float64)


def ring(kappa: float, rate: float, kind: str | None, steps: int = LONG) -> np.ndarray:
    """The distance to the minimum at each step of heavy ball, alone or inside Lookahead."""
    spectrum = _spectrum(kappa)
    point = torch.ones_like(spectrum)
    optimizer: Any = SGD([point], lr=rate, momentum=MOMENTUM)
    if kind is not None:
        optimizer = Lookahead(optimizer, k=K, slow_lr=ALPHA, inner_momentum=kind)
    values = [float(point.norm())]
    for _ in range(steps):
        point.grad = spectrum * point
        optimizer.step()
        values.append(float(point.norm()))
    return np.array(values)


def settled(values: np.ndarray) -> float:
    """The factor a step: a line through the logarithms of the crests of the second half."""
    crests = values[1:].reshape(-1, BLOCK).max(1)[LONG // BLOCK // 2 :]
    return float(np.exp(slope(BLOCK * np.arange(len(crests)), np.log(crests))[0]))


def _run() -> Outcome:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        departures = {
            "SGD with momentum": averages(*_network(lambda p: SGD(p, lr=0.05, momentum=0.9))),
            "Adam": averages(*_network(lambda p: Adam(p, lr=0.01))),
        }
    found = {case: _ratios(case) for case in NOISY}
    claims = (
        *(
            Claim(
                f"{name}, a network: slow weights less the average of the fast weights' ends",
                f"{PAPER}, section 2; relative, to rounding in float64",
                0.0,
                departure,
                departure < 1e-13,
            )
            for name, departure in departures.items()
        ),
        *_variances(found),
        *_oscillation(),
    )
    figures = {"variance": _variance(found), "oscillation": _rings()}
    settings = {
        "network": "6-16-1 tanh, float64, batches of 32, 60 synchronisations",
        "noisy quadratic": (
            f"a (theta - c)^2 / 2, c normal, from 0; {SEEDS} seeds of {COPIES} coordinates, "
            f"{ROUNDS} synchronisations"
        ),
        "oscillation": (
            f"40 curvatures a decade from 1 / kappa to 1, momentum {MOMENTUM}, k {K}, "
            f"alpha {ALPHA}, {LONG} steps, best of {len(RATES)} rates"
        ),
    }
    return Outcome(claims, figures, settings)


def _network(make: Any) -> tuple[Any, nn.Module]:
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    return make(model.parameters()), model


def _ratios(case: tuple[float, int, float]) -> list[float]:
    rate, k, alpha = case
    pairs = zip(variance(rate, k, alpha), variance(rate), strict=True)
    return [slow / fast for slow, fast in pairs]


def _variances(found: dict[tuple[float, int, float], list[float]]) -> Iterator[Claim]:
    source = "SGD's stationary variance, eta^2 / (1 - (1 - eta)^2); to 1%"
    rate = NOISY[1][0]
    expected = rate**2 / (1 - (1 - rate) ** 2)
    words = f"noisy quadratic, eta a = {rate}: SGD's variance"
    yield Claim.of_sample(words, source, expected, variance(rate), 0.01)
    for case, values in found.items():
        rate, k, alpha = case
        words = f"Lookahead's variance over SGD's: eta a = {rate}, k = {k}, alpha = {alpha}"
        source = f"{PAPER}, proposition 2; to 1%"
        yield Claim.of_sample(words, source, ratio(*case), values, 0.01)


def _oscillation() -> Iterator[Claim]:
    found = {}
    for label, kind in KINDS.items():
        rate, expected = tuned(10.0, kind)
        found[label] = settled(ring(10.0, rate, kind))
        yield near(
            f"condition number 10, {label}, at its best rate {rate:.2g}: 1 - factor a step",
            "spectral radius of the linear map",
            1 - expected,
            1 - found[label],
            0.02,
        )
    for label in list(KINDS)[1:]:
        yield _faster(f"condition number 10, {label}", found[label], found["momentum alone"])
    alone, inside = (settled(ring(1e4, tuned(1e4, kind)[0], kind, LONG)) for kind in (None, "keep"))
    because = (
        "The spectrum reaches past the first resonance: where the fast weights come round to "
        "where they began after k steps, going back gains nothing. So the rate has to be smaller."
    )
    words = "condition number 10,000, under-damped still, momentum kept"
    yield _faster(words, inside, alone, because)


def _faster(words: str, inside: float, alone: float, because: str = "") -> Claim:
    times = float(np.log(inside) / np.log(alone))
    source = f"{PAPER}, section 3.2: faster where momentum is under-damped"
    words = f"{words}: how many times faster than momentum alone, each tuned"
    return Claim(words, source, "> 1", times, times > 1, because=because)


@styled
def _variance(found: dict[tuple[float, int, float], list[float]]) -> Figure:
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    alphas = np.linspace(0.01, 1.0, 100)
    names = ("blue", "vermillion", "green")
    for (rate, k), name in zip(((0.1, 5), (0.5, 5), (0.5, 20)), names, strict=True):
        line = [ratio(rate, k, alpha) for alpha in alphas]
        axes.plot(alphas, line, color=tone(name), label=f"ηa = {rate}, k = {k}")
        shown = [(case[2], np.mean(v)) for case, v in found.items() if case[:2] == (rate, k)]
        axes.plot(*zip(*shown, strict=True), "o", color=tone(name))
    axes.set(xlabel="slow step size α", ylabel="variance over SGD's", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"Variance of the slow weights: lines theory, points {SEEDS} seeds")
    axes.legend()
    return figure


@styled
def _rings() -> Figure:
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.geomspace(1e-5, 3.5, 600)
    looks = (series("momentum"), series("lookahead"), series("adam"))
    for (label, kind), look in zip(KINDS.items(), looks, strict=True):
        label = label if kind is None else f"Lookahead, {label}"
        style = {"color": look.colour, "ls": look.dash, "label": label}
        left.plot(ring(10.0, tuned(10.0, kind)[0], kind, 1000), **style)
        right.plot(grid, np.maximum(1 - radius(grid, kind), 1e-5), **style)
    left.set(yscale="log", ylim=(1e-8, 10), xlabel="step", ylabel="distance (log)")
    left.set_title("Condition number 10, each at its best rate")
    right.set(xscale="log", yscale="log", xlabel="rate times curvature, ηλ (log)")
    right.set(ylabel="1 − factor a step (log; higher is faster)", ylim=(1e-5, 1))
    right.set_title("Spectral radius for one curvature")
    figure.suptitle(f"Momentum {MOMENTUM} rings; inside Lookahead (k {K}, α {ALPHA}) less")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3)
    return figure


EXPERIMENT = Experiment(
    name="lookahead",
    title="Lookahead: an average with less variance, and momentum that rings less",
    summary=(
        "The slow weights are an exponential average of the fast weights' end points, to rounding; "
        "on the noisy quadratic their variance is the published fraction of SGD's. On a quadratic "
        "where momentum is under-damped the oscillation dies down faster inside Lookahead, as the "
        "spectral radius says, while the spectrum fits below the first resonance: where the fast "
        "weights come round to where they began after k steps, going back gains nothing. A wide "
        "spectrum does not fit, and there Lookahead is slower although momentum still rings."
    ),
    run=_run,
    seconds=5.0,
)
