r"""Newton's method: one step on a quadratic, and correct digits that double.

The step :math:`-H^{-1} g` goes to the minimum of the quadratic that f is near x. Where f is one,
and positive definite, one step is all, whatever its condition number. Elsewhere

.. math:: e_{t+1} \approx \frac{|f'''|}{2 f''}\, e_t^2

near a minimum, so that the correct digits double; they triple where :math:`f''' = 0`. Where
:math:`f'' = 0` too, as at the minimum of :math:`x^4`, the error only falls by a factor, 2/3 there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.optim import SGD, Newton
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.newton_walks import Method, follow
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

N, SEED = 20, 0
KAPPAS = (1.0, 1e2, 1e4, 1e6, 1e8)
SAMPLES, PENALTY = 200, 0.01
FLOOR, FULL = 1e-16, 15.0  # an error that is not told from 0; all digits that there are
NOCEDAL = "Nocedal and Wright 2006, theorem 3.5"
TAYLOR = "derived: Taylor's expansion of x - f'/f''"
DEUFLHARD = "Deuflhard 2004: Newton's method is the same in all linear coordinates"

Function = Callable[[Tensor], Tensor]


def bowl(kappa: float) -> tuple[Function, Tensor]:
    """A turned quadratic of N variables, curvatures from 1 to kappa, and its minimum."""
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randn(N, N, dtype=torch.float64, generator=generator)
    basis = torch.linalg.qr(drawn).Q
    matrix = basis @ torch.diag(torch.logspace(0, np.log10(kappa), N).double()) @ basis.T
    minimum = torch.ones(N, dtype=torch.float64)

    def quadratic(x: Tensor) -> Tensor:
        return 0.5 * (x - minimum) @ matrix @ (x - minimum)

    return quadratic, minimum


def landing(method: Method = Newton) -> list[Claim]:
    """One step on quadratics; gradient descent's beside it."""
    claims, start = [], torch.zeros(N, dtype=torch.float64)
    for kappa in KAPPAS:
        fn, minimum = bowl(kappa)
        left = float((follow(fn, start, method, 1)[-1] - minimum).norm() / minimum.norm())
        most = 100 * kappa * torch.finfo(torch.float64).eps
        words = f"condition number {kappa:g}, {N} variables: error left after one step"
        told = f"0 to rounding (100 kappa eps = {most:.1g})"
        claims.append(Claim(words, NOCEDAL, told, float(f"{left:.1e}"), left <= most))
    fn, minimum = bowl(100.0)
    plain = follow(fn, start, lambda p: SGD(p, lr=2 / 101), 600)
    errors = (plain - minimum).norm(dim=1)
    words = "condition number 100: gradient descent's factor a step, best rate, last 50 of 600"
    factor = float((errors[-1] / errors[-51]) ** (1 / 50))
    claims.append(near(words, "derived: (kappa - 1)/(kappa + 1)", 99 / 101, factor))
    return claims


def coordinates(method: Method = Newton) -> Claim:
    """The path in other linear coordinates, brought back."""
    generator = torch.Generator().manual_seed(SEED)
    turn = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    start = torch.linspace(-0.4, 0.6, 4).double()
    straight = follow(convex, start, method, 5)
    other = follow(lambda y: convex(turn @ y), torch.linalg.solve(turn, start), method, 5)
    apart = float((straight - other @ turn.T).abs().max())
    words = "5 steps on a convex function of 4 variables, and in drawn coordinates: difference"
    return Claim(words, DEUFLHARD, "0 to rounding (1e-10)", float(f"{apart:.1e}"), apart < 1e-10)


def convex(x: Tensor) -> Tensor:
    """A function whose third derivative does not vanish at its minimum, 0."""
    return (x.exp() - x).sum() + 0.25 * (x[:-1] * x[1:]).square().sum()


def logistic() -> tuple[Function, Tensor]:
    """Logistic regression on drawn samples, with a penalty; and its minimum."""
    generator = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(SAMPLES, 5, dtype=torch.float64, generator=generator)
    truth = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    noise = torch.randn(SAMPLES, dtype=torch.float64, generator=generator)
    signs = torch.sign(inputs @ truth + noise)

    def loss(w: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-signs * (inputs @ w)).mean() + PENALTY * w @ w

    return loss, follow(loss, torch.zeros(5, dtype=torch.float64), Newton, 20)[-1]


def rosenbrock(x: Tensor) -> Tensor:
    """Rosenbrock's valley, long before the minimum is near."""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def runs(method: Method = Newton) -> dict[str, list[float]]:
    """The error after each step, of functions whose order is known."""
    one = torch.tensor([0.8], dtype=torch.float64)
    loss, best = logistic()
    cases: dict[str, tuple[Function, Tensor, Tensor | float, int]] = {
        "exp(x) - x": (lambda x: (x.exp() - x).sum(), one, 0.0, 5),
        "cosh x": (lambda x: x.cosh().sum(), one, 0.0, 4),
        "x^4": (lambda x: (x**4).sum(), one, 0.0, 30),
        "logistic regression": (loss, torch.zeros(5, dtype=torch.float64), best, 8),
        "convex, 4 variables": (convex, torch.linspace(-0.9, 1.0, 4).double(), 0.0, 7),
        "Rosenbrock": (rosenbrock, torch.tensor([-1.2, 1.0], dtype=torch.float64), 1.0, 26),
    }
    return {
        name: (follow(fn, start, method, steps) - minimum).norm(dim=1).tolist()
        for name, (fn, start, minimum, steps) in cases.items()
    }


