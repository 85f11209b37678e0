r"""The largest stable rate of a real network: two over the largest eigenvalue of its Hessian.

At a minimum :math:`\theta^*` the loss is its quadratic model
:math:`\tfrac12 e^\top H e` to second order, and gradient descent multiplies the error along an
eigenvector by :math:`1 - \eta\lambda`: it diverges exactly where :math:`\eta > 2/\lambda_{\max}`,
heavy ball where :math:`\eta > 2(1+\beta)/\lambda_{\max}`, Nesterov where
:math:`\eta > 2(1+\beta)/(\lambda_{\max}(1+2\beta))`. The network is trained under weight decay down
to a point with no slope, where all curvature is positive; a saddle would diverge at any rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.curvature.eigen import eigsh
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operator import AbstractOperator
from thalweg.objective import Objective
from thalweg.optim import SGD, Nesterov
from thalweg.problems.digits import digits_data
from thalweg.problems.networks import perceptron
from thalweg.report import canvas
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

BETA, DECAY = 0.9, 0.01
STEPS, HALVINGS, FAR = 200, 12, 1e3
MULTIPLES = (0.25, 0.9, 1.1, 1.5)
LAW = "roots of the recursion on a quadratic: Polyak 1964; Goh 2017"

Make = Callable[..., Any]


@final
@dataclass(frozen=True)
class Method:
    """An optimizer with its limit of rate times curvature, and its roots there."""

    name: str
    look: str
    make: Make
    limit: float
    words: str

    def factor(self, product: float) -> float:
        """The factor a step at a rate times curvature: the larger root's magnitude."""
        beta = 0.0 if self.look == "sgd" else BETA
        if self.look == "nesterov":
            return float(abs(np.roots([1, (product - 1) * (1 + beta), (1 - product) * beta])).max())
        return float(abs(np.roots([1, product - 1 - beta, beta])).max())


METHODS = (
    Method("gradient descent", "sgd", SGD, 2.0, "2/λ"),
    Method("heavy ball", "momentum", partial(SGD, momentum=BETA), 2 * (1 + BETA), "2(1 + β)/λ"),
    Method(
        "Nesterov",
        "nesterov",
        partial(Nesterov, momentum=BETA),
        2 * (1 + BETA) / (1 + 2 * BETA),
        "2(1 + β)/(λ(1 + 2β))",
    ),
)


@final
class Site:
    """A digits network at a minimum of its loss with weight decay, and the curvature there."""

    def __init__(self, samples: int = 1168, width: int = 8) -> None:
        x, y = (part[:samples] for part in digits_data().train)
        self.x, self.y = x.double(), y
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = perceptron(64, width, width, 10).double()
        self.params = list(self.model.parameters())
        self.closure = Objective(self.model, F.cross_entropy).closure(self.x, self.y)
        self._descend()
        self.minimum = self.flat().clone()
        self.gradient_norm = float(self.gradient().norm())
        self.hessian = self.curvature()
        self.values = torch.linalg.eigvalsh(self.hessian.to_dense())
        top = eigsh(self.hessian, tol=1e-5)
        self.top, self.direction = float(top.values[0]), top.vectors[:, 0]

    def curvature(self) -> AbstractOperator:
        """The Hessian with decay where the network stands."""
        return Hessian(self.closure).damped(DECAY)

    def flat(self) -> Tensor:
        """The parameters."""
        return torch.cat([p.detach().reshape(-1) for p in self.params])

    def place(self, point: Tensor) -> None:
        """Put the network at a point."""
        sizes = [p.numel() for p in self.params]
        with torch.no_grad():
            for p, part in zip(self.params, point.split(sizes), strict=True):
                p.copy_(part.view_as(p))

    def slopes(self) -> float:
        """Set the gradients, without decay; the loss with it."""
        loss = F.cross_entropy(self.model(self.x), self.y)
        for p, slope in zip(self.params, torch.autograd.grad(loss, self.params), strict=True):
            p.grad = slope
        return float(loss.detach()) + 0.5 * DECAY * float(self.flat().square().sum())

    def gradient(self) -> Tensor:
        """The gradient with decay."""
        self.slopes()
        slopes = [p.grad.reshape(-1) for p in self.params if p.grad is not None]
        return torch.cat(slopes) + DECAY * self.flat()

    def _descend(self) -> None:
        """To the minimum: L-BFGS, then Newton where the flattest directions are left."""
        options = {
            "tolerance_grad": 1e-9,
            "tolerance_change": 0.0,
            "line_search_fn": "strong_wolfe",
        }
        optimizer = torch.optim.LBFGS(self.params, max_iter=800, history_size=50, **options)

        def closure() -> Tensor:
            loss = F.cross_entropy(self.model(self.x), self.y)
            loss = loss + 0.5 * DECAY * torch.stack([p.square().sum() for p in self.params]).sum()
            for p, slope in zip(self.params, torch.autograd.grad(loss, self.params), strict=True):
                p.grad = slope
            return loss.detach()

        optimizer.step(closure)
        for _ in range(4):
            slope = self.gradient()
            if float(slope.norm()) < 1e-9:
                break
            values, vectors = torch.linalg.eigh(self.curvature().to_dense())
            step = vectors @ ((vectors.T @ slope) / values.abs().clamp_min(DECAY / 100))
            self.place(self.flat() - step * min(1.0, 1.0 / float(step.norm())))


