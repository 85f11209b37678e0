r"""A saddle and the methods of second order: who is attracted, who leaves, and how fast.

The smallest network with a saddle has two weights, :math:`f(a, b) = \tfrac12 (1 - ab)^2`. In the
coordinates :math:`u = (a + b)/\sqrt2`, :math:`v = (a - b)/\sqrt2` the Hessian at 0 has the
eigenvalues -1 and 1. Near it

* Newton's step :math:`-H^{-1} g` divides by the negative eigenvalue: it goes *up* along u, to the
  saddle, at a quadratic rate;
* with :math:`|H|` in its place the distance from the line u = 0, which leads into the saddle,
  doubles at each step, where gradient descent multiplies it by :math:`1 + \eta`;
* a trust region goes to its edge; the natural gradient's matrix has no negative eigenvalue and
  next to none at the saddle, so that its steps are long there;
* on the line itself the gradient has no part along u. Methods that follow the gradient stay on it;
  a step along the eigenvector of the negative eigenvalue leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.objective import Objective
from thalweg.optim import (
    SGD,
    NaturalGradient,
    Newton,
    NewtonCG,
    NewtonLanczos,
    SaddleFreeNewton,
    TrustRegionNewton,
    TrustRegionNewtonCG,
)
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.newton_walks import Method, follow
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

STARTS, RADIUS, EXIT, RATE = 8, 0.4, 0.5, 0.1
DAMPING = 0.03  # of the natural gradient
SOLVED, BEYOND = 1e-12, 0.37  # f, from where on it is at a minimum, or has left the saddle
DISTANCES = [10.0**-k for k in range(2, 13, 2)]
DAUPHIN = "Dauphin et al., Identifying and attacking the saddle point problem, 2014"
NOCEDAL = "Nocedal and Wright 2006, chapters 3, 4 and 7"
MORE = "More and Sorensen 1979; McCormick 1977: directions of negative curvature"
AMARI = "Rattray, Saad and Amari 1998: natural gradient escapes plateaus"

LEAVING: dict[str, Method] = {
    "Newton, modified": Newton,
    "saddle-free Newton": SaddleFreeNewton,
    "trust region, exact": TrustRegionNewton,
    "trust region, CG": TrustRegionNewtonCG,
    "Newton-Lanczos": NewtonLanczos,
    "Newton-CG": NewtonCG,
}


class Product(nn.Module):
    """The network x -> b a x."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(start.clone())

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.weights.prod() * x


def loss(w: Tensor) -> Tensor:
    """Half the squared error of the network on the sample x = 1, y = 1; for points [..., 2]."""
    return 0.5 * (1 - w.prod(-1)) ** 2


def parts(points: Tensor) -> tuple[Tensor, Tensor]:
    """(u, v) of points [..., 2]: along the negative and along the positive eigenvector."""
    a, b = points.unbind(-1)
    return (a + b) / math.sqrt(2), (a - b) / math.sqrt(2)


def at(u: float, v: float) -> Tensor:
    """The weights (a, b)."""
    return torch.tensor([u + v, u - v], dtype=torch.float64) / math.sqrt(2)


def plain(start: Tensor, steps: int) -> Tensor:
    """Newton's iteration as the textbook has it: no modification, no search."""
    points = [start]
    for _ in range(steps):
        x = points[-1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(x), x)
        hessian = torch.autograd.functional.hessian(loss, x.detach())
        points.append(points[-1] - torch.linalg.solve(hessian, slope))
    return torch.stack(points)


def natural(start: Tensor, steps: int) -> Tensor:
    """Natural gradient on the network: the Fisher matrix of squared error is J'J."""
    model = Product(start)
    optimizer = NaturalGradient(model.parameters(), lr=1.0, radius=0.0, damping=DAMPING)
    objective = Objective(model, nn.functional.mse_loss)
    one = torch.ones(1, 1, dtype=torch.float64)
    closure, points = objective.closure(one, one), [start]
    for _ in range(steps):
        optimizer.step(closure)
        points.append(model.weights.detach().clone())
        if float(loss(points[-1])) <= SOLVED:
            break
    return torch.stack(points)


def ring() -> list[Tensor]:
    """Starts around the saddle, off both of its lines."""
    angles = (np.arange(STARTS) + 0.5) * 2 * math.pi / STARTS
    return [at(RADIUS * math.cos(t), RADIUS * math.sin(t)) for t in angles]


