r"""Adagrad's rate falls like one over the root of the steps: why it stalls, and why that is right.

Under gradients of constant size its sum of squares grows by the same amount a step, so the rate
that is left after t steps is :math:`\eta/\sqrt t`, the way covered :math:`2\eta\sqrt t`, and a
distance D takes :math:`(D/2\eta)^2` steps. RMSprop forgets, keeps the rate :math:`\eta`, and takes
:math:`D/\eta`. In exchange, Adagrad's regret on convex losses is
:math:`R(T) \le (D_\infty^2/2\eta + \eta) \sum_i \lVert g_{1:T,i} \rVert_2 = O(\sqrt T)`, where that
of a constant rate grows with T.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import ndtr
from torch import Tensor
from torch.optim import Optimizer

from thalweg.optim import Adagrad, RMSprop
from thalweg.report import canvas
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.fits import exponent


__all__ = ["EXPERIMENT"]

RATE, MEMORY = 0.1, 0.9
DISTANCES = (8.0, 16.0, 32.0, 64.0)
GAME_RATE = 1 / math.sqrt(2)  # the bound's best for a start at the distance 1
STEPS, SEEDS = 10_000, 32
WALL, WALL_STEPS, FLAT_STEPS = 100.0, 50, 2000
DUCHI = "Duchi, Hazan, Singer 2011"
BOOK = "Goodfellow, Bengio, Courville 2016, section 8.5"
NAMES = {"adagrad": "Adagrad", "rmsprop": "RMSprop"}
METHODS: dict[str, Callable[[list[Tensor], float], Optimizer]] = {
    "adagrad": lambda p, lr: Adagrad(p, lr=lr),
    "rmsprop": lambda p, lr: RMSprop(p, lr=lr, alpha=MEMORY),
}


def rates(name: str, gradients: Tensor) -> Tensor:
    """The effective rate, step over gradient, at each step; [t, n] for gradients [t, n]."""
    point = torch.zeros_like(gradients[0])
    optimizer, found = METHODS[name]([point], RATE), []
    for gradient in gradients:
        before, point.grad = point.clone(), gradient
        optimizer.step()
        found.append((before - point) / gradient)
    return torch.stack(found)


def crossing(name: str, distance: float) -> int:
    """Steps until a slope of 1 has carried the point that far."""
    point = torch.zeros(1, dtype=torch.float64)
    point.grad = torch.full_like(point, -1.0)
    optimizer, steps = METHODS[name]([point], RATE), 0
    while point.item() < distance:
        optimizer.step()
        steps += 1
    return steps


def regret(name: str, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Play |x - y_t| for the y of each row: iterates, gradients [t, n], the best point.

    Each column is a game of its own: both methods work coordinate by coordinate.
    """
    point = torch.zeros_like(target[0])
    optimizer, iterates, gradients = METHODS[name]([point], GAME_RATE), [], []
    for y in target:
        point.grad = torch.sign(point - y)
        iterates.append(point.clone())
        gradients.append(point.grad)
        optimizer.step()
    return torch.stack(iterates), torch.stack(gradients), target.median(dim=0).values


def _run() -> Outcome:
    constant = torch.ones(STEPS, 1, dtype=torch.float64)
    alone = {name: rates(name, constant)[:, 0] for name in METHODS}
    steps = {name: [crossing(name, d) for d in DISTANCES] for name in METHODS}
    noise = torch.Generator().manual_seed(1)
    noisy = torch.randn(STEPS, SEEDS, generator=noise, dtype=torch.float64)
    wall = torch.ones(WALL_STEPS + FLAT_STEPS, 1, dtype=torch.float64)
    wall[:WALL_STEPS] = WALL
    after = {name: rates(name, wall)[:, 0] for name in METHODS}
    games = _games()
    claims = (
        *_rate_claims(alone, rates("adagrad", noisy)),
        *_crossing_claims(steps),
        *_wall_claims(after),
        *_regret_claims(games),
    )
    figures = {"stalls": _picture(alone, steps), "wall": _wall(after), "regret": _regret(games)}
    settings = {
        "adagrad": f"lr {RATE}",
        "rmsprop": f"lr {RATE}, alpha {MEMORY}",
        "dtype": "float64",
        "distances": list(DISTANCES),
        "wall": f"{WALL_STEPS} gradients of {WALL:g}, then 1",
        "regret": (
            f"losses |x - y|, y normal, start 1 from the centre, rate {GAME_RATE:.3f}, "
            f"{STEPS} rounds, {SEEDS} seeds"
        ),
    }
    return Outcome(claims, figures, settings)


