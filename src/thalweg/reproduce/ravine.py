r"""The zig-zag of gradient descent in a ravine, and what momentum makes of it.

At its best rate gradient descent overshoots the steep side: from :math:`(x, y)` in the bowl of
curvatures 1 and :math:`\kappa` both coordinates shrink alike and the steep one changes sign, so
the cosine between successive steps stays :math:`(x^2 - \kappa^2 y^2) / (x^2 + \kappa^2 y^2)`. With
momentum :math:`\beta` at the same rate the steep roots are complex, of modulus
:math:`\sqrt\beta`: the swing dies at once. Heavy ball at its own best rate and momentum has the
double roots :math:`\pm\sqrt\beta`: it swings as much as gradient descent, in fewer steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD
from thalweg.problems import RAVINE, TestFunction, quadratic
from thalweg.report import canvas, contour
from thalweg.report.style import SeriesStyle, series, styled
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, walk
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT"]

KAPPA, SEED, STARTS = 100.0, 0, 20
BOWL = quadratic((1.0, KAPPA))
START = torch.tensor(BOWL.start, dtype=torch.float64)  # (-4, 1)
RATE, FACTOR = 2 / (1 + KAPPA), (KAPPA - 1) / (KAPPA + 1)
ROOT = math.sqrt(KAPPA)
BEST = {"lr": (2 / (1 + ROOT)) ** 2, "momentum": ((ROOT - 1) / (ROOT + 1)) ** 2}
RATES, BUDGET = [0.01 * 2 ** (k / 2) for k in range(9)], 600  # in the winding ravine
SUTTON = "Sutton 1986; Qian 1999; Goh, Why momentum really works, 2017"

Method = Callable[..., Any]


@final
@dataclass(frozen=True)
class Descent:
    """How walks went down, one value a start: steps until f stays low, length, mean cosine."""

    steps: Tensor
    length: Tensor
    cosine: Tensor


def cosines(path: Tensor) -> Tensor:
    """The cosine between each step and the next, [steps - 1, ...]."""
    moves = path.diff(dim=0)
    return torch.cosine_similarity(moves[1:], moves[:-1], dim=-1, eps=1e-300)


def descent(function: TestFunction, path: Tensor, tolerance: float) -> Descent:
    """Measure walks [steps + 1, starts, 2] down to a share of the first height."""
    heights = function.fn(path)
    low = heights <= tolerance * heights[0]
    last = low.shape[0] - low.flip(0).int().cummin(0).values.sum(0)
    before = torch.arange(len(path) - 1)[:, None] < last
    length = (path.diff(dim=0).norm(dim=-1) * before).sum(0)
    mean = (cosines(path) * before[1:]).sum(0) / before[1:].sum(0)
    return Descent(last.double(), length, mean)


def starts(function: TestFunction, reach: float) -> Tensor:
    """Twenty starts around the function's own."""
    generator = torch.Generator().manual_seed(SEED)
    moved = 2 * torch.rand(STARTS, 2, dtype=torch.float64, generator=generator) - 1
    return torch.tensor(function.start, dtype=torch.float64) + reach * moved


def bowl_path(method: Method = SGD, steps: int = 300, **settings: Any) -> Tensor:
    """A path in the bowl from its start; gradient descent's best rate unless told."""
    return walk(BOWL.fn, START, lambda p: method(p, **{"lr": RATE, **settings}), steps)


def swing_claims(method: Method = SGD) -> list[Claim]:
    """What the eigenvalues say of the zig-zag, from (-4, 1)."""
    path, steep = bowl_path(method), KAPPA * BOWL.start[1]
    flat = BOWL.start[0]
    turn = (flat**2 - steep**2) / (flat**2 + steep**2)
    far = _farthest(cosines(path), turn)
    length = RATE * math.hypot(flat, steep) * (1 - FACTOR**300) / (1 - FACTOR)
    fast = _farthest(cosines(bowl_path(method, 100, **BEST)), turn)
    law, alike = "derived: both coordinates shrink by (kappa-1)/(kappa+1)", "derived: double roots"
    walked = path.diff(dim=0).norm(dim=-1).sum().item()
    made = [
        near(
            "gradient descent, best rate: cosine between successive steps, farthest of all",
            law,
            turn,
            far,
        ),
        near(
            "gradient descent, best rate: length of 300 steps (distance 4.1)", law, length, walked
        ),
    ]
    for beta in (0.25, 0.5, 0.9):
        swing = bowl_path(method, 400, momentum=beta)[:, 1].abs()
        factor = (swing[300:320].max() / swing[100:120].max()).item() ** (1 / 200)
        words = f"momentum {beta} at that rate: the swing's factor a step, sqrt(beta)"
        made.append(near(words, "derived: complex roots", math.sqrt(beta), factor, 5e-3))
    words = (
        "heavy ball at its own best swings alike: cosine between successive steps, farthest of all"
    )
    return [*made, near(words, alike, turn, fast)]


