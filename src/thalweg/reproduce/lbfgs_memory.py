r"""What L-BFGS's memory buys: from 3 pairs to 20, and BFGS, which forgets nothing.

On a quadratic with exact searches every memory gives the steps of conjugate gradients, BFGS
included: nothing is bought. As long as no pair has been dropped, L-BFGS that begins at the first
pair's :math:`\gamma I` is BFGS, step by step. With the inexact searches of practice a longer memory
takes fewer evaluations, at 2 m n numbers of storage against BFGS's n^2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.objective import Objective
from thalweg.optim import BFGS, LBFGS, ConjugateGradient
from thalweg.report.style import styled, tone
from thalweg.reproduce.cg_conjugacy import N, spread
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.fletcher_reeves import generalised_rosenbrock


__all__ = ["EXPERIMENT"]

MEMORIES = (3, 5, 10, 17, 20)
TOLERANCE, MOST = 1e-5, 1500
EXACT = {"decrease": 1e-10, "curvature": 1e-9}
NAZARETH = "Nazareth 1979; Kolda, O'Leary and Nazareth 1998"
TABLE = "Nocedal and Wright 2006, table 7.1"
HERE = "measured here: no published number"

Function = Callable[[Tensor], Tensor]
Method = Callable[..., Any]


# ---- where memory changes nothing -----------------------------------------------------------
def apart(fn: Function, start: Tensor, one: Method, other: Method, steps: int) -> list[float]:
    """How far two methods are apart after 1, 2 ... steps, over the way that one has gone."""
    paths = []
    for make in (one, other):
        point = nn.Parameter(start.clone())
        optimizer, path = make([point]), []
        closure = Objective.of(fn).closure(point)
        for _ in range(steps):
            optimizer.step(closure)
            path.append(point.detach().clone())
        paths.append(torch.stack(path))
    gone = (paths[0] - start).norm(dim=1)
    return ((paths[0] - paths[1]).norm(dim=1) / gone).tolist()


def same_claims(limited: Method = LBFGS) -> list[Claim]:
    """Where L-BFGS is conjugate gradients, and where it is BFGS."""
    bowl, start = spread(), torch.zeros(N, dtype=torch.float64)
    claims = []
    methods: dict[str, Method] = {
        f"L-BFGS, m = {m},": functools.partial(limited, memory=m, **EXACT) for m in (3, 20)
    }
    methods["BFGS"] = functools.partial(BFGS, **EXACT)
    for name, make in methods.items():
        off = max(apart(bowl, start, ConjugateGradient, make, 10))
        words = f"quadratic, exact searches: {name} against conjugate gradients, 10 steps"
        claims.append(_close(words, NAZARETH, off))
    chain = torch.arange(1, 31, dtype=torch.float64) / 31
    law = "derived: the same updates of the same matrix"
    for m in (20, 5):
        make = functools.partial(limited, memory=m, scaling="first")
        away = apart(generalised_rosenbrock, chain, BFGS, make, 15)
        if m == 20:
            words = "chain of valleys, 20 pairs from the first scale: against BFGS, 15 steps"
            claims.append(_close(words, law, max(away)))
            continue
        first = next((k for k, off in enumerate(away, start=1) if off > 1e-6), None)
        words = "the same with 5 pairs: the first step that differs from BFGS's"
        # Step 7 is the first whose matrix holds six pairs.
        claims.append(Claim(words, law, 7, first, first == 7))
    return claims


def _close(words: str, source: str, value: float) -> Claim:
    told = "0 to rounding (1e-06)"
    return Claim(f"{words}: relative distance", source, told, float(f"{value:.1e}"), value < 1e-6)


# ---- where it does --------------------------------------------------------------------------
def tridiagonal(x: Tensor) -> Tensor:
    """A quadratic whose curvatures grow with the place."""
    place = torch.arange(2, len(x) + 1, dtype=x.dtype)
    return (x[0] - 1).square() + (place * (2 * x[1:] - x[:-1]).square()).sum()


def eigenvalues(x: Tensor) -> Tensor:
    """Misfit of Q' D Q from the matrix diag(1, 2 ... k), and of Q' Q from the identity."""
    k = int(((1 + 4 * len(x)) ** 0.5 - 1) / 2)
    d, q = x[:k], x[k:].view(k, k)
    wanted = torch.arange(1, k + 1, dtype=x.dtype).diag()
    eye = torch.eye(k, dtype=x.dtype)
    misfit, skew = (q.T @ d.diag() @ q - wanted).tril(), (q.T @ q - eye).tril()
    return misfit.square().sum() + skew.square().sum()


@final
@dataclass(frozen=True)
class Count:
    """What a run took."""

    steps: int
    evaluations: int
    numbers: int
    ended: bool


def starts() -> dict[str, tuple[Function, Tensor]]:
    """Three functions with their starts."""
    double, k = torch.float64, 10
    return {
        "TRIDIA": (tridiagonal, torch.ones(1000, dtype=double)),
        "EIGENALS": (
            eigenvalues,
            torch.cat([torch.ones(k, dtype=double), torch.eye(k, dtype=double).reshape(-1)]),
        ),
        "GENROS": (generalised_rosenbrock, torch.arange(1, 101, dtype=double) / 101),
    }


def count(fn: Function, start: Tensor, make: Method, most: int = MOST) -> Count:
    """Run until max |g| <= 1e-5 (1 + |f|)."""
    point = nn.Parameter(start.clone())
    optimizer = make([point])
    closure = Objective.of(fn).closure(point)
    ended, steps = False, 0
    while not ended and steps < most:
        value = float(optimizer.step(closure))
        steps += 1
        assert point.grad is not None
        ended = float(point.grad.abs().max()) <= TOLERANCE * (1 + abs(value))
    kept = (value for value in optimizer.memory.values() if isinstance(value, Tensor))
    numbers = sum(value.numel() for value in kept)
    return Count(steps, optimizer.counts.nfev, numbers, ended)


@functools.cache
def counts() -> dict[str, dict[int | None, Count]]:
    """Every run, by function and memory; BFGS's under None."""
    found: dict[str, dict[int | None, Count]] = {}
    for name, (fn, start) in starts().items():
        row: dict[int | None, Count] = {
            m: count(fn, start, functools.partial(LBFGS, memory=m)) for m in MEMORIES
        }
        found[name] = {**row, None: count(fn, start, BFGS)}
    return found


