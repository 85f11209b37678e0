r"""A Jacobian that loses rank: Gauss-Newton stalls where there is no minimum, damping does not.

Near a point where J has not full rank the Gauss-Newton step is long and nearly across the gradient,
so that the search cuts it to nothing: Powell's example ends on the line of singular Jacobians, with
a gradient that is far from zero. The damped step of Levenberg and Marquardt turns to the gradient
there. Where the rank is the same everywhere (a parameter too many) the shortest Gauss-Newton step
works as well; a solver of the normal equations has no step at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.minimization import least_squares
from thalweg.problems import least_squares_set
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

STARTS = ((3.0, 0.5), (4.0, 0.5), (2.0, 0.5), (1.0, 0.4), (3.5, 0.7), (4.0, 0.8))
CLASSICS = ("freudenstein-roth", "chebyquad-9")
STEPS = 60  # of a run that stalls: each costs thirty evaluations
POWELL = "Powell 1970; Byrd, Marazzi and Nocedal 2004: Newton's steps end at no minimum"
MORE = "More 1978: accumulation points are stationary, whatever the rank"
SHORTEST = "Ben-Israel 1966: the shortest step, where the rank is constant"
HERE = "measured here: no published number"

Residuals = Callable[[Tensor], Tensor]


def powell(x: Tensor) -> Tensor:
    """Zero at the origin; the Jacobian is singular where the second variable is zero."""
    return torch.stack([x[0], 10 * x[0] / (x[0] + 0.1) + 2 * x[1].square()])


def twice(x: Tensor) -> Tensor:
    """A decay with one parameter too many: only the product of the first two counts."""
    t = torch.linspace(0, 2, 9, dtype=x.dtype)
    return x[0] * x[1] * torch.exp(-x[2] * t) - 6 * torch.exp(-0.5 * t)


def jacobian(fn: Residuals, x: Tensor) -> Tensor:
    """Dense, by autograd."""
    return torch.autograd.functional.jacobian(fn, x)  # type: ignore[return-value]


def narrowness(fn: Residuals, x: Tensor) -> float:
    """The least singular value over the largest, of columns of length 1."""
    columns = jacobian(fn, x)
    lengths = columns.norm(dim=0)
    values = torch.linalg.svdvals(columns / lengths.where(lengths > 0, torch.ones_like(lengths)))
    return float(values[-1] / values[0])


@functools.cache
def ends(method: str) -> list[Any]:
    """Where a method ends from each start of Powell's example."""
    steps = STEPS if method == "gauss-newton" else 300
    made = (torch.tensor(start, dtype=torch.float64) for start in STARTS)
    return [least_squares(powell, start, method, maxiter=steps, return_all=True) for start in made]


def valley_claims(stalls: str = "gauss-newton", holds: str = "lm") -> list[Claim]:
    """Powell's example from six starts."""
    stuck, solved = ends(stalls), ends(holds)
    total = len(STARTS)
    off = sum(not run.success and run.optimality > 1 for run in stuck)
    words = "Powell's example, {}: starts from which it {}"
    lines = [
        Claim(
            words.format("Gauss-Newton", "ends at a point with a gradient over 1"),
            POWELL,
            f"{total} of {total}",
            f"{off} of {total}",
            off == total,
        )
    ]
    worst = max(abs(float(run.x[1])) for run in stuck)
    lines.append(
        Claim(
            "Gauss-Newton's ends lie where J is singular: largest |x_2|",
            POWELL,
            "below 1e-6",
            float(f"{worst:.1e}"),
            worst < 1e-6,
        )
    )
    good = sum(run.cost < 1e-12 for run in solved)
    told = f"{total} of {total}"
    words = words.format("Levenberg-Marquardt", "reaches a cost below 1e-12")
    lines.append(Claim(words, MORE, told, f"{good} of {total}", good == total))
    # J is singular at the minimum as well: f is like x_2^4 there, and steps halve the error.
    path = torch.stack(solved[0].allvecs)[:, 1].abs()
    late = path[path < 1e-3]
    rate = float((late[1:] / late[:-1]).median())
    words = "Levenberg-Marquardt at the singular minimum: factor of the error a step"
    return [*lines, near(words, "Newton at a double root: linear, one half", 0.5, rate, 0.02)]


def classic_claims(stalls: str = "gauss-newton", holds: str = "lm") -> list[Claim]:
    """Two of the classical functions that lose rank on the way."""
    claims = []
    known = {problem.name: problem for problem in least_squares_set("mgh")}
    for problem in map(known.__getitem__, CLASSICS):
        stuck = least_squares(problem.residuals, problem.start(), stalls, maxiter=STEPS)
        fit = least_squares(problem.residuals, problem.start(), holds)
        thin = narrowness(problem.residuals, stuck.x)
        words = f"{problem.name}: Gauss-Newton ends where J is singular (least over largest value)"
        stops = not problem.solved(2 * stuck.cost) and not stuck.success
        claims.append(Claim(words, HERE, "below 1e-6", float(f"{thin:.1e}"), stops and thin < 1e-6))
        low = 2 * fit.cost
        least = min(problem.minima, key=lambda f: abs(f - low))
        words = f"{problem.name}: Levenberg-Marquardt's sum of squares, a known minimum"
        claims.append(Claim(words, MORE, least, float(f"{low:.10g}"), problem.solved(low)))
    return claims