def _farthest(values: Tensor, expected: float) -> float:
    return float(values[(values - expected).abs().argmax()])


def bowl_claims(method: Method = SGD) -> list[Claim]:
    """Steps and length in the bowl with and without momentum, at one rate, over starts."""
    from_all, found = starts(BOWL, 1.0), {}
    for beta in (0.0, 0.5):
        path = walk(BOWL.fn, from_all, lambda p, b=beta: method(p, lr=RATE, momentum=b), 600)
        found[beta] = descent(BOWL, path, 1e-4)
    return _ratios("bowl, same rate, momentum 0.5", found[0.0], found[0.5])


def _ratios(where: str, plain: Descent, fast: Descent) -> list[Claim]:
    made = []
    for words, values in (
        ("steps without / with momentum", plain.steps / fast.steps),
        ("length of the path without / with momentum", plain.length / fast.length),
    ):
        ratio = Interval.of(values.tolist())
        low = ratio.mean - (ratio.half_width or 0.0)
        span = (low, ratio.mean + (ratio.half_width or 0.0))
        made.append(Claim(f"{where}: {words}", SUTTON, "> 1", ratio.mean, low > 1, span, STARTS))
    return made


def tuned(beta: float, method: Method = SGD) -> tuple[float, Descent]:
    """The rate with the fewest steps, on average over the starts, in the winding ravine."""
    found = {}
    for rate in RATES:
        path = winding_path(starts(RAVINE, 1.0), rate, beta, BUDGET, method)
        found[rate] = descent(RAVINE, path, 1e-3)
    best = min(found, key=lambda rate: found[rate].steps.mean().item())
    return best, found[best]


def winding_path(
    start: Tensor, rate: float, beta: float, steps: int, method: Method = SGD
) -> Tensor:
    """Paths in the winding ravine."""
    return walk(RAVINE.fn, start, lambda p: method(p, lr=rate, momentum=beta), steps)


def winding_claims(plain: Descent, fast: Descent) -> list[Claim]:
    """In the winding ravine, each at its best rate of one grid."""
    steps, length = _ratios("winding ravine, each tuned, momentum 0.9", plain, fast)
    # What is saved is time: heavy ball swings out of the bends.
    found = replace(
        length,
        source="Goh 2017: momentum overshoots; so the path is longer, not shorter",
        expected="< 1",
        holds=length.interval is not None and length.interval[1] < 1,
    )
    return [steps, found]


def _run() -> Outcome:
    (slow_rate, plain), (fast_rate, fast) = tuned(0.0), tuned(0.9)
    claims = (*swing_claims(), *bowl_claims(), *winding_claims(plain, fast))
    figures = {"bowl": _bowl(), "cosine": _cosine(), "winding": _winding(slow_rate, fast_rate)}
    settings = {
        "bowl": BOWL.formula,
        "winding": RAVINE.formula,
        "optimizer": "thalweg.optim.SGD",
        "starts": f"{STARTS}, even within 1 of the start in each coordinate, seed {SEED}",
        "dtype": "float64",
        "steps": "until f stays below 1e-4 (bowl) or 1e-3 (winding) of its first value",
        "rates": {"grid": RATES, "momentum 0": slow_rate, "momentum 0.9": fast_rate},
        "budget": f"600 steps a run; {len(RATES)} rates for each momentum",
    }
    return Outcome(claims, figures, settings)


