r"""Hessian-free optimization with products by differences of gradients, against exact ones.

.. math:: H v \approx \frac{g(\theta + h v) - g(\theta)}{h}
    \quad\text{or}\quad \frac{g(\theta + h v) - g(\theta - h v)}{2 h}

need nothing but gradients. Their error is :math:`O(h)` or :math:`O(h^2)` by truncation and
:math:`\epsilon / h` by rounding, least near :math:`\epsilon^{1/2}` at a step of that order, or
near :math:`\epsilon^{2/3}` at one of :math:`\epsilon^{1/3}`. In double precision that is far below
what conjugate gradients notice; in single precision it is not, once steps follow directions of next
to no curvature.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.objective import AbstractClosure, Objective
from thalweg.optim import HessianFree
from thalweg.problems.digits import digits_data
from thalweg.problems.streams import global_stream
from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, slope
from thalweg.vectors import Vector


__all__ = ["EXPERIMENT"]

SAMPLES, HIDDEN, STEPS, VECTORS, SEED = 500, 16, 12, 5, 0
HOW = ("exact", "central", "forward")
MARTENS = "Martens 2010, section 4.1: finite differences of gradients, or exact products"
NOCEDAL = "Nocedal and Wright 2006, section 8.1"
PEARLMUTTER = "Pearlmutter 1994; a product counts two gradients"
LENGTHS = tuple(10.0**-k for k in np.arange(1.0, 10.1, 0.5))


def problem(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, AbstractClosure]:
    """A network with one hidden layer on the first digits, and its loss."""
    x, y = digits_data().train
    with global_stream(SEED, "initialisation"):
        layers = nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)
        model = nn.Sequential(*layers).to(dtype)
    objective = Objective(model, nn.functional.cross_entropy)
    return model, objective.closure(x[:SAMPLES].to(dtype), y[:SAMPLES])


def flat(parts: Vector) -> Tensor:
    """All entries, in double precision."""
    return torch.cat([part.detach().reshape(-1).double() for part in parts])


@functools.cache
def errors(dtype: torch.dtype, central: bool) -> list[float]:
    """The relative error of a product at each length of the step; the median of a few vectors."""
    _, closure = problem(dtype)
    _, product = closure.with_products()
    here, generator = closure.snapshot(), torch.Generator().manual_seed(SEED)
    start = closure.value_and_grad(here)[1]
    found = np.zeros((VECTORS, len(LENGTHS)))
    for row in found:
        v = Vector([torch.randn(p.shape, generator=generator, dtype=dtype) for p in here])
        v = v / float(v.norm())
        exact = flat(product(v))
        for k, h in enumerate(LENGTHS):
            ahead = closure.value_and_grad(here.add(v, alpha=h))[1]
            other = closure.value_and_grad(here.add(v, alpha=-h))[1] if central else start
            approximate = flat(ahead - other) / (2 * h if central else h)
            row[k] = float((approximate - exact).norm() / exact.norm())
    return np.median(found, axis=0).tolist()


@final
class Run(NamedTuple):
    """What a run left, after each step: weights, loss, cost in gradients; and its products."""

    points: list[Tensor]
    losses: list[float]
    cost: list[float]
    products: int


def run(how: str, dtype: torch.dtype, steps: int = STEPS) -> Run:
    """Hessian-free optimization with these products."""
    model, closure = problem(dtype)
    optimizer = HessianFree(model.parameters(), curvature="hessian", products=how)
    points, losses = [flat(closure.snapshot())], [float(closure.value())]
    begun = closure.ledger.gradients
    cost = [0.0]
    for _ in range(steps):
        optimizer.step(closure)
        cost.append(closure.ledger.gradients - begun)
        points.append(flat(closure.snapshot()))
        losses.append(float(closure.value()))
        begun += 1 / 3  # of the value just taken
    return Run(points, losses, cost, optimizer.counts.nhvp)


def apart(one: Run, other: Run) -> list[float]:
    """How far two paths are apart after each step, of the way that the first has gone."""
    return [
        float((a - b).norm() / (a - one.points[0]).norm())
        for a, b in zip(one.points[1:], other.points[1:], strict=True)
    ]


def product_claims() -> list[Claim]:
    """How the error follows the step, and its least."""
    claims = []
    for central, exponent in ((False, 1.0), (True, 2.0)):
        name = "central" if central else "forward"
        double = errors(torch.float64, central)
        part = slice(0, 5)  # from 1e-1 to 1e-3: truncation
        found, _ = slope(np.log(LENGTHS[part]), np.log(double[part]))
        words = f"{name} differences: the exponent q of the error h^q, h from 1e-1 to 1e-3"
        claims.append(near(words, NOCEDAL, exponent, found, 0.05))
        for dtype in (torch.float64, torch.float32):
            power = 2 / 3 if central else 1 / 2
            law = torch.finfo(dtype).eps ** power
            least = min(errors(dtype, central))
            words = f"{name} differences, {str(dtype)[6:]}: least relative error"
            law_text = "eps^(2/3)" if central else "eps^(1/2)"
            told = f"{law_text} = {law:.1e}, to a factor 30"
            holds = law / 30 <= least <= 30 * law
            claims.append(Claim(words, NOCEDAL, told, float(f"{least:.1e}"), holds))
    return claims


def path_claims(runs: dict[str, Run], single: dict[str, Run]) -> list[Claim]:
    """The same path in double precision; cost; what single precision makes of it."""
    claims, exact = [], runs["exact"]
    for how in HOW[1:]:
        far = max(apart(exact, runs[how]))
        words = f"{how} differences, float64: largest distance of the paths in {STEPS} steps"
        told = "below 1e-3 of the way gone"
        claims.append(Claim(words, MARTENS, told, float(f"{far:.1e}"), 0.0 < far < 1e-3))
        words = f"{how} differences, float64: loss after {STEPS} steps"
        claims.append(near(words, f"{MARTENS}: that of exact products", exact.losses[-1],
                           runs[how].losses[-1], 0.01))  # fmt: skip
    expected = exact.cost[-1] - exact.products
    words = "forward differences: cost of the run, in gradients"
    source = "derived: one gradient for each product instead of two"
    claims.append(near(words, source, expected, runs["forward"].cost[-1], 0.05))
    words = "central differences: the same"
    claims.append(near(words, PEARLMUTTER, exact.cost[-1], runs["central"].cost[-1], 0.05))
    for how in HOW[1:]:
        far = apart(single["exact"], single[how])
        words = f"{how} differences, float32: distance of the paths after the first step"
        told = "below 1e-3"
        claims.append(Claim(words, MARTENS, told, float(f"{far[0]:.1e}"), far[0] < 1e-3))
        words = f"{how} differences, float32: the paths part; largest distance"
        told = "above 1e-2"
        claims.append(Claim(words, "rounding, see the module", told, float(f"{max(far):.1e}"),
                            max(far) > 1e-2))  # fmt: skip
        words = f"{how} differences, float32: loss after {STEPS} steps over that of exact products"
        over = single[how].losses[-1] / single["exact"].losses[-1]
        claims.append(Claim(words, MARTENS, "at most 1.25", round(over, 3), over <= 1.25))
    return claims


def _run() -> Outcome:
    runs = {how: run(how, torch.float64) for how in HOW}
    single = {how: run(how, torch.float32) for how in HOW}
    claims = (*product_claims(), *path_claims(runs, single))
    settings = {
        "model": f"64-{HIDDEN}-10, tanh, cross-entropy; weights of seed {SEED}",
        "data": f"the first {SAMPLES} of the digits' training images, as one batch",
        "optimizer": "thalweg.optim.HessianFree, curvature='hessian', defaults otherwise",
        "products": list(HOW),
        "vectors": f"{VECTORS} of length 1, directions drawn from seed {SEED}; medians",
        "cost": "in gradients: a product through autograd counts two",
        "dtype": "float64 and float32",
        "runs": "one each",
    }
    figures = {"product": _errors(), "path": _paths(runs, single)}
    return Outcome(claims, figures, settings)


@styled
def _errors() -> Figure:
    figure, axes = canvas.axes(None)
    for dtype, dash in ((torch.float64, "-"), (torch.float32, (0, (4, 1.6)))):
        for central, colour, mark in ((False, "vermillion", "o"), (True, "blue", "s")):
            name = f"{'central' if central else 'forward'}, {str(dtype)[6:]}"
            axes.plot(LENGTHS, errors(dtype, central), color=tone(colour), ls=dash, marker=mark,
                      ms=4, label=name)  # fmt: skip
    canvas.log_axis(axes.xaxis, LENGTHS[-1], LENGTHS[0])
    axes.set(yscale="log", xlabel="length of the step h (log)")
    axes.set(ylabel="relative error of H v (log)", ylim=(1e-12, 1e3))
    line = f"64-{HIDDEN}-10 network, {SAMPLES} digits; median of {VECTORS} directions, seed {SEED}"
    canvas.caption(axes, "Truncation at long steps, rounding at short ones", line)
    canvas.legend(axes)
    return figure


@styled
def _paths(runs: dict[str, Run], single: dict[str, Run]) -> Figure:
    figure = Figure(figsize=(10.4, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = {"exact": ("black", "o"), "central": ("blue", "s"), "forward": ("vermillion", "^")}
    steps = range(1, STEPS + 1)
    for kind, dash, found in (("float64", "-", runs), ("float32", (0, (4, 1.6)), single)):
        for how in HOW[1:]:
            colour, mark = looks[how]
            left.plot(steps, apart(found["exact"], found[how]), color=tone(colour), ls=dash,
                      marker=mark, ms=4, label=f"{how}, {kind}")  # fmt: skip
    left.set(yscale="log", xlabel="step", ylabel="distance from the exact path, of its way (log)")
    left.set(title="Paths", ylim=(1e-12, 3))
    left.axhline(1e-3, color=tone("muted"), lw=1, ls=":")
    for how in HOW:
        colour, mark = looks[how]
        label = "autograd" if how == "exact" else f"{how} differences"
        width, size = (4.5, 8) if how == "exact" else (1.6, 4)  # central's lies on it
        right.plot(
            runs[how].cost,
            runs[how].losses,
            color=tone(colour),
            marker=mark,
            lw=width,
            ms=size,
            label=label,
        )
    right.set(xlabel="cost in gradients", ylabel="loss", title="Loss against cost, float64")
    right.set(ylim=(0, None))
    left.legend(loc="lower right", fontsize=8.5)
    right.legend(loc="upper right")
    figure.suptitle(
        f"Hessian-free on a 64-{HIDDEN}-10 network, {SAMPLES} digits, {STEPS} steps, seed {SEED}"
    )
    return figure


EXPERIMENT = Experiment(
    name="hessian-free-finite-difference",
    title="Hessian-free without second derivatives: products by differences of gradients",
    summary=(
        "The error of H v by forward and central differences against the step, in both precisions, "
        "against the laws; Hessian-free optimization of a network on the digits with either and "
        "with exact products: the distance of the paths, the loss, and the cost in gradients."
    ),
    run=_run,
    seconds=12.0,
)
