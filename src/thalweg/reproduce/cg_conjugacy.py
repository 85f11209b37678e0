r"""Conjugate directions: what a step has gained, no later step loses again.

Conjugate gradients on :math:`\tfrac12 x^\top H x - b^\top x` takes directions with
:math:`d_t^\top H d_s = 0`, so that n steps reach the minimum, and k steps do where H has k distinct
eigenvalues. Steepest descent to the minimum of each line takes directions that are orthogonal to
the last, :math:`d_t^\top d_{t-1} = 0`, and from its worst start it zig-zags for ever, with the
factor :math:`((\kappa - 1) / (\kappa + 1))^2` in f.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.objective import Objective
from thalweg.optim import ConjugateGradient
from thalweg.report import canvas, contour
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near


__all__ = ["EXPERIMENT"]

N, KAPPA, SEED = 20, 100.0, 0
CLUSTERS = (1.0, 3.0, 10.0, 30.0, 100.0)  # each four times
ROUNDING = 1e-9  # of a cosine that is zero but for rounding
RAVINE = 25.0  # curvatures 1 and 25
STIEFEL = "Hestenes and Stiefel, 1952"
LUENBERGER = "Luenberger 1973; Nocedal and Wright 2006, theorems 5.3 to 5.5"
PAIGE = "Paige 1971: where a Ritz value has converged, orthogonality is lost"
AKAIKE = "Kantorovich 1948; Akaike 1959: the bound is met from (kappa, 1)"

Method = Callable[[list[Tensor]], Any]


@final
class Quadratic:
    """A quadratic, zero at its minimum, which is all ones.

    Args:
        curvatures: The eigenvalues of H; their eigenvectors are drawn, or the axes.
        turned: Whether they are drawn.
    """

    def __init__(self, curvatures: Tensor, turned: bool = True) -> None:
        n = len(curvatures)
        generator = torch.Generator().manual_seed(SEED)
        drawn = torch.randn(n, n, dtype=torch.float64, generator=generator)
        basis = torch.linalg.qr(drawn).Q if turned else torch.eye(n, dtype=torch.float64)
        self.matrix = basis @ torch.diag(curvatures) @ basis.T
        self.minimum = torch.ones(n, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """Its value, half the error's square in the norm of H."""
        off = x - self.minimum
        return 0.5 * off.dot(self.matrix @ off)

    def path(self, method: Method, start: Tensor, steps: int, *, forget: bool = False) -> Tensor:
        """The points of a run; ``forget`` drops what the method remembers before each step."""
        point = nn.Parameter(start.clone())
        optimizer, points = method([point]), [start]
        closure = Objective.of(self).closure(point)
        for _ in range(steps):
            if forget:
                optimizer.state.clear()
            optimizer.step(closure)
            points.append(point.detach().clone())
        return torch.stack(points)

    def errors(self, path: Tensor) -> list[float]:
        """The error at each point in the norm of H, over that of the first."""
        off = path - self.minimum
        size = ((off @ self.matrix) * off).sum(1).sqrt()
        return (size / size[0]).tolist()

    def cosines(self, path: Tensor, matrix: Tensor | None = None) -> Tensor:
        """The cosines between all steps, [steps, steps], in the norm of H or of a matrix."""
        inner = self.matrix if matrix is None else matrix
        moves = path.diff(dim=0)
        products = moves @ inner @ moves.T
        sizes = products.diagonal().sqrt()
        return products / torch.outer(sizes, sizes)


def spread() -> Quadratic:
    """Twenty curvatures from 1 to 100, evenly spaced."""
    return Quadratic(torch.linspace(1, KAPPA, N, dtype=torch.float64))


def successive(cosines: Tensor) -> float:
    """The largest cosine between a step and the next, in absolute value."""
    return float(cosines.diagonal(1).abs().max())


def conjugacy(method: Method = ConjugateGradient) -> list[Claim]:
    """Directions, beside those of steepest descent."""
    bowl = spread()
    start = torch.zeros(N, dtype=torch.float64)
    path = bowl.path(method, start, 15)
    found = bowl.cosines(path)
    plain = bowl.path(method, start, 15, forget=True)
    same = torch.eye(N, dtype=torch.float64)
    pairs = float(found.triu(1).abs().max())
    straight = successive(bowl.cosines(plain, same))
    loose = successive(bowl.cosines(plain))
    words = "largest cosine of {}, 15 steps"
    return [
        _zero(words.format("d_t and d_(t-1) in the norm of H"), STIEFEL, successive(found)),
        _zero(words.format("any two directions in the norm of H"), STIEFEL, pairs),
        _zero(words.format("steepest descent's d_t and d_(t-1), plain norm"), AKAIKE, straight),
        Claim(
            "steepest descent's d_t and d_(t-1) are not conjugate: largest cosine, norm of H",
            "the same direction comes back: it undoes what was gained",
            "over 0.1",
            round(loose, 3),
            loose > 0.1,
        ),
    ]