def on_quadratic(site: Site, method: Method, rate: float, start: Tensor) -> Iterator[float]:
    """The length of the quadratic model's gradient at each step from ``start`` on."""
    point = nn.Parameter(start.clone())
    optimizer = method.make([point], lr=rate)

    def slopes() -> float:
        point.grad = site.hessian @ point.detach()
        return 0.5 * float(point.detach() @ point.grad)

    while True:
        optimizer.step(slopes)
        yield float(point.grad.norm()) if point.grad is not None else 0.0


def on_network(site: Site, method: Method, rate: float, start: Tensor) -> Iterator[float]:
    """The length of the network's own gradient at each step from ``start`` off the minimum on."""
    site.place(site.minimum + start)
    optimizer = method.make(site.params, lr=rate, weight_decay=DECAY)
    size = 0.0

    def slopes() -> float:
        nonlocal size
        size = float(site.gradient().norm())
        return 0.0  # nothing looks at the loss

    while True:
        optimizer.step(slopes)
        yield size


def growth(sizes: Iterator[float]) -> float:
    """The factor a step, from the crests of the third and the fourth quarter of a run.

    A run that is a thousand times as far as at its start is not followed any further.
    """
    seen: list[float] = []
    for size in sizes:
        seen.append(size)
        if size > FAR * seen[0] or len(seen) == STEPS:
            break
    quarter = len(seen) // 4
    late, before = seen[-quarter:], seen[-2 * quarter : -quarter]
    return (max(late) / max(before)) ** (1 / quarter)


def threshold(site: Site, method: Method, walk: Any, size: float) -> float:
    """The rate at which errors begin to grow, by bisection, over one over the top eigenvalue."""
    source = torch.Generator().manual_seed(1)
    start = torch.randn(len(site.minimum), generator=source, dtype=torch.float64)
    start *= size / start.norm()
    low, high = 0.5, 4.5
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        grows = growth(walk(site, method, middle / site.top, start)) > 1.0
        low, high = (low, middle) if grows else (middle, high)
    return (low + high) / 2


