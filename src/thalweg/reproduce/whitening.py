r"""Whitening: in coordinates in which the Hessian is the identity, gradient descent goes straight.

With :math:`y = H^{1/2} x` a quadratic is a round bowl, :math:`\tfrac12 \|y\|^2`, whatever its
condition number was: gradient descent points at the minimum, all errors shrink by the same
:math:`1 - \eta`, and at :math:`\eta = 1` one step is all. Seen in the old coordinates the path is
:math:`x \leftarrow x - \eta H^{-1} g`: Newton's method, damped. Scaling each coordinate by the root
of its own curvature whitens only what is not turned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD, Newton
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.newton_walks import follow
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

N, SEED, RATE, LEFT = 20, 0, 0.5, 1e-6
KAPPAS = (10.0, 1e3, 1e5)
DEUFLHARD = "Newton's method is gradient descent in whitened coordinates: Nocedal and Wright 2006"
BOYD = "(kappa - 1)/(kappa + 1): Boyd and Vandenberghe 2004, 9.3"
NORMAL = "derived: the gradient is normal to level lines, and these are stretched"
BAUER = "diagonal scaling: van der Sluis 1969"

Function = Callable[[Tensor], Tensor]


def hessian(kappa: float, angle: float | None = None) -> Tensor:
    """N curvatures from 1 to kappa, turned at random; or two, turned by an angle."""
    if angle is None:
        generator = torch.Generator().manual_seed(SEED)
        drawn = torch.randn(N, N, dtype=torch.float64, generator=generator)
        turn = torch.linalg.qr(drawn).Q
    else:
        cos, sin = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    return turn @ torch.diag(torch.logspace(0, math.log10(kappa), len(turn)).double()) @ turn.T


def quadratic(matrix: Tensor) -> Function:
    """Half x'Hx."""
    return lambda x: 0.5 * x @ matrix @ x


def root(matrix: Tensor) -> Tensor:
    """The symmetric root."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def whitened(matrix: Tensor, change: Tensor) -> Tensor:
    """The Hessian in the coordinates y = change x."""
    inverse = torch.linalg.inv(change)
    return inverse.T @ matrix @ inverse


def kappa_of(matrix: Tensor) -> float:
    """The condition number."""
    values = torch.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0])


def bend(path: Tensor) -> float:
    """The largest angle in degrees between a step and the way to the minimum, 0."""
    moves, ways = path.diff(dim=0), -path[:-1]
    seen = ways.norm(dim=1) > 1e-10 * ways[0].norm()
    cosines = torch.cosine_similarity(moves[seen], ways[seen], dim=1)
    return math.degrees(math.acos(min(1.0, float(cosines.min()))))


def count(fn: Function, start: Tensor, rate: float, most: int = 4000) -> int:
    """Steps until f is LEFT of its first value."""
    goal = LEFT * float(fn(start))
    path = follow(fn, start, lambda p: SGD(p, lr=rate), most, goal)
    return len(path) - 1


def paths(kappa: float, method: Any = SGD, steps: int = 12) -> tuple[Tensor, Tensor]:
    """Gradient descent in whitened coordinates, brought back; and Newton's damped steps."""
    matrix = hessian(kappa)
    change, start = root(matrix), torch.ones(N, dtype=torch.float64)
    inside = follow(
        quadratic(whitened(matrix, change)), change @ start, lambda p: method(p, lr=RATE), steps
    )
    damped = [start]
    for _ in range(steps):  # a step of Newton's, of which a share is made
        whole = follow(quadratic(matrix), damped[-1], Newton, 1)[-1]
        damped.append(damped[-1] + RATE * (whole - damped[-1]))
    return inside @ torch.linalg.inv(change).T, torch.stack(damped)


def straight(method: Any = SGD) -> list[Claim]:
    """The round path, at every condition number."""
    claims = []
    for kappa in KAPPAS:
        matrix = hessian(kappa)
        change, start = root(matrix), torch.ones(N, dtype=torch.float64)
        fn, begin = quadratic(whitened(matrix, change)), change @ start
        path = follow(fn, begin, lambda p: method(p, lr=RATE), 12)
        angle = bend(path)
        plain = follow(quadratic(matrix), start, lambda p, k=kappa: SGD(p, lr=2 / (1 + k)), 12)
        words = (
            f"kappa {kappa:g}, whitened: largest angle between a step and the minimum's direction"
        )
        shown = float(f"{angle:.1e}")
        claims.append(Claim(words, DEUFLHARD, "0 degrees (1e-4)", shown, angle < 1e-4))
        angle = bend(plain)
        words = f"kappa {kappa:g}, not whitened: the same at the best rate"
        claims.append(Claim(words, NORMAL, "over 30 degrees", round(angle, 1), angle > 30))
        factor = float((path[-1].norm() / path[0].norm()) ** (1 / 12))
        words = f"kappa {kappa:g}, whitened: the error's factor a step, rate {RATE:g}"
        claims.append(near(words, "1 - eta", 1 - RATE, factor, 1e-6))
        back, damped = paths(kappa, method)
        apart = float((back - damped).norm() / damped.norm())
        most = 100 * kappa * torch.finfo(torch.float64).eps
        words = f"kappa {kappa:g}: that path in old coordinates and Newton's, damped by {RATE:g}"
        told = f"the same to rounding (100 kappa eps = {most:.1g})"
        claims.append(Claim(words, DEUFLHARD, told, float(f"{apart:.1e}"), apart <= most))
    return claims


