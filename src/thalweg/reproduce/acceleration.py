r"""Nesterov's 1/k^2 against gradient descent's 1/k on convex functions that are not strongly so.

On a quadratic whose curvatures are even over many decades, what is left of
:math:`f - f^* = \tfrac12 \sum_i \lambda_i e_i^2` after k steps of gradient descent is what is
flatter than 1/k, a sum of order 1/k; after k of Nesterov's what is flatter than 1/k^2. The upper
bounds, with :math:`L` the largest curvature and :math:`R` the distance of the start, are
:math:`L R^2 / (2k)` and :math:`2 L R^2 / (k + 1)^2`; no method that adds up gradients is below
:math:`3 L R^2 / (32 (k + 1)^2)` on the worst function of 2k + 1 variables.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD, Nesterov
from thalweg.report import canvas
from thalweg.report.style import series, styled
from thalweg.reproduce.claims import Claim
from thalweg.reproduce.walks import near, slope, walk


__all__ = ["accelerated", "claims", "figure", "plain", "worst"]

BUDGET, SIZES = 1000, (40, 80, 160, 320)
# Curvatures that are even over nine decades: what is left at step k is what is flatter than 1/k.
SPREAD = torch.logspace(-9, 0, 91, dtype=torch.float64)
LOWER = "Nesterov, Introductory lectures on convex optimization, 2004, theorem 2.1.7"
UPPER = "Beck and Teboulle 2009, theorem 3.1; Su, Boyd and Candes 2016, section 1"


def spread(x: Tensor) -> Tensor:
    """The terms of the quadratic whose curvatures are even in their logarithm."""
    return 0.5 * SPREAD * x**2


def worst(x: Tensor) -> Tensor:
    """Nesterov's worst quadratic for L = 1, from 0; lowest where x falls evenly to the end."""
    ends = x[..., 0] ** 2 + x[..., -1] ** 2 - 2 * x[..., 0]
    return (ends + (x[..., 1:] - x[..., :-1]).pow(2).sum(-1)) / 8


def accelerated(fn: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Nesterov's path at the rate 1 with the momentum (k - 1)/(k + 2) at step k."""
    # Step 1 has nothing to keep: its momentum does not matter, but 0 would not start the velocity.
    return walk(fn, start, lambda p: Nesterov(p, lr=1.0), steps, lambda k: max(k - 1, 1) / (k + 2))


def plain(fn: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Gradient descent's path at the rate 1."""
    return walk(fn, start, lambda p: SGD(p, lr=1.0), steps)


def claims(fast: Callable[..., Tensor] = accelerated) -> list[Claim]:
    """O(1/k) and O(1/k^2) on one function; the bounds; and the worst function for each k."""
    start = torch.ones_like(SPREAD)
    k = np.unique(np.geomspace(100, BUDGET, 41).astype(int))
    made, gaps = [], {}
    for name, method, power in (("gradient descent", plain, -1.0), ("Nesterov", fast, -2.0)):
        gaps[name] = gap = spread(method(spread, start, BUDGET)).sum(1).numpy()
        found, half = slope(np.log(k), np.log(gap[k]))
        words = f"{name}: f - f* falls like k^p over steps 100 to {BUDGET}, p"
        span = (found - half, found + half)
        holds = abs(found - power) <= 0.05
        made.append(Claim(words, f"{UPPER}; to 0.05", power, round(found, 4), holds, span))
    k, radius = np.arange(1, BUDGET + 1), len(SPREAD)
    bounds = {"gradient descent": radius / (2 * k), "Nesterov": 2 * radius / (k + 1) ** 2}
    for name, words in (("gradient descent", "L R^2/(2k)"), ("Nesterov", "2 L R^2/(k + 1)^2")):
        most = float((gaps[name][1:] / bounds[name]).max())
        claim = f"{name}: f - f* over its bound {words}, the largest of all steps"
        made.append(Claim(claim, UPPER, "<= 1", round(most, 4), most <= 1))
    return [*made, *_worst_claims(fast)]


def _worst_claims(fast: Callable[..., Tensor]) -> list[Claim]:
    gaps = {"gradient descent": [], "Nesterov": []}
    for k in SIZES:
        n = 2 * k + 1
        lowest, radius = -(1 - 1 / (n + 1)) / 8, sum((i / (n + 1)) ** 2 for i in range(1, n + 1))
        bound = 3 * radius / (32 * (k + 1) ** 2)
        for name, method in (("gradient descent", plain), ("Nesterov", fast)):
            end = method(worst, torch.zeros(n, dtype=torch.float64), k)[-1]
            gaps[name].append((worst(end).item() - lowest) / bound)
    made = []
    sizes = f"k = {', '.join(map(str, SIZES))}"
    for name, found in gaps.items():
        words = (
            f"{name} on the worst function of 2k + 1 variables: f - f* over 3 L R^2/(32 (k + 1)^2)"
        )
        claim = f"{words}, the least of {sizes}"
        made.append(Claim(claim, LOWER, ">= 1", round(min(found), 3), min(found) >= 1))
    drift = gaps["Nesterov"][-1] / gaps["Nesterov"][0]
    claim = (
        f"Nesterov there: that ratio stays (so f - f* falls like k^-2): last over first of {sizes}"
    )
    return [*made, near(claim, LOWER, 1.0, drift, 0.1)]


@styled
def figure() -> Figure:
    """The gaps and their upper bounds."""
    drawn, axes = canvas.axes(None)
    start = torch.ones_like(SPREAD)
    k, radius = np.arange(1, BUDGET + 1), len(SPREAD)
    runs = (
        (plain, "gradient descent", "sgd", radius / (2 * k), "L R²/(2k)"),
        (accelerated, "Nesterov", "nesterov", 2 * radius / (k + 1) ** 2, "2 L R²/(k+1)²"),
    )
    for method, name, label, bound, words in runs:
        gap, look = spread(method(spread, start, BUDGET)).sum(1)[1:], series(label)
        axes.plot(k, gap, color=look.colour, ls=look.dash, label=name)
        axes.plot(k, bound, color=look.colour, lw=0.9, ls=":", label=f"its bound, {words}")
    axes.set(xscale="log", yscale="log", xlabel="step k (log)", ylabel="f − f* (log)")
    line = "91 curvatures even in log from 1e-9 to 1; rate 1/L, float64, one run each"
    canvas.caption(axes, "Nesterov falls like 1/k², gradient descent like 1/k", line)
    canvas.legend(axes)
    return drawn