def _zero(words: str, source: str, value: float) -> Claim:
    told = f"0 to rounding ({ROUNDING:g})"
    return Claim(words, source, told, float(f"{value:.1e}"), value < ROUNDING)


def endings(method: Method = ConjugateGradient) -> list[Claim]:
    """How many steps it takes, and how fast the error falls before."""
    claims = []
    five = torch.tensor(CLUSTERS, dtype=torch.float64).repeat_interleave(N // len(CLUSTERS))
    for words, bowl, most in (
        (f"{N} distinct curvatures", spread(), N),
        (f"{N} curvatures, {len(CLUSTERS)} distinct", Quadratic(five), len(CLUSTERS)),
    ):
        start = torch.zeros(N, dtype=torch.float64)
        errors = bowl.errors(bowl.path(method, start, most))
        left = errors[-1]
        told = f"below 1e-10 after {most}, not after {most - 1}"
        words = f"{words}: error left after {most} steps and after {most - 1}"
        holds = left < 1e-10 < errors[-2]
        claims.append(Claim(words, LUENBERGER, told, f"{left:.1e}, {errors[-2]:.1e}", holds))
    bowl = spread()
    errors = bowl.errors(bowl.path(method, torch.zeros(N, dtype=torch.float64), N))
    over = max(e / b for e, b in zip(errors, bound(), strict=True))
    words = "error over 2 ((sqrt kappa - 1)/(sqrt kappa + 1))^t, the largest of all steps"
    claims.append(Claim(words, LUENBERGER, "at most 1", round(over, 3), over <= 1))
    return [*claims, rounded(method)]


def rounded(method: Method = ConjugateGradient) -> Claim:
    """Where rounding takes conjugacy away before the n-th step."""
    bowl = Quadratic(torch.logspace(0, np.log10(KAPPA), N, dtype=torch.float64))
    path = bowl.path(method, torch.zeros(N, dtype=torch.float64), N)
    left = bowl.errors(path)[-1]
    words = f"{N} curvatures spaced by one ratio: rounding ends conjugacy; error after {N} steps"
    holds = 1e-10 < left < bound()[-1]
    told = f"over 1e-10, below the bound {bound()[-1]:.2g}"
    return Claim(words, PAIGE, told, float(f"{left:.1e}"), holds)


def bound() -> list[float]:
    """The bound of the error by Chebyshev polynomials, after 0, 1 ... N steps."""
    root = KAPPA**0.5
    return [2 * ((root - 1) / (root + 1)) ** t for t in range(N + 1)]


def ravine() -> tuple[Quadratic, Tensor]:
    """Curvatures 1 and 25, and steepest descent's worst start."""
    bowl = Quadratic(torch.tensor([1.0, RAVINE], dtype=torch.float64), turned=False)
    return bowl, bowl.minimum + torch.tensor([RAVINE, 1.0], dtype=torch.float64) / 10


def zigzag(method: Method = ConjugateGradient) -> list[Claim]:
    """From the worst start in the plane: two steps, or for ever."""
    bowl, start = ravine()
    left = bowl.errors(bowl.path(method, start, 2))[-1]
    plain = bowl.path(method, start, 40, forget=True)
    errors = np.array(bowl.errors(plain))
    factor = float((errors[-1] / errors[0]) ** (2 / 40))
    law = ((RAVINE - 1) / (RAVINE + 1)) ** 2
    back = bowl.cosines(plain, torch.eye(2, dtype=torch.float64)).diagonal(2)
    words = f"curvatures 1 and {RAVINE:g}, worst start"
    return [
        Claim(
            f"{words}: error after two steps",
            LUENBERGER,
            "below 1e-12",
            float(f"{left:.1e}"),
            left < 1e-12,
        ),
        near(f"{words}: steepest descent's factor of f a step, mean of 40", AKAIKE, law, factor),
        near(
            f"{words}: cosine of steepest descent's d_t and d_(t-2), least of 38",
            "two directions in turn",
            1.0,
            float(back.min()),
            1e-6,
        ),
    ]


def claims(method: Method = ConjugateGradient) -> list[Claim]:
    """All claims, for conjugate gradients or for what is to be found out as something else."""
    return [*conjugacy(method), *endings(method), *zigzag(method)]


def _run() -> Outcome:
    figures = {"zigzag": _paths(), "errors": _errors(), "cosines": _conjugate()}
    settings = {
        "f": "1/2 (x - 1)' H (x - 1), eigenvectors drawn from seed 0; axes in the plane",
        "curvatures": f"{N} from 1 to {KAPPA:g}, evenly or by one ratio; or {CLUSTERS}",
        "start": "0; in the plane (kappa, 1) / 10 from the minimum",
        "dtype": "float64",
        "optimizer": "thalweg.optim.ConjugateGradient; steepest descent is the same with its "
        "memory dropped before each step",
        "runs": "one each",
    }
    return Outcome(tuple(claims()), figures, settings)


@styled
def _paths() -> Figure:
    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    bowl, start = ravine()
    x, y = np.linspace(0.4, 3.8, 161), np.linspace(0.84, 1.16, 161)
    grid = torch.tensor(np.stack(np.meshgrid(x, y), axis=-1)) - bowl.minimum
    z = 0.5 * ((grid @ bowl.matrix) * grid).sum(-1)
    surface = {"x": x, "y": y, "z": z.tolist(), "minima": [[1.0, 1.0, 0.0]],
               "start": start.tolist()}  # fmt: skip
    for axes, forget, name, title in zip(
        figure.subplots(2, 1),
        (True, False),
        ("sgd", "newton-cg"),
        ("Steepest descent: 20 steps of the zig-zag", "Conjugate gradients: two steps"),
        strict=True,
    ):
        path = bowl.path(ConjugateGradient, start, 20 if forget else 2, forget=forget)
        left = bowl.errors(path)[-1]
        line = f"error left in the norm of H: {left:.2g} (1 at the start)"
        contour(surface, {name: path.tolist()}, ax=axes, title=title, line=line, legend=False)
        axes.set_aspect("auto")
    figure.suptitle(f"Curvatures 1 and {RAVINE:g}, exact searches, from the worst start")
    return figure


@styled
def _errors() -> Figure:
    figure, axes = canvas.axes(None)
    bowl, start = spread(), torch.zeros(N, dtype=torch.float64)
    for forget, label, look in (
        (True, "steepest descent", series("sgd")),
        (False, f"conjugate gradients, {N} distinct curvatures", series("newton-cg")),
    ):
        errors = bowl.errors(bowl.path(ConjugateGradient, start, N, forget=forget))
        axes.plot(errors, marker=look.marker, color=look.colour, label=label, ms=4)
    five = torch.tensor(CLUSTERS, dtype=torch.float64).repeat_interleave(N // len(CLUSTERS))
    few = Quadratic(five)
    errors = few.errors(few.path(ConjugateGradient, start, len(CLUSTERS)))
    look = series("adam")
    label = f"conjugate gradients, {len(CLUSTERS)} distinct curvatures"
    axes.plot(errors, marker=look.marker, color=look.colour, label=label, ms=4)
    axes.plot(bound(), color=tone("muted"), ls=":", label="bound by Chebyshev polynomials")
    axes.set(yscale="log", xlabel="step", ylabel="error in the norm of H, of the first (log)")
    axes.set(xticks=range(0, N + 1, 5), ylim=(1e-17, 5))
    line = f"{N} variables, condition number {KAPPA:g}, float64, one run each"
    canvas.caption(axes, "The minimum after as many steps as there are curvatures", line)
    canvas.legend(axes)
    return figure


@styled
def _conjugate() -> Figure:
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    bowl, start = spread(), torch.zeros(N, dtype=torch.float64)
    shown = None
    for axes, forget, title in zip(
        figure.subplots(1, 2), (True, False), ("Steepest descent", "Conjugate gradients"),
        strict=True,
    ):  # fmt: skip
        found = bowl.cosines(bowl.path(ConjugateGradient, start, 15, forget=forget))
        shown = axes.imshow(found, vmin=-1, vmax=1, cmap="RdBu_r", extent=(0.5, 15.5, 15.5, 0.5))
        axes.set(title=title, xlabel="step", ylabel="step", xticks=(1, 5, 10, 15))
        axes.set(yticks=(1, 5, 10, 15))
        axes.grid(visible=False)
    assert shown is not None
    figure.colorbar(shown, ax=figure.axes, label="cosine in the norm of H", shrink=0.85)
    figure.suptitle(f"Are any two steps conjugate? {N} variables, condition number {KAPPA:g}")
    return figure


EXPERIMENT = Experiment(
    name="cg-conjugacy",
    title="Conjugate gradients: conjugate directions, and at most n steps",
    summary=(
        "Linear conjugate gradients on quadratics of twenty variables and of two: the cosines "
        "between directions in the norm of H, the error after n steps, after as many steps as "
        "there are distinct eigenvalues, and against Chebyshev's bound; beside it the zig-zag of "
        "steepest descent with exact searches."
    ),
    run=_run,
    seconds=3.0,
)