def attracted() -> list[Claim]:
    """Newton's own step goes to the saddle."""
    paths = [plain(start, 8) for start in ring()]
    ends = sum(float(path[-1].norm()) < 1e-12 for path in paths)
    path = plain(at(0.2, 0.1), 3).norm(dim=1)
    order = float(torch.log(path[3] / path[2]) / torch.log(path[2] / path[1]))
    words = (
        f"plain Newton, {STARTS} starts at {RADIUS} from the saddle: how many end at it in 8 steps"
    )
    rising = sum(float(loss(p[0])) < float(loss(p[-1])) for p in paths)
    return [
        Claim(words, DAUPHIN, STARTS, ends, ends == STARTS),
        Claim("of these, starts from where f was lower than at the saddle", DAUPHIN, "half or so",
              rising, 0.3 * STARTS <= rising <= 0.7 * STARTS),
        near("plain Newton: order at which it comes (f is even about the saddle: 3)",
             "derived: no third derivatives at 0", 3.0, order, 0.1),
    ]  # fmt: skip


def leaving(methods: dict[str, Method]) -> list[Claim]:
    """Every method that makes something of the negative eigenvalue reaches a minimum."""
    claims = []
    for name, method in methods.items():
        paths = [follow(loss, start, method, 40, SOLVED) for start in ring()]
        ends = sum(float(loss(path[-1])) <= SOLVED for path in paths)
        words = f"{name}, the same starts: how many reach the minimum (f < 1e-12) in 40 steps"
        claims.append(Claim(words, f"{DAUPHIN}; {NOCEDAL}", STARTS, ends, ends == STARTS))
    ends = sum(float(loss(natural(start, 60)[-1])) <= SOLVED for start in ring())
    words = "natural gradient, the same starts: how many reach it in 60 steps"
    claims.append(Claim(words, AMARI, STARTS, ends, ends == STARTS))
    return claims


def standing(methods: dict[str, Method]) -> list[Claim]:
    """On the line into the saddle, and at the saddle itself."""
    claims = []
    for name, method in methods.items():
        ends = [float(loss(follow(loss, at(0.0, v), method, 40, SOLVED)[-1])) for v in (0.0, 0.5)]
        words = f"{name} from the saddle and from the line that leads into it: f after 40 steps"
        told = "0 (1e-12), by negative curvature"
        shown = f"{max(ends):.1e}"
        claims.append(Claim(words, MORE, told, shown, max(ends) <= SOLVED))
    line = follow(loss, at(0.0, 0.5), lambda p: SGD(p, lr=RATE), 400)[-1]
    words = "gradient descent from that line: distance to the saddle after 400 steps"
    far = float(line.norm())
    claims.append(Claim(words, "the gradient has no part along u", "below 1e-12",
                        float(f"{far:.1e}"), far < 1e-12))  # fmt: skip
    path = natural(at(0.0, 0.5), 60)
    off = float(parts(path)[0].abs().max())
    words = "natural gradient from that line: largest distance from it in 60 steps"
    claims.append(Claim(words, "its matrix J'J has no part along u either", "0 to rounding (1e-12)",
                        float(f"{off:.1e}"), off < 1e-12))  # fmt: skip
    return claims


def exits(path: Tensor) -> int | None:
    """The first step at which a path is beyond EXIT from the line."""
    gone = (parts(path)[0].abs() >= EXIT).nonzero()
    return int(gone[0]) if len(gone) else None


def times(method: Callable[[Tensor], Tensor]) -> list[int | None]:
    """Steps to leave from v = 0.3 and each of the distances from the line."""
    return [exits(method(at(distance, 0.3))) for distance in DISTANCES]


def descent(start: Tensor) -> Tensor:
    """Gradient descent."""
    return follow(loss, start, lambda p: SGD(p, lr=RATE), 400, BEYOND)


def flipped(start: Tensor) -> Tensor:
    """Saddle-free Newton."""
    return follow(loss, start, lambda p: SaddleFreeNewton(p, damping=0.0), 40, BEYOND)


def speeds() -> list[Claim]:
    """How the steps to leave grow as the start comes nearer to the line."""
    claims = []
    for name, run, factor in (
        ("gradient descent, rate 0.1", descent, 1 + RATE),
        ("saddle-free Newton, not damped", flipped, 2.0),
    ):
        off = parts(run(at(1e-6, 0.3)))[0]
        near_line = off[(off > 1e-5) & (off < 1e-3)]
        grown = float((near_line[-1] / near_line[0]) ** (1 / (len(near_line) - 1)))
        words = f"{name}: the distance from the line, 1e-5 to 1e-3, times this at each step"
        claims.append(near(words, f"{DAUPHIN}; derived from the step", factor, grown, 1e-3))
    for name, method in (("Newton, modified", Newton), ("trust region, exact", TrustRegionNewton)):
        found = times(lambda start, m=method: follow(loss, start, m, 20))
        holds = all(step is not None and step <= 6 for step in found)
        words = f"{name}: steps to leave from 1e-2, 1e-4 ... 1e-12 beside the line"
        claims.append(Claim(words, f"{MORE}: as many from anywhere", "at most 6", found, holds))
    return claims