def _rate_claims(alone: dict[str, Tensor], noisy: Tensor) -> list[Claim]:
    t = np.arange(1, STEPS + 1)
    source = f"{DUCHI}: the sum of t equal squares"
    law = exponent(t, alone["adagrad"])
    kept = exponent(t[100:], alone["rmsprop"][100:])
    late = t >= 100
    slopes = [exponent(t[late], column[late]) for column in noisy.T.abs().numpy()]
    return [
        Claim(
            "constant gradient: exponent of Adagrad's effective rate in t, over 1 to 10,000 steps",
            source,
            -0.5,
            law,
            abs(law + 0.5) < 1e-6,
        ),
        Claim.of_sample(
            "normal gradients of constant spread: the same exponent, from step 100 on",
            f"{source} on average; to 1%",
            -0.5,
            slopes,
            0.01,
        ),
        Claim(
            "constant gradient: exponent of RMSprop's effective rate in t, from step 100 on",
            f"{BOOK}: it forgets",
            0.0,
            round(kept, 6) + 0.0,
            abs(kept) < 1e-4,
        ),
    ]


def _crossing_claims(steps: dict[str, list[int]]) -> list[Claim]:
    """How the steps to cover a distance grow with it, whatever the learning rate."""
    t = np.arange(1, 2 * int((DISTANCES[-1] / (2 * RATE)) ** 2))
    walked = {
        "adagrad": RATE * np.cumsum(1 / np.sqrt(t)),
        "rmsprop": RATE * np.cumsum(1 / np.sqrt(1 - MEMORY**t)),
    }
    exact = {
        name: [int(np.searchsorted(way, d)) + 1 for d in DISTANCES] for name, way in walked.items()
    }
    laws = {"adagrad": 2.0, "rmsprop": 1.0}
    slopes = {name: exponent(DISTANCES, counts) for name, counts in steps.items()}
    source = "in the limit: 2 eta sqrt(t) = D, against eta t = D; to 5%"
    return [
        *(
            Claim(
                f"slope of constant size: exponent of {NAMES[name]}'s steps in the distance",
                source,
                law,
                slopes[name],
                abs(slopes[name] - law) < 0.05 * law,
            )
            for name, law in laws.items()
        ),
        *(
            Claim(
                f"slope 1: {NAMES[name]}'s steps over {', '.join(f'{d:g}' for d in DISTANCES)}",
                f"the first t with {law} >= D",
                exact[name],
                steps[name],
                exact[name] == steps[name],
            )
            for name, law in (
                ("adagrad", "the sum of eta / sqrt(t)"),
                ("rmsprop", "the sum of eta / sqrt(1 - alpha^t)"),
            )
        ),
        Claim(
            f"steps over the distance {DISTANCES[-1]:g}: Adagrad over RMSprop",
            f"{BOOK}: a decrease that is premature and excessive; more than 50 times",
            "> 50",
            steps["adagrad"][-1] / steps["rmsprop"][-1],
            steps["adagrad"][-1] > 50 * steps["rmsprop"][-1],
        ),
    ]


def _wall_claims(after: dict[str, Tensor]) -> list[Claim]:
    """A steep wall first, then a gentle slope: who remembers the wall."""
    flat = FLAT_STEPS
    expected = RATE / math.sqrt(WALL_STEPS * WALL**2 + flat)
    left = float(after["adagrad"][-1])
    # Both averages decay by the memory a step, from WALL^2 (but for its own start) towards 1.
    half = (1 - MEMORY**WALL_STEPS) * WALL**2
    forgetting = math.ceil(math.log((1 / 0.9**2 - 1) / (half - 1)) / math.log(MEMORY))
    back = int((after["rmsprop"][WALL_STEPS:] < 0.9 * RATE).sum()) + 1
    return [
        Claim(
            f"{WALL_STEPS} gradients of {WALL:g}, then {flat} of 1: Adagrad's effective rate",
            "eta / sqrt(50 * 100^2 + 2000)",
            expected,
            left,
            abs(left / expected - 1) < 1e-6,
        ),
        Claim(
            "the same slope: steps after the wall until RMSprop's rate is 0.9 eta again",
            "the average forgets by the factor alpha a step; exact to a step",
            forgetting,
            back,
            abs(back - forgetting) <= 1,
        ),
    ]


def _games() -> dict[str, dict[str, Any]]:
    source = torch.Generator().manual_seed(2)
    target = 1 + torch.randn(STEPS, SEEDS, generator=source, dtype=torch.float64)
    found = {}
    for name in METHODS:
        x, g, best = regret(name, target)
        # Mean loss at x less that at the centre, exactly: the noise of the sample is left out.
        z = x - 1
        density = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        excess = z * (2 * torch.from_numpy(ndtr(z.numpy())) - 1) + 2 * density
        excess -= math.sqrt(2 / math.pi)
        own = ((x - target).abs() - (best - target).abs()).sum(0)
        reach = (x - best).abs().max(dim=0).values
        bound = (reach**2 / (2 * GAME_RATE) + GAME_RATE) * g.square().sum(0).sqrt()
        found[name] = {"expected": excess.cumsum(0), "regret": own, "bound": bound}
    return found