def count_claims(found: dict[str, dict[int | None, Count]]) -> list[Claim]:
    """What the longer memory buys, and what it takes."""
    claims = []
    published = {"TRIDIA": (876, 531), "EIGENALS": (821, 363)}
    for name, (few, many) in published.items():
        row = found[name]
        ratio = row[17].evaluations / row[3].evaluations
        words = f"{name}: evaluations with 17 pairs over 3 ({many} and {few} in the table)"
        holds = ratio < 0.8 and row[17].ended
        claims.append(Claim(words, TABLE, "below 0.8", round(ratio, 2), holds))
    chain = found["GENROS"]
    ratio = chain[20].evaluations / chain[3].evaluations
    words = "GENROS: evaluations with 20 pairs over 3: memory does not help everywhere"
    claims.append(Claim(words, HERE, "0.8 to 1.2", round(ratio, 2), 0.8 <= ratio <= 1.2))
    for name, row in found.items():
        ratio = row[None].steps / row[20].steps
        words = f"{name}: BFGS's steps over those of L-BFGS with 20 pairs"
        claims.append(Claim(words, HERE, "below 1", round(ratio, 2), ratio < 1))
    n = 1000
    kept, whole = found["TRIDIA"][20].numbers, found["TRIDIA"][None].numbers
    words = f"numbers in memory for n = {n:,}, 20 pairs and BFGS (2 m n and n^2)"
    told = f"{2 * 20 * n:,} + O(m^2), {n * n:,}"
    holds = 2 * 20 * n <= kept <= 2 * 20 * n + 4 * 20**2 and whole == n * n
    return [*claims, Claim(words, "Liu and Nocedal 1989", told, f"{kept:,}, {whole:,}", holds)]


def _run() -> Outcome:
    found = counts()
    settings = {
        "optimizers": "thalweg.optim.LBFGS and BFGS at their defaults; c2 = 1e-9 where exact",
        "functions": "TRIDIA n = 1000, EIGENALS n = 110, GENROS n = 100; and the quadratic of "
        "cg-conjugacy",
        "stop": f"max |g| <= {TOLERANCE:g} (1 + |f|)",
        "dtype": "float64",
        "evaluations": {
            name: {str(m or "bfgs"): c.evaluations for m, c in row.items()}
            for name, row in found.items()
        },
    }
    claims = (*same_claims(), *count_claims(found))
    return Outcome(claims, {"memory": _drawn(found)}, settings)


@styled
def _drawn(found: dict[str, dict[int | None, Count]]) -> Figure:
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    panels = zip(figure.subplots(1, 2), ("steps", "evaluations"), strict=True)
    places = list(range(len(MEMORIES) + 1))
    for axes, what in panels:
        for (name, row), (colour, marker) in zip(
            found.items(), (("blue", "o"), ("vermillion", "s"), ("green", "^")), strict=True
        ):
            values = [getattr(row[m], what) for m in (*MEMORIES, None)]
            axes.plot(places[:-1], values[:-1], f"{marker}-", color=tone(colour), label=name)
            axes.plot(places[-2:], values[-2:], ":", color=tone(colour), lw=1.2)
            axes.plot(places[-1], values[-1], marker, color=tone(colour))
        axes.set(xticks=places, xlabel="pairs m that L-BFGS keeps", ylabel=what, ylim=(0, None))
        axes.set_xticklabels([*map(str, MEMORIES), "BFGS"])
    figure.axes[0].legend(loc="upper right")
    figure.suptitle("To max |g| = 1e-5 (1 + |f|): TRIDIA n = 1000, EIGENALS 110, GENROS 100")
    return figure


EXPERIMENT = Experiment(
    name="lbfgs-memory",
    title="L-BFGS: what a longer memory buys",
    summary=(
        "L-BFGS with 3 to 20 pairs beside BFGS on functions of 100 to 1,000 variables: steps, "
        "evaluations and numbers in memory; with exact searches on a quadratic, where any memory "
        "gives the steps of conjugate gradients; and step by step against BFGS until a pair drops."
    ),
    run=_run,
    seconds=30.0,
)
