r"""Runs of three methods on the autoencoder of curves: settings, trials, the time of a step.

A run is as long as a fixed processor time: its number of steps was set for each batch size by what
a step took (``STEPS``), so that runs give the same losses on any machine. Seconds are then steps
times the time of a step, measured with the three methods taking turns.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.objective import Objective
from thalweg.optim import KFAC, SGD, Adam, KFACOptions, Range
from thalweg.problems.curves import curves
from thalweg.problems.streams import generator, minibatches
from thalweg.study.space import point


__all__ = [
    "INTERVALS",
    "NAMES",
    "SEEDS",
    "SEEN",
    "SHARE",
    "SPACES",
    "STEPS",
    "TRIALS",
    "Run",
    "Setting",
    "best",
    "images",
    "run",
    "seconds",
    "trial",
    "tuned",
]

# Batch size to steps: about what the processor time of 1,000 steps of Adam at 50 buys.
STEPS = {
    "momentum": {50: 1100, 100: 740, 200: 450, 500: 205},
    "adam": {50: 1000, 100: 700, 200: 420, 500: 200},
    "kfac": {125: 215, 250: 150, 500: 98},
}
NAMES = {"momentum": "SGD with momentum", "adam": "Adam", "kfac": "K-FAC"}
EVEN = Range(0.0, 1.0, log=False)
SPACES = {
    "momentum": {"batch": EVEN, "lr": Range(1e-3, 0.1), "slack": Range(0.01, 0.2)},
    "adam": {"batch": EVEN, "lr": Range(1e-3, 0.03)},
    "kfac": {"batch": EVEN, "damping": Range(1e-4, 0.1)},
}
TRIALS, TUNING, SEEDS, LOOKS = 8, 0, (1, 2, 3, 4, 5), 20
SEEN = 2_000  # training images on which the loss is measured
INTERVALS, SHARE = (5, 20), 0.25
# The loss at the end of each trial, as `trial` finds it: 24 runs, which are not made again here.
FOUND = {
    "momentum": (27.228, 27.276, 27.245, 27.207, 27.816, 27.251, 18.143, 27.257),
    "adam": (10.819, 21.165, 10.281, 13.796, 8.063, 14.306, 19.27, 7.802),
    "kfac": (5.449, 6.4, 6.022, 5.6, 6.238, 6.441, 6.448, 6.049),
}
ROUNDS, TURN = 6, 20


@final
@dataclass(frozen=True)
class Setting:
    """A method with its hyper-parameters."""

    method: str
    batch: int
    values: tuple[tuple[str, float], ...]

    @property
    def words(self) -> str:
        """As a reader wants them."""
        pairs = [f"{name} {value:.2g}" for name, value in self.values]
        return f"{NAMES[self.method]}, batches of {self.batch}, {', '.join(pairs)}"

    def make(self, model: nn.Module) -> Any:
        """The optimizer."""
        of = dict(self.values)
        if self.method == "adam":
            return Adam(model.parameters(), lr=of["lr"])
        if self.method == "momentum":
            return SGD(model.parameters(), of["lr"], momentum=of["momentum"], nesterov=True)
        options = KFACOptions(
            quadratic_model=True, adaptive_damping=True, share=SHARE, constraint=0.0
        )
        return KFAC(model, damping=of["damping"], intervals=INTERVALS, options=options)


@final
@dataclass(frozen=True)
class Run:
    """The steps at which the loss was measured, and the losses."""

    steps: np.ndarray
    losses: np.ndarray

    def reaches(self, mark: float) -> float:
        """The step at which the loss is at the mark, between looks by its logarithm; or never."""
        under = np.flatnonzero(self.losses <= mark)
        if not len(under):
            return math.inf
        i = int(under[0])
        if i == 0:
            return float(self.steps[0])
        (a, b), (s, t) = np.log(self.losses[i - 1 : i + 1]), self.steps[i - 1 : i + 1]
        return float(s + (t - s) * (math.log(mark) - a) / (b - a))

    def at(self, step: float) -> float:
        """The loss at a step, between looks by its logarithm; after the last look the last."""
        return float(np.exp(np.interp(step, self.steps, np.log(self.losses))))


def setting(method: str, index: int) -> Setting:
    """Trial ``index`` of a method: a point of its scrambled Sobol sequence."""
    found = point(SPACES[method], index, TUNING, method)
    sizes = list(STEPS[method])
    batch = sizes[min(int(found.pop("batch") * len(sizes)), len(sizes) - 1)]
    if "slack" in found:
        found["momentum"] = 1.0 - found.pop("slack")
    return Setting(method, batch, tuple(found.items()))


@functools.cache
def images() -> Tensor:
    """Those on which the loss is measured."""
    data = curves().data
    assert data is not None
    return data.train[0][:SEEN]


@functools.cache
def entropy() -> float:
    """What no model gets below: the cross-entropy of the pixels with themselves."""
    x = images()
    return float(F.binary_cross_entropy(x, x, reduction="sum") / len(x))


def batches(size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The training images in a fresh order each epoch, for ever."""
    data = curves().data
    assert data is not None
    return minibatches(*data.train, size, generator(seed, "order"))