def counts() -> list[Claim]:
    """Steps to a millionth of f, and what scaling the coordinates alone can do."""
    matrix = hessian(1e3)
    change, start = root(matrix), torch.ones(N, dtype=torch.float64)
    fn = quadratic(whitened(matrix, change))
    one = count(fn, change @ start, 1.0)
    some = count(fn, change @ start, RATE)
    slow = count(quadratic(matrix), start, 2 / (1 + 1e3))
    law = math.ceil(math.log(LEFT) / (2 * math.log(1 - RATE)))
    words = "kappa 1000: steps until f is 1e-6 of its first value,"
    made = [
        Claim(f"{words} whitened, rate 1", "1 - eta = 0", 1, one, one == 1),
        Claim(f"{words} whitened, rate {RATE:g}", "log(1e-6)/(2 log(1 - eta))", law, some,
              some == law),
        Claim(f"{words} not whitened, best rate", f"{BOYD}; at most {bound(1e3)}",
              "over 1000", slow, 1000 < slow <= bound(1e3)),
    ]  # fmt: skip
    for angle, expected in ((0.0, 1.0), (math.pi / 4, 1e3)):
        pair = hessian(1e3, angle)
        scaled = whitened(pair, torch.diag(pair.diagonal().sqrt()))
        words = f"two curvatures, 1 and 1000, turned by {math.degrees(angle):g} degrees: condition "
        words += "number after scaling each coordinate"
        made.append(near(words, BAUER, expected, kappa_of(scaled), 1e-6))
    return made


def bound(kappa: float) -> int:
    """Steps that gradient descent needs at most."""
    return math.ceil(math.log(LEFT / kappa) / (2 * math.log((kappa - 1) / (kappa + 1))))


def claims(method: Any = SGD) -> list[Claim]:
    """All claims, for gradient descent or for what is to be found out as something else."""
    return [*straight(method), *counts()]


def _run() -> Outcome:
    settings = {
        "f": f"1/2 x'Hx, {N} variables, curvatures spaced by one ratio, eigenvectors drawn from "
        f"seed {SEED}; two variables in the figures",
        "start": "all ones",
        "whitening": "y = H^(1/2) x, the symmetric root",
        "optimizer": f"thalweg.optim.SGD: rate {RATE} whitened, 2/(1 + kappa) otherwise; "
        "thalweg.optim.Newton",
        "dtype": "float64",
        "runs": "one each",
    }
    return Outcome(tuple(claims()), {"paths": _paths(), "steps": _steps()}, settings)


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(11.4, 4.5), layout="constrained")
    matrix = hessian(25.0, 0.5)
    change, start = root(matrix), torch.tensor([-1.4, 0.4], dtype=torch.float64)
    back = torch.linalg.inv(change)
    inside = follow(quadratic(torch.eye(2).double()), change @ start, lambda p: SGD(p, lr=RATE), 10)
    outside = follow(quadratic(matrix), start, lambda p: SGD(p, lr=2 / 26), 10)
    panels = (
        ("Gradient descent in x", "best rate, 2/26", matrix, outside, "sgd", 1.7, "x"),
        ("Whitened, y = √H x", f"rate {RATE:g}; the bowl is round",
         torch.eye(2).double(), inside, "sgd", 4.2, "y"),
        ("The same path seen in x", f"it is Newton's, damped by {RATE:g}", matrix,
         inside @ back.T, "newton", 1.7, "x"),
    )  # fmt: skip
    for axes, (title, line, bowl, path, label, half, name) in zip(
        figure.subplots(1, 3), panels, strict=True
    ):
        x = np.linspace(-half, half, 121)
        grid = torch.tensor(np.stack(np.meshgrid(x, x), axis=-1))
        z = 0.5 * ((grid @ bowl) * grid).sum(-1)
        surface: dict[str, Any] = {"x": x, "y": x, "z": z.tolist(), "minima": [[0.0, 0.0, 0.0]]}
        surface["start"] = path[0].tolist()
        contour(surface, {label: path.tolist()}, ax=axes, title=title, line=line, legend=False)
        axes.set(xlabel=f"{name}₁", ylabel=f"{name}₂")
    figure.suptitle("A quadratic with curvatures 1 and 25, ten steps from the same point")
    return figure


@styled
def _steps() -> Figure:
    figure, axes = canvas.axes(None)
    kappas, start = [3.0, 10.0, 30.0, 100.0, 300.0, 1000.0], torch.ones(N, dtype=torch.float64)
    slow = [count(quadratic(hessian(k)), start, 2 / (1 + k)) for k in kappas]
    flat = []
    for kappa in kappas:
        change = root(hessian(kappa))
        fn = quadratic(whitened(hessian(kappa), change))
        flat.append(count(fn, change @ start, RATE))
    for label, name, found in (
        ("sgd", "gradient descent, best rate", slow),
        ("newton", f"gradient descent in whitened coordinates, rate {RATE:g}", flat),
    ):
        look = series(label)
        axes.plot(kappas, found, color=look.colour, marker=look.marker, label=name)
    canvas.log_axis(axes.xaxis, kappas[0], kappas[-1])
    axes.set(yscale="log", xlabel="condition number κ (log)", ylabel="steps (log)")
    line = f"steps until f is {LEFT:g} of its first value; {N} variables, float64, one run each"
    canvas.caption(axes, "Whitened, the condition number does not matter", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="whitening",
    title="Whitening: gradient descent takes the round path, which is Newton's",
    summary=(
        "Gradient descent on quadratics in coordinates whitened by the root of the Hessian: the "
        "angle to the minimum, the factor a step, the same path as damped Newton steps in the old "
        "coordinates, steps against the condition number, and what scaling the coordinates alone "
        "can and cannot do."
    ),
    run=_run,
    seconds=6.0,
)
