r"""A path on a plane is a projection: how much of the path, and of its losses, the plane shows.

The principal plane of a training run explains most of its variance, and so does that of a random
walk. What the plane leaves out is measured: the share of each point that lies outside, and the
loss of the surface under a point beside the loss at the point itself.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from thalweg.landscape import (
    Axes,
    PlanePath,
    Surface,
    Trajectory,
    pca_axes,
    plane,
    random_axes,
)
from thalweg.objective import Closure, Objective
from thalweg.optim import SGD, Adam
from thalweg.problems.digits import digits_data
from thalweg.report import landscapes
from thalweg.reproduce.claims import Claim, Experiment, Outcome


__all__ = ["EXPERIMENT"]

STEPS, WALK_STEPS, WALK_SIZE = 200, 300, 20_000
WALKS = "Antognini and Sohl-Dickstein, 2018"
LI = "Li, Xu, Taylor, Studer and Goldstein, 2018, section 7"
HERE = "measured here: no published number"
COLLECTED = "a reader's question to the authors' scripts: loss 0.9 on a very different contour"


@final
@dataclass(frozen=True)
class _Run:
    """A training run on the plane of its principal directions."""

    axes: Axes
    surface: Surface
    under: np.ndarray

    @property
    def path(self) -> PlanePath:
        """The path."""
        return self.surface.paths[0]


def _train(name: str) -> tuple[Closure, Trajectory]:
    """A perceptron 64-32-10 on 1,024 digits, in batches of 32."""
    inputs, targets = digits_data().train
    x, y = torch.as_tensor(inputs)[:1024].float(), torch.as_tensor(targets)[:1024]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    objective = Objective(model, F.cross_entropy)
    params = list(model.parameters())
    optimizer = SGD(params, lr=0.3) if name == "sgd" else Adam(params, lr=0.005)
    generator = torch.Generator().manual_seed(0)
    with Trajectory(optimizer, every=4, params=model) as trajectory:
        for _ in range(STEPS):
            rows = torch.randint(len(x), (32,), generator=generator)
            optimizer.step(objective.closure(x[rows], y[rows]))
    return objective.closure(x, y), trajectory


def _look(name: str) -> _Run:
    closure, trajectory = _train(name)
    axes = pca_axes(closure, trajectory)
    surface = plane(
        closure, axes, resolution=41, paths={name: trajectory}, evaluation="auto", progress=False
    )
    xy = surface.paths[0].xy
    under = np.array([float(closure.value(axes.at(float(a), float(b)))) for a, b in xy])
    return _Run(axes, surface, under)


def _walk() -> dict[str, list[float]]:
    """The shares that a random walk's principal directions explain."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(WALK_STEPS, WALK_SIZE, generator=generator)
    points = list(steps.cumsum(0))
    x = torch.zeros(WALK_SIZE, requires_grad=True)
    closure = Objective.of(lambda x: x.sum()).closure(x)
    return {
        centre: pca_axes(closure, points, centre=centre).meta["explained_variance"]
        for centre in ("mean", "final")
    }


def _run() -> Outcome:
    walk = _walk()
    runs = {name: _look(name) for name in ("sgd", "adam")}
    claims = [*_of_walk(walk)]
    for name, run in runs.items():
        claims += _of_run({"sgd": "SGD", "adam": "Adam"}[name], run)
    claims.append(_random_plane())
    figures: dict[str, Figure] = {
        name: landscapes.plane(run.surface, title=_title(name, run)) for name, run in runs.items()
    }
    settings = {
        "model": "64-32-10 with ReLU, 1,024 digits, batches of 32, 200 steps, every fourth kept",
        "rates": {"sgd": 0.3, "adam": 0.005},
        "explained": {n: copy.copy(r.axes.meta["explained_variance"]) for n, r in runs.items()},
        "walk": walk,
    }
    return Outcome(tuple(claims), figures, settings)


def _title(name: str, run: _Run) -> str:
    share = sum(run.axes.meta["explained_variance"][:2])
    word = {"sgd": "SGD", "adam": "Adam"}[name]
    return f"{word} in its principal plane: {share:.0%} of its variance"


def _of_walk(walk: dict[str, list[float]]) -> list[Claim]:
    claims = []
    laws = {"mean": (0.608, 0.152), "final": (0.811, 0.090)}
    for centre, law in laws.items():
        for k, expected in enumerate(law):
            found = walk[centre][k]
            words = f"a random walk: share of component {k + 1}, measured from the {centre} point"
            holds = abs(found - expected) < 0.03
            claims.append(Claim(words, WALKS, expected, round(found, 3), holds))
    return claims


def _of_run(name: str, run: _Run) -> list[Claim]:
    shares = run.axes.meta["explained_variance"]
    walk = run.axes.meta["random_walk_variance"]
    two, by_chance = sum(shares[:2]), sum(walk[:2])
    off = np.abs(np.log(run.under / run.path.loss))[:-1]
    worst = int(off.argmax())
    residual = float(np.median(run.path.residual[1:-1]))
    seen, true = run.under[worst], run.path.loss[worst]
    return [
        Claim(
            f"{name}: two components explain 40 to 90 % of its variance, or more",
            LI,
            "over 0.4",
            round(two, 3),
            two > 0.4,
        ),
        Claim(
            f"{name}: a random walk of as many steps comes within 15 points of that",
            WALKS,
            f"over {two - 0.15:.2f}",
            round(by_chance, 3),
            by_chance > two - 0.15,
        ),
        Claim(
            f"{name}: share of a point that is out of the plane, median over the path",
            HERE,
            "over 0.1",
            round(residual, 3),
            residual > 0.1,
        ),
        Claim(
            f"{name}: loss under the path over the loss on it, where they differ most",
            COLLECTED,
            "1.1 or more, or its inverse",
            f"{seen / true:.2f} (step {int(run.path.steps[worst])}: {seen:.3g}, not {true:.3g})",
            bool(off[worst] > np.log(1.1)),
        ),
    ]


def _random_plane() -> Claim:
    """How much of a path a random plane holds."""
    closure, trajectory = _train("sgd")
    axes = random_axes(closure, "unit", biases="random")
    points = trajectory.matrix().double()
    away = points - points[-1]
    xy, _ = Axes(axes.centre, axes.directions, axes.labels).project(list(points))
    d = [torch.cat([part.reshape(-1).double() for part in v]) for v in axes.directions]
    inside = sum((float(a) * d[0] + float(b) * d[1]).square().sum() for a, b in xy)
    share = float(inside / away.square().sum())
    n = points.shape[1]
    words = f"a random plane in {n:,} dimensions holds next to nothing of SGD's path"
    return Claim(words, LI, "under 0.01", round(share, 5), share < 0.01)


EXPERIMENT = Experiment(
    name="projection-is-not-the-path",
    title="A path on a plane is a projection",
    summary=(
        "Training runs of SGD and Adam in the plane of their principal directions, with the share "
        "of variance that a random walk would show there, the part of each point that is out of "
        "the plane, and the loss under the path beside the loss on it."
    ),
    run=_run,
    seconds=15.0,
)
