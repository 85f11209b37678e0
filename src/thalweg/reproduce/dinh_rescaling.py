r"""One function, many sharpnesses: Dinh's rescaling of a ReLU network.

Multiplying the first layer by :math:`\alpha` and dividing the second by it leaves the network's
function alone. The Hessian's blocks change by powers of :math:`\alpha`: the block of the second
weight grows with :math:`\alpha^2`, and with it, for large :math:`\alpha`, the largest eigenvalue
and the trace. What is measured relative to the weights' own size stays.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import Hessian
from thalweg.landscape import Line, keskar, line, plane, rescaled, sharpness
from thalweg.objective import Closure, Objective
from thalweg.problems.digits import digits_data
from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.fits import exponent


__all__ = ["EXPERIMENT"]

FACTORS = (0.1, 0.5, 1.0, 2.0, 10.0)
LARGE = (100.0, 300.0, 1000.0)
DINH = "Dinh, Pascanu, Bengio and Bengio, 2017, section 4"
LI = "Li, Xu, Taylor, Studer and Goldstein, 2018, section 4"
KWON = "Kwon, Kim, Park and Choi, 2021, theorem 1"
EXACT = 1e-8  # eight digits


@final
class _Measured:
    """All measures at one rescaling."""

    def __init__(self, closure: Closure) -> None:
        values = torch.linalg.eigvalsh(Hessian(closure).to_dense())
        self.loss = float(closure.value())
        self.numbers = {
            "largest eigenvalue": float(values[-1]),
            "trace": float(values.sum()),
            "SAM sharpness, ρ = 0.05": sharpness(closure, 0.05),
            "Keskar's sharpness, %": keskar(closure),
            "ASAM, element-wise, ρ = 0.5": sharpness(closure, 0.5, adaptive="element"),
            "ASAM, filter-wise, ρ = 0.5": sharpness(closure, 0.5, adaptive="filter"),
        }
        self.surface = plane(closure, resolution=5, evaluation="in-place", progress=False).loss
        options: dict[str, Any] = {"resolution": 41, "evaluation": "in-place", "progress": False}
        self.raw = line(closure, "unit", span=1.5, **options)
        self.normalised = line(closure, "filter", span=1.0, **options)


def _trained() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A perceptron 64-8-10 in float64, after 300 steps of Adam on 512 digits."""
    inputs, targets = digits_data().train
    x, y = torch.as_tensor(inputs)[:512].double(), torch.as_tensor(targets)[:512]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, x, y


def _run() -> Outcome:
    model, x, y = _trained()

    def closure(factor: float) -> Closure:
        other = rescaled(model, "0", "2", factor, inputs=x)
        return Objective(other, F.cross_entropy).closure(x, y)

    found = {factor: _Measured(closure(factor)) for factor in FACTORS}
    ends = [torch.linalg.eigvalsh(Hessian(closure(f)).to_dense()) for f in LARGE]
    claims = (
        _same("the loss is the same: largest relative change", DINH, [m.loss for m in _all(found)]),
        *_moving(found, ends),
        _same(
            "the filter-normalised plane is the same: largest relative change at 25 points",
            LI,
            [m.surface for m in _all(found)],
        ),
        *(
            _same(f"{name}: largest relative change", KWON, [m.numbers[name] for m in _all(found)])
            for name in list(found[1.0].numbers)[4:]
        ),
    )
    figures = {"measures": _measures(found), "lines": _lines(found)}
    settings = {
        "model": "64-8-10, ReLU, float64, Adam for 300 steps on 512 digits",
        "factors": list(FACTORS),
        "large factors": list(LARGE),
        "loss": found[1.0].loss,
        "numbers": {str(f): m.numbers for f, m in found.items()},
    }
    return Outcome(claims, figures, settings)


def _all(found: dict[float, _Measured]) -> list[_Measured]:
    return list(found.values())


def _same(claim: str, source: str, values: list[Any]) -> Claim:
    stacked = np.array(values)
    off = float(np.max(np.abs(stacked / stacked[FACTORS.index(1.0)] - 1.0)))
    return Claim(claim, source, f"under {EXACT:g}", off, off < EXACT)


def _moving(found: dict[float, _Measured], ends: list[torch.Tensor]) -> list[Claim]:
    """What moves, and how fast."""
    claims = []
    for name in list(found[1.0].numbers)[:4]:
        values = [m.numbers[name] for m in _all(found)]
        ratio = max(values) / min(values)
        words = f"{name}: largest over smallest for α from 0.1 to 10"
        claims.append(Claim(words, DINH, "over 2", round(ratio, 2), ratio > 2.0))
    powers = {
        "largest eigenvalue": exponent(LARGE, [float(v[-1]) for v in ends]),
        "trace": exponent(LARGE, [float(v.sum()) for v in ends]),
    }
    for name, power in powers.items():
        words = f"{name}: its power of α for α from {LARGE[0]:g} to {LARGE[-1]:g}"
        source = "the second weight's block of the Hessian is α² times that at α = 1"
        claims.append(Claim(words, source, 2.0, round(power, 4), abs(power - 2.0) < 0.01))
    return claims


@styled
def _measures(found: dict[float, _Measured]) -> Figure:
    """Each measure relative to its value at α = 1."""
    figure, axes = canvas.axes(None)
    tones = ("vermillion", "orange", "purple", "wine", "blue", "green")
    dashes = ("-", "--", "-.", ":", "-", "--")
    plain = found[1.0].numbers
    for name, colour, dash in zip(plain, tones, dashes, strict=True):
        values = [found[f].numbers[name] / plain[name] for f in FACTORS]
        axes.plot(FACTORS, values, color=tone(colour), ls=dash, marker="o", ms=4, label=name)
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="α (log): first layer times α, second divided by it")
    axes.set(ylabel="measure over its value at α = 1 (log)")
    line_ = "perceptron 64-8-10 with ReLU on 512 digits; the loss is the same to 1e-8 throughout"
    canvas.caption(axes, "One function, many sharpnesses", line_)
    canvas.legend(axes)
    return figure


@styled
def _lines(found: dict[float, _Measured]) -> Figure:
    """The same network along a raw and along a filter-normalised direction."""
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    tones = ("blue", "green", "black", "orange", "vermillion")
    dashes = ("-", "--", "-", "-.", ":")
    panels: list[tuple[Any, str, str, str]] = [
        (
            left,
            "raw",
            "A raw random direction",
            "distance, along a direction of length 1",
        ),
        (right, "normalised", "Filter-normalised", "share of each unit's weights"),
    ]
    for axes, kind, title, label in panels:
        for factor, colour, dash in zip(FACTORS, tones, dashes, strict=True):
            shown: Line = getattr(found[factor], kind)
            axes.plot(shown.t, shown.loss, color=tone(colour), ls=dash, label=f"α = {factor:g}")
        axes.set(yscale="log", xlabel=label, ylabel="training loss (log)")
        axes.set_title(title)
    left.legend()
    right.annotate(
        "five curves, one over the other", (0.5, 0.92), xycoords="axes fraction", ha="center"
    )
    figure.suptitle("The same function at five scales of its weights, along one seed's direction")
    return figure


EXPERIMENT = Experiment(
    name="dinh-rescaling",
    title="Dinh's rescaling: one function, many sharpnesses",
    summary=(
        "The first layer of a ReLU network is multiplied by a factor and the second divided by it. "
        "The function stays, while the Hessian's largest eigenvalue and trace, SAM's and Keskar's "
        "sharpness move by orders of magnitude; filter-normalised surfaces and adaptive sharpness "
        "stay to eight digits."
    ),
    run=_run,
    seconds=20.0,
)