def order(errors: list[float]) -> float:
    """The exponent q of e_(t+1) = c e_t^q, from the last three errors that are not rounding."""
    seen = [e for e in errors if e > 1e-12]
    e0, e1, e2 = seen[-3:]
    return float(np.log(e2 / e1) / np.log(e1 / e0))


def rates(found: dict[str, list[float]]) -> list[Claim]:
    """The constants and the orders."""
    square, cube, fourth = (found[name] for name in ("exp(x) - x", "cosh x", "x^4"))
    made = [
        near("exp(x) - x: e_(t+1) / e_t^2, f'''/(2 f'') = 1/2", TAYLOR, 0.5,
             square[3] / square[2] ** 2, 0.01),
        near("cosh x, f''' = 0: e_(t+1) / e_t^3, f''''/(3 f'') = 1/3", TAYLOR, 1 / 3,
             cube[2] / cube[1] ** 3, 0.02),
        near("x^4, f'' = 0: e_(t+1) / e_t", TAYLOR, 2 / 3, fourth[20] / fourth[19], 1e-6),
    ]  # fmt: skip
    for name in ("logistic regression", "convex, 4 variables"):
        words = f"{name}: the order q of e_(t+1) = c e_t^q in the last three errors above 1e-12"
        made.append(near(words, f"{NOCEDAL}: 2 near the minimum", 2.0, order(found[name]), 0.15))
    return made


def claims(method: Method = Newton) -> list[Claim]:
    """All claims, for Newton's method or for what is to be found out as something else."""
    return [*landing(method), coordinates(method), *rates(runs(method))]


def _run() -> Outcome:
    figures = {"one-step": _paths(), "digits": _digits(runs())}
    settings = {
        "quadratics": f"1/2 (x - 1)' H (x - 1), {N} variables, curvatures spaced by one ratio, "
        f"eigenvectors drawn from seed {SEED}, from 0",
        "functions": "exp(x) - x, cosh x and x^4 from 0.8; logistic regression of "
        f"{SAMPLES} drawn samples in 5 variables, penalty {PENALTY} |w|^2, from 0; "
        "sum(exp x - x) + sum((x_i x_(i+1))^2)/4; Rosenbrock's from (-1.2, 1)",
        "optimizer": "thalweg.optim.Newton, defaults; SGD at 2/(lambda_min + lambda_max)",
        "dtype": "float64",
        "runs": "one each",
    }
    return Outcome(tuple(claims()), figures, settings)


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(8.8, 4.4), layout="constrained")
    cos, sin = np.cos(0.5), np.sin(0.5)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    matrix = turn @ torch.diag(torch.tensor([1.0, 25.0]).double()) @ turn.T

    def ravine(x: Tensor) -> Tensor:
        return 0.5 * x @ matrix @ x

    x = np.linspace(-1.6, 1.2, 141)
    grid = torch.tensor(np.stack(np.meshgrid(x, x), axis=-1))
    surface: dict[str, Any] = {
        "x": x,
        "y": x,
        "z": (0.5 * ((grid @ matrix) * grid).sum(-1)).tolist(),
    }
    start = torch.tensor([-1.4, 0.4], dtype=torch.float64)
    surface |= {"minima": [[0.0, 0.0, 0.0]], "start": start.tolist()}
    panels = (
        ("sgd", "Gradient descent: 60 steps", lambda p: SGD(p, lr=2 / 26), 60),
        ("newton", "Newton: one step", Newton, 1),
    )
    for axes, (label, title, make, steps) in zip(figure.subplots(1, 2), panels, strict=True):
        path = follow(ravine, start, make, steps)
        line = f"error left: {float(path[-1].norm() / start.norm()):.1g} of the first"
        contour(surface, {label: path.tolist()}, ax=axes, title=title, line=line, legend=False)
    figure.suptitle("A quadratic with curvatures 1 and 25; gradient descent at its best rate, 2/26")
    return figure


@styled
def _digits(found: dict[str, list[float]]) -> Figure:
    figure, axes = canvas.axes(None, (6.6, 4.8))
    tones = ("vermillion", "purple", "green", "orange", "wine", "black")
    marks = ("o", "s", "^", "D", "P", "v")
    for (name, errors), colour, mark in zip(found.items(), tones, marks, strict=True):
        digits = -np.log10(np.maximum(errors, FLOOR))
        shown = (
            digits[: int(np.argmax(digits >= -np.log10(2e-16))) + 1]
            if digits.max() > 15.6
            else digits
        )
        label = name.replace("^4", "⁴").replace(" - ", " − ")
        axes.plot(shown, color=tone(colour), marker=mark, ms=4.5, label=label)
    fn, minimum = bowl(100.0)
    path = follow(fn, torch.zeros(N, dtype=torch.float64), lambda p: SGD(p, lr=2 / 101), 30)
    look = series("sgd")
    slow = -np.log10((path - minimum).norm(dim=1).numpy())
    axes.plot(slow, color=look.colour, ls=":", label="gradient descent, κ = 100")
    axes.set(xlabel="step", ylabel="correct digits, −log₁₀ of the error", ylim=(-1.2, 17))
    line = "distance to the minimum in float64 (16 digits), one run each, Newton at its defaults"
    canvas.caption(axes, "The digits double at each step, where f'' > 0 at the minimum", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="newton-one-step",
    title="Newton's method: one step on a quadratic, and digits that double",
    summary=(
        "One step on quadratics of condition number 1 to 1e8, the same path in any linear "
        "coordinates, and the error after each step on functions where it squares, cubes or only "
        "falls by two thirds, against the constants of Taylor's expansion; gradient descent beside "
        "it."
    ),
    run=_run,
    seconds=5.0,
)