def claims(methods: dict[str, Method] = LEAVING) -> list[Claim]:
    """All claims."""
    return [*attracted(), *leaving(methods), *standing(methods), *speeds()]


def _run() -> Outcome:
    figures = {"paths": _paths(), "leave": _leave()}
    settings = {
        "f": "1/2 (1 - ab)^2: a network of two weights, one sample",
        "starts": f"{STARTS} on a circle of {RADIUS} around the saddle (0, 0)",
        "optimizers": "thalweg.optim at their defaults; SGD at 0.1; NaturalGradient at rate 1, "
        f"damping {DAMPING}, without trust region; plain Newton written out",
        "left": f"|u| >= {EXIT}, u = (a + b)/sqrt 2",
        "dtype": "float64",
        "runs": "one each",
    }
    return Outcome(tuple(claims()), figures, settings)


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(10.8, 7.4), layout="constrained")
    x = np.linspace(-1.75, 1.75, 161)
    z = loss(torch.tensor(np.stack(np.meshgrid(x, x), axis=-1))).tolist()
    start, line = at(0.06, 0.75), at(0.0, 0.75)
    surface: dict[str, Any] = {"x": x, "y": x, "z": z, "saddles": [[0.0, 0.0]]}
    panels: tuple[tuple[str, str, Tensor], ...] = (
        ("sgd", "Gradient descent", follow(loss, start, lambda p: SGD(p, lr=RATE), 60)),
        ("newton", "Newton, plain", plain(start, 8)),
        ("saddle-free-newton", "Saddle-free Newton", follow(loss, start, SaddleFreeNewton, 20)),
        ("trust-region-newton", "Trust region, exact", follow(loss, start, TrustRegionNewton, 20)),
        ("natural-gradient", "Natural gradient", natural(start, 20)),
        ("newton", "Newton, modified", follow(loss, line, Newton, 20)),
    )
    for axes, (label, title, path) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        surface["start"] = path[0].tolist()
        contour(surface, {label: path.tolist()}, ax=axes, title=title, line=_told(path),
                legend=False)  # fmt: skip
        _valley(axes)
        axes.set(xlabel="a", ylabel="b")
    figure.suptitle(
        "½(1 − ab)²: saddle (×) between two valleys of minima (dashed). The last panel starts on\n"
        "the line that leads into the saddle, the others 0.06 beside it"
    )
    return figure


def _told(path: Tensor) -> str:
    values = loss(path)
    ended = (values < 1e-8).nonzero()
    if len(ended):
        return f"at a minimum (f < 1e-8) after {int(ended[0])} steps"
    if float(path[-1].norm()) < 1e-6:
        return f"at the saddle after {int((path.norm(dim=1) < 1e-6).nonzero()[0])} steps"
    return f"f = {float(values[-1]):.1g} after {len(path) - 1} steps"


def _valley(axes: Axes) -> None:
    a = np.linspace(1 / 1.75, 1.75, 60)
    for sign in (-1, 1):
        axes.plot(sign * a, sign / a, color=tone("green"), ls="--", lw=1.2)


@styled
def _leave() -> Figure:
    figure, axes = canvas.axes(None)
    for label, name, run in (
        ("sgd", "gradient descent, rate 0.1", descent),
        ("saddle-free-newton", "saddle-free Newton", flipped),
        ("newton", "Newton, modified", lambda s: follow(loss, s, Newton, 20)),
        (
            "trust-region-newton",
            "trust region, exact",
            lambda s: follow(loss, s, TrustRegionNewton, 20),
        ),
    ):
        look = series(label)
        found = [math.nan if step is None else step for step in times(run)]
        axes.plot(DISTANCES, found, color=look.colour, ls=look.dash, marker=look.marker, label=name)
    canvas.log_axis(axes.xaxis, DISTANCES[-1], DISTANCES[0])
    axes.invert_xaxis()
    axes.set(xlabel="distance of the start from the line (log, less to the right)")
    axes.set(ylabel="steps to leave (log)", yscale="log")
    line = (
        f"steps until |u| ≥ {EXIT} on ½(1 − ab)², from v = 0.3, float64, one run each; nearer than "
        "1e-8 saddle-free Newton's gain is rounding of f, and it follows negative curvature"
    )
    canvas.caption(axes, "Leaving a saddle: by the logarithm of the distance, or at once", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="newton-saddle",
    title="A saddle attracts Newton's method; what makes something of negative curvature leaves",
    summary=(
        "The saddle of a network with two weights: plain Newton converges to it, from where the "
        "loss was lower too; modified and saddle-free Newton, trust regions, truncated Newton and "
        "natural gradient reach a minimum; on the line into the saddle and at it only negative "
        "curvature helps. Steps to leave against the distance from that line."
    ),
    run=_run,
    seconds=15.0,
)