def _regret_claims(games: dict[str, dict[str, Any]]) -> list[Claim]:
    ratio = games["adagrad"]["regret"] / games["adagrad"]["bound"]
    t = np.arange(1, STEPS + 1)
    late = slice(STEPS // 10, None)
    slopes = {
        name: [exponent(t[late], column[late]) for column in game["expected"].T.numpy()]
        for name, game in games.items()
    }
    return [
        Claim(
            f"convex losses: largest regret of Adagrad over its bound, of {SEEDS} seeds",
            f"{DUCHI}, theorem 5",
            "<= 1",
            float(ratio.max()),
            bool(ratio.max() <= 1),
        ),
        Claim.of_sample(
            "the same: exponent of Adagrad's expected regret in T",
            f"{DUCHI}: O(sqrt T); to 10%",
            0.5,
            slopes["adagrad"],
            0.1,
        ),
        Claim.of_sample(
            "the same: exponent of RMSprop's, at a constant rate",
            "it hovers at a constant distance: T; to 5%",
            1.0,
            slopes["rmsprop"],
            0.05,
        ),
    ]


def _line(axes: Any, name: str, x: Any, y: Any, label: str | None = None) -> None:
    look = series(name)
    axes.plot(x, y, color=look.colour, ls=look.dash, label=label or NAMES[name])


@styled
def _picture(alone: dict[str, Tensor], steps: dict[str, list[int]]) -> Figure:
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    t = np.arange(1, STEPS + 1)
    for name, found in alone.items():
        _line(left, name, t, found)
        look = series(name)
        right.plot(DISTANCES, steps[name], look.marker, color=look.colour)
    reach = np.array([DISTANCES[0], DISTANCES[-1]])
    _line(right, "adagrad", reach, (reach / (2 * RATE)) ** 2, "Adagrad: (D / 2η)²")
    _line(right, "rmsprop", reach, reach / RATE, "RMSprop: D / η")
    left.plot(t, RATE / np.sqrt(t), ls=":", lw=3, color=tone("muted"), label="η / √t")
    left.set(xscale="log", yscale="log", xlabel="step t (log)", ylabel="effective rate (log)")
    left.set_title("Rate left under a constant gradient")
    right.set(xscale="log", yscale="log", xlabel="distance D (log)", ylabel="steps (log)")
    right.set_xticks(DISTANCES, [f"{d:g}" for d in DISTANCES])
    right.set_xticks([], minor=True)
    right.set_title("Steps to cover a distance (points: measured)")
    left.legend()
    right.legend()
    figure.suptitle(
        f"Adagrad stalls where RMSprop goes on; both at learning rate η = {RATE}, one run each"
    )
    return figure


@styled
def _wall(after: dict[str, Tensor]) -> Figure:
    figure, axes = canvas.axes(None)
    for name, found in after.items():
        _line(axes, name, np.arange(1, len(found) + 1), found)
    axes.axvline(WALL_STEPS, lw=0.8, ls=":", color=tone("muted"))
    axes.set(xlim=(0, 400), yscale="log", xlabel="step", ylabel="effective rate (log)")
    axes.annotate("end of the wall", (WALL_STEPS, 3e-4), (6, 0), textcoords="offset points")
    line = f"{WALL_STEPS} gradients of {WALL:g}, then 1; rate {RATE}, α = {MEMORY}; one run each"
    canvas.caption(axes, "Adagrad remembers a steep wall, RMSprop forgets it", line)
    canvas.legend(axes)
    return figure


@styled
def _regret(games: dict[str, dict[str, Any]]) -> Figure:
    figure, axes = canvas.axes(None)
    t = np.unique(np.geomspace(10, STEPS, 120).astype(int))
    for name, game in games.items():
        low, middle, high = np.quantile(game["expected"][t - 1], (0.25, 0.5, 0.75), axis=1)
        _line(axes, name, t, middle)
        axes.fill_between(t, low, high, color=series(name).colour, alpha=0.2, lw=0)
    ends = games["adagrad"]["expected"][-1].median(), games["rmsprop"]["expected"][-1].median()
    for end, power, label in zip(ends, (0.5, 1.0), ("∝ √T", "∝ T"), strict=True):
        guide = 1.5 * float(end) * (t[60:] / STEPS) ** power
        axes.plot(t[60:], guide, ls=":", color=tone("muted"))
        axes.annotate(label, (t[75], guide[15]), (-12, 8), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="rounds T (log)", ylabel="expected regret (log)")
    line = f"losses |x − y|, y normal; rate {GAME_RATE:.3f}; median and quartiles of {SEEDS} seeds"
    canvas.caption(axes, "Adagrad's regret grows like √T, RMSprop's like T", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="adagrad-stalls",
    title="Adagrad stalls: its rate falls like one over the root of the steps",
    summary=(
        "Under gradients of constant size Adagrad's effective rate is eta/sqrt(t), so that a "
        "distance takes a number of steps that grows with its square, and a steep wall is "
        "remembered for ever; RMSprop forgets and goes on. The same decrease gives Adagrad the "
        "square-root regret on convex losses that RMSprop at a constant rate does not have. Where "
        "it pays most, on sparse features, is in infrequent-features."
    ),
    run=_run,
    seconds=8.0,
)