def _walks() -> dict[str, tuple[SeriesStyle, Tensor]]:
    own = SeriesStyle(series("momentum").tone, (0, (5, 5)), "v")  # lets SGD's line be seen
    return {
        f"SGD, best rate {RATE:.3f}": (series("sgd"), bowl_path()),
        "momentum 0.5 at the same rate": (series("momentum"), bowl_path(momentum=0.5)),
        "momentum 0.67, its best rate 0.033": (own, bowl_path(**BEST)),
    }


def _surface(function: TestFunction, box: tuple[float, float, float, float]) -> dict[str, Any]:
    x, y = np.linspace(*box[:2], 161), np.linspace(*box[2:], 161)
    z = function(torch.tensor(np.stack(np.meshgrid(x, y), axis=-1))).tolist()
    return {"x": x, "y": y, "z": z, "minima": [[0.0, 0.0, 0.0]], "start": function.start}


@styled
def _bowl() -> Figure:
    figure = Figure(figsize=(7.0, 8.0), layout="constrained")
    names = ("sgd", "momentum", "momentum")
    panels = zip(figure.subplots(3, 1), names, _walks().items(), strict=True)
    for axes, name, (title, (_, path)) in panels:
        found = descent(BOWL, path[:, None], 1e-4)
        half = 1.2 * path[:, 1].abs().max().item()
        path = path[: int(found.steps.item()) + 1]
        surface = _surface(BOWL, (-4.4, 0.8, -half, half))
        line = (
            f"{found.steps.item():.0f} steps, path of length {found.length.item():.1f}"
            + "; taller box" * (half > 2)
        )
        contour(surface, {name: path.tolist()}, ax=axes, title=title, line=line, legend=False)
        axes.set_aspect("auto")
    figure.suptitle("Curvatures 1 and 100, from (−4, 1) to f = 1e-4 of its start; one run each")
    return figure


@styled
def _cosine() -> Figure:
    figure, axes = canvas.axes(None)
    for title, (look, path) in _walks().items():
        turns = cosines(path)[:60]
        axes.plot(range(1, 61), turns, color=look.colour, ls=look.dash, label=title)
    low = cosines(bowl_path())[0].item()
    words = f"−{-low:.3f}: SGD, and momentum at its own best rate"
    axes.annotate(words, (60, low), (0, 6), textcoords="offset points", ha="right")
    axes.set(xlabel="step", ylabel="cosine between a step and the next", ylim=(-1.08, 1.08))
    line = "−1: straight back, 1: straight on; curvatures 1 and 100, from (−4, 1), one run each"
    canvas.caption(axes, "At one rate, momentum ends the zig-zag", line)
    canvas.legend(axes)
    return figure


@styled
def _winding(slow_rate: float, fast_rate: float) -> Figure:
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    surface = _surface(RAVINE, (-8.0, 8.0, -4.0, 4.0))
    start = torch.tensor(RAVINE.start, dtype=torch.float64)
    runs = (("sgd", slow_rate, 0.0, "SGD"), ("momentum", fast_rate, 0.9, "momentum 0.9"))
    for axes, (label, rate, beta, name) in zip(figure.subplots(1, 2), runs, strict=True):
        path = winding_path(start, rate, beta, BUDGET)
        found = descent(RAVINE, path[:, None], 1e-3)
        title = f"{name}, best rate {rate:.3f}"
        path = path[: int(found.steps.item()) + 1]
        line = f"{found.steps.item():.0f} steps, path of length {found.length.item():.1f}"
        contour(surface, {label: path.tolist()}, ax=axes, title=title, line=line, legend=False)
        axes.set_aspect("auto")
    figure.suptitle(
        f"A winding ravine, to f = 1e-3 of its start; one run each, rates tuned over {STARTS} "
        f"starts of seed {SEED}"
    )
    return figure


EXPERIMENT = Experiment(
    name="ravine",
    title="A ravine: gradient descent zig-zags, momentum at the same rate does not",
    summary=(
        "SGD with and without momentum in a straight ravine of condition number 100 and in a "
        "winding one: the cosine between successive steps, the factor by which the swing shrinks, "
        "steps and length of the path, over twenty starts. Tuned for speed, momentum spends the "
        "damping on a larger rate and swings as before."
    ),
    run=_run,
    seconds=10.0,
)