@functools.cache
def run(chosen: Setting, seed: int, looks: int = LOOKS) -> tuple[Run, nn.Module]:
    """A run of the method's length, and the network it ends with."""
    problem, steps = curves(), STEPS[chosen.method][chosen.batch]
    model = problem.build(seed)
    optimizer, objective = chosen.make(model), problem.objective(model)
    early = {2**k for k in range(12) if 2**k < steps / looks}  # most is lost in the first steps
    marks = sorted({round(k * steps / looks) for k in range(looks + 1)} | early)
    losses = []
    source = batches(chosen.batch, seed)
    for step in range(steps + 1):
        if step in marks:
            losses.append(excess(objective))
            if not math.isfinite(losses[-1]):
                break
        if step < steps:
            optimizer.step(objective.closure(*next(source)))
    losses += [math.inf] * (len(marks) - len(losses))
    return Run(np.array(marks), np.array(losses)), model


def excess(objective: Objective) -> float:
    """The training loss less the images' own entropy."""
    return float(objective.closure(images(), images()).value()) - entropy()


def trial(method: str, index: int) -> float:
    """The loss at the end of a trial; infinite where it fails."""
    try:
        return float(run(setting(method, index), TUNING)[0].losses[-1])
    except RuntimeError:  # the loss was not finite
        return math.inf


def tuned(method: str) -> list[tuple[Setting, float]]:
    """The trials on record, each with the loss at its end."""
    return [(setting(method, index), loss) for index, loss in enumerate(FOUND[method])]


@functools.cache
def best(method: str) -> Setting:
    """The setting of the trial with the least loss."""
    return min(tuned(method), key=lambda pair: pair[1])[0]


@functools.cache
def seconds() -> dict[str, np.ndarray]:
    """Processor seconds of a step, a number each round; the three take turns."""
    turns = {method: _taker(best(method)) for method in NAMES}
    rounds: dict[str, list[float]] = {method: [] for method in NAMES}
    for _ in range(ROUNDS):
        for method, turn in turns.items():
            began = time.thread_time()
            turn(TURN)
            rounds[method].append((time.thread_time() - began) / TURN)
    return {method: np.array(row) for method, row in rounds.items()}


def _taker(chosen: Setting) -> Callable[[int], None]:
    """Takes steps of a run, after the first ones, in which inverses are renewed more often."""
    problem = curves()
    model = problem.build(TUNING)
    optimizer, objective = chosen.make(model), problem.objective(model)
    source = batches(chosen.batch, TUNING)

    def take(count: int) -> None:
        for _ in range(count):
            optimizer.step(objective.closure(*next(source)))

    take(INTERVALS[1])
    return take