def constant_claims() -> list[Claim]:
    """A parameter too many: rank 2 of 3 everywhere."""
    x = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    columns, residuals = jacobian(twice, x), twice(x)
    normal = columns.T @ columns
    condition = float(torch.linalg.cond(normal))
    words = "one parameter too many: condition number of J'J, so normal equations have no step"
    claims = [
        Claim(words, "derived", "over 1e15", float(f"{condition:.1e}"), condition > 1e15),
    ]
    shortest = -torch.linalg.pinv(columns, rtol=1e-12) @ residuals
    eye = torch.eye(3, dtype=torch.float64)
    damped = -torch.linalg.solve(normal + 1e-7 * eye, columns.T @ residuals)
    gap = float((damped - shortest).norm() / shortest.norm())
    words = "damping 1e-7: the damped step is the shortest one, relative distance"
    claims.append(
        Claim(words, "Nocedal and Wright 2006, 10.3", "below 1e-5", float(f"{gap:.1e}"), gap < 1e-5)
    )
    for method, name in (
        ("gauss-newton", "Gauss-Newton (shortest)"),
        ("lm", "Levenberg-Marquardt"),
    ):
        fit = least_squares(twice, x, method)
        product = float(fit.x[0] * fit.x[1])
        words = f"one parameter too many, {name}: the product that the data fix"
        claims.append(near(words, SHORTEST, 6.0, product, 1e-8))
    return claims


def _run() -> Outcome:
    claims = (*valley_claims(), *classic_claims(), *constant_claims())
    settings = {
        "Powell's example": "r = (x, 10 x / (x + 0.1) + 2 y^2), from " + str(STARTS),
        "steps": f"Gauss-Newton at most {STEPS}: where it stalls a step takes thirty evaluations",
        "too many": "a b exp(-c t) - 6 exp(-t / 2) at nine t in [0, 2], from (1, 2, 1)",
        "methods": "tw.least_squares: gauss-newton (shortest step by SVD, Armijo), lm (More)",
        "dtype": "float64",
    }
    return Outcome(claims, {"paths": _paths(), "cost": _costs()}, settings)


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    x, y = np.linspace(-0.09, 4.4, 181), np.linspace(-0.3, 1.0, 121)
    points = torch.tensor(np.stack(np.meshgrid(x, y), axis=-1))
    first, second = points[..., 0], points[..., 1]
    z = 0.5 * (first.square() + (10 * first / (first + 0.1) + 2 * second.square()).square())
    surface = {"x": x, "y": y, "z": z.tolist(), "minima": [[0.0, 0.0, 0.0]], "start": STARTS[0]}
    panels = {
        "gauss-newton": "Gauss-Newton: three starts, three dead ends",
        "lm": "Levenberg-Marquardt: all at the minimum",
    }
    for axes, (method, title) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        runs = ends(method)[:3]
        shown = torch.stack(runs[0].allvecs).tolist()
        line = "costs at the end: " + ", ".join(f"{run.cost:.2g}" for run in runs)
        contour(surface, {method: shown}, ax=axes, title=title, line=line, legend=False)
        look = series(method)
        for run in runs[1:]:
            path = torch.stack(run.allvecs).numpy()
            axes.plot(*path.T, color=look.colour, lw=1.3, marker=look.marker, ms=3)
            axes.plot(*path[0], "o", color="white", mec=look.colour, ms=6)
        axes.axhline(0, color=look.colour, lw=0.8, ls=":")
        axes.set_aspect("auto")
    figure.suptitle("Powell's example: J is singular on the dotted line, the star is the minimum")
    return figure


@styled
def _costs() -> Figure:
    figure, axes = canvas.axes(None)
    for method, name, colour in (
        ("gauss-newton", "Gauss-Newton", "vermillion"),
        ("lm", "Levenberg-Marquardt", "blue"),
    ):
        for k, run in enumerate(ends(method)):
            path = torch.stack(run.allvecs)
            costs = [0.5 * float(powell(x).square().sum()) for x in path]
            label = f"{name}, {len(STARTS)} starts" if k == 0 else None
            axes.plot(costs, color=tone(colour), lw=1.3, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="cost (log)", xlim=(0, 40), ylim=(1e-30, 1e3))
    line = "Powell's example, float64; a plateau is a point that is no minimum"
    canvas.caption(axes, "Damping holds where the Jacobian loses rank", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="rank-deficient-jacobian",
    title="A Jacobian that loses rank: Gauss-Newton stalls, Levenberg-Marquardt does not",
    summary=(
        "Powell's example from six starts, two classical functions that lose rank on the way, and "
        "a model with one parameter too many: where Gauss-Newton ends, how singular the Jacobian "
        "is there, and where Levenberg-Marquardt ends from the same start."
    ),
    run=_run,
    seconds=10.0,
)