def departure(site: Site, multiple: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The signed distance along the top eigenvector and the loss, at a multiple of 2/lambda."""
    site.place(site.minimum + 1e-4 * site.direction)
    optimizer = SGD(site.params, lr=multiple * 2 / site.top, weight_decay=DECAY)
    found = []
    for _ in range(steps + 1):
        along = float(site.direction @ (site.flat() - site.minimum))
        found.append((along, float(optimizer.step(site.slopes))))
    return np.array(found)[:, 0], np.array(found)[:, 1]


def claims(site: Site, runs: dict[float, tuple[np.ndarray, np.ndarray]]) -> list[Claim]:
    """All claims, of the minimum, the thresholds and the departure."""
    made = [
        Claim(
            "the network stands at a minimum: gradient below 1e-8, smallest eigenvalue positive",
            "by dense eigenvalues, weight decay included",
            "> 0",
            float(site.values[0]),
            site.gradient_norm < 1e-8 and bool(site.values[0] > 0),
        ),
        near(
            "largest eigenvalue, by Lanczos",
            "eigvalsh of the dense Hessian",
            float(site.values[-1]),
            site.top,
            1e-4,
        ),
    ]
    for method in METHODS:
        for where, walk, size in (
            ("quadratic model", on_quadratic, 1.0),
            ("network itself, from 1e-6 off the minimum", on_network, 1e-6),
        ):
            found = threshold(site, method, walk, size)
            words = f"{method.name}, {where}: errors grow from the rate {method.words} on, times λ"
            made.append(near(words, LAW, method.limit, found, 2e-3))
    for multiple in MULTIPLES:
        path = runs[multiple][0]
        factor = float(np.mean(path[1:6] / path[:5]))
        words = f"network, rate {multiple:g} x 2/λ: factor a step along the top eigenvector"
        made.append(near(words, "1 - η λ; first five steps", 1 - 2 * multiple, factor, 5e-3))
    return [*made, _leaving(*runs[1.1])]


def _leaving(path: np.ndarray, losses: np.ndarray) -> Claim:
    """What the network does that its quadratic model does not."""
    law = 1e-4 * 1.2 ** np.arange(len(path))
    off = int(np.argmax(abs(np.abs(path) / law - 1) > 0.1))
    amplitude = float(np.abs(path).max())
    return Claim(
        f"network, rate 1.1 x 2/λ: grows as the quadratic for {off} steps, then stays finite: "
        f"largest distance along the eigenvector, {len(path) - 1} steps",
        "Cohen et al. 2021: beyond the limit a network leaves its quadratic, not the domain",
        f"< {law[-1]:.3g}, the quadratic's",
        amplitude,
        bool(np.isfinite(losses).all()) and off > 0 and amplitude < 1e-3 * law[-1],
    )


def _run() -> Outcome:
    site = Site()
    runs = {multiple: departure(site, multiple, 300) for multiple in MULTIPLES}
    made = claims(site, runs)
    figures = {"growth": _growth(site), "departure": _departure(runs)}
    settings = {
        "network": "digits, tanh 64-8-8-10, cross-entropy of all 1168, float64",
        "weight decay": DECAY,
        "momentum": BETA,
        "largest eigenvalue": site.top,
        "gradient norm": site.gradient_norm,
        "grows": f"crest of the gradient's length, last quarter of {STEPS} steps over the third",
        "bisection": f"{HALVINGS} halvings of 0.5 to 4.5 over λ",
    }
    return Outcome(tuple(made), figures, settings)


@styled
def _growth(site: Site) -> Figure:
    figure, axes = canvas.axes(None)
    grid = np.linspace(0.85, 1.25, 101)
    source = torch.Generator().manual_seed(2)
    start = torch.randn(len(site.minimum), generator=source, dtype=torch.float64)
    for method in METHODS:
        look = series(method.look)
        curve = [method.factor(share * method.limit) for share in grid]
        axes.plot(grid, curve, color=look.colour, ls=look.dash, label=f"{method.name}: |root|")
        shares = [0.98, 1.02, 1.06, 1.1, 1.15, 1.2]
        found = [
            growth(on_quadratic(site, method, share * method.limit / site.top, start))
            for share in shares
        ]
        label = f"{method.name}: measured"
        axes.plot(shares, found, look.marker, color=look.colour, label=label)
    axes.axhline(1.0, color=tone("muted"), lw=0.9, ls=":")
    axes.axvline(1.0, color=tone("muted"), lw=0.9, ls=":")
    axes.set(xlabel="rate over its limit", ylabel="factor of the gradient a step")
    line = "digits 64-8-8-10 at a minimum, β = 0.9, float64; below 1, flatter directions linger"
    canvas.caption(axes, "Errors grow exactly where the rate passes its limit", line)
    canvas.legend(axes)
    return figure


@styled
def _departure(runs: dict[float, tuple[np.ndarray, np.ndarray]]) -> Figure:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for multiple, name in zip(MULTIPLES[1:], ("green", "orange", "vermillion"), strict=True):
        path, losses = runs[multiple]
        steps, label = np.arange(len(path)), f"rate {multiple:g} × 2/λ"
        left.plot(steps, np.abs(path), color=tone(name), lw=1.4, label=label)
        law = 1e-4 * abs(1 - 2 * multiple) ** steps
        left.plot(steps, law, color=tone(name), lw=1.0, ls=":")
        right.plot(steps, losses, color=tone(name), lw=1.4, label=label)
    left.set(yscale="log", ylim=(1e-6, 30), xlim=(0, 100), xlabel="step")
    left.set(title="Dotted: the quadratic, |1 − ηλ|ᵏ", ylabel="distance along the top eigenvector")
    right.set(xlabel="step", ylabel="loss with weight decay", title="The loss stays finite")
    left.legend(loc="lower right")
    right.legend(loc="upper right")
    figure.suptitle("A network beyond its stable rate: leaves the minimum, and then the quadratic")
    return figure


EXPERIMENT = Experiment(
    name="stable-rate",
    title="The largest stable rate: 2/λ_max of the local quadratic of a real network",
    summary=(
        "A digits network at a minimum: the rate at which gradient descent, heavy ball and "
        "Nesterov begin to diverge, by bisection, on the quadratic model by Hessian products and "
        "on the network itself; and the factor a step along the top eigenvector. Beyond the limit "
        "the network follows its quadratic only while it is near: then the higher terms take over, "
        "and it goes about the valley at a bounded distance, or to where the curvature is less."
    ),
    run=_run,
    seconds=30.0,
)
