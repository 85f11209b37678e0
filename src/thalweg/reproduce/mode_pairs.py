"""Pairs of networks trained on the digits from different seeds, and ways from one to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import torch
from torch import nn

from thalweg.landscape import (
    AutoNEB,
    Connection,
    Curve,
    Interpolation,
    Surface,
    align,
    axes_through,
    connect,
    interpolate,
    plane,
)
from thalweg.reproduce.digit_networks import closure, layers, train


__all__ = ["METHODS", "Pair", "PairsOfWidth", "across", "between", "networks", "through"]

RATE, DECAY = 0.1, 5e-4
POINTS = 31

METHODS: Final[dict[str, AutoNEB | Curve]] = {
    "AutoNEB": AutoNEB(cycles=((30, 0.1),) * 3 + ((60, 0.1),) * 2, weight_decay=DECAY),
    "Bezier curve": Curve("bezier", steps=800, lr=0.2, weight_decay=DECAY),
    "polygon": Curve("polygon", steps=800, lr=0.2, weight_decay=DECAY),
}


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """Two networks, and what lies between them.

    Args:
        ends: The networks.
        straight: Along the straight line.
        paths: Along the found ones, by method.
    """

    ends: tuple[nn.Module, nn.Module]
    straight: Interpolation
    paths: Mapping[str, Connection]

    def remainder(self, method: str) -> float:
        """The barrier on a path, over that on the straight line."""
        return self.paths[method].barrier() / self.straight.barrier()

    def extra_error(self, method: str) -> float:
        """How far the test error rises over the worse end, in percentage points."""
        error = self.paths[method].metrics["test_error"]
        return 100.0 * float(error.max() - max(error[0], error[-1]))


@final
@dataclass(frozen=True, eq=False)
class PairsOfWidth:
    """Barriers on the straight line, before and after the second of a pair was renumbered.

    Args:
        width: Units in each hidden layer.
        before: (pairs,) as trained.
        after: (pairs,) renumbered.
    """

    width: int
    before: list[float]
    after: list[float]


def networks(width: int, count: int, steps: int) -> list[nn.Module]:
    """Perceptrons with two hidden layers, each from a seed of its own."""
    build = partial(layers, 64, width, width, 10)
    descend = partial(torch.optim.SGD, lr=RATE, momentum=0.9, weight_decay=DECAY)
    return [train(build, descend, steps, seed).model for seed in range(count)]


def between(a: nn.Module, b: nn.Module, methods: Mapping[str, AutoNEB | Curve] = METHODS) -> Pair:
    """All ways from one network to another."""
    look: dict[str, Any] = {"also": {"test": closure(a, "test")}, "metrics": ["error"]}
    straight = interpolate(closure(a), a, b, POINTS, **look)
    paths = {
        name: connect(closure(a), a, b, method, points=POINTS, **look)
        for name, method in methods.items()
    }
    return Pair((a, b), straight, paths)


def across(width: int, found: Sequence[nn.Module]) -> PairsOfWidth:
    """The straight lines between networks two by two, and between them renumbered."""
    before, after = [], []
    for a, b in zip(found[::2], found[1::2], strict=True):
        for barriers, other in ((before, b), (after, align(a, b).model)):
            barriers.append(interpolate(closure(a), a, other).barrier())
    return PairsOfWidth(width, before, after)


def through(pair: Pair, curve: str, resolution: int) -> Surface:
    """The plane of a curve with one bend, which lies in it whole, and the straight line."""
    found = pair.paths[curve]
    first, bend, last = found.route.anchors
    here = closure(pair.ends[0])
    axes = axes_through(here, first, last, bend, labels=("one solution", "the other", "the bend"))
    ways = {
        "straight line": [first.lerp(last, t) for t in pair.straight.t],
        curve: [found.at(float(t)) for t in found.t],
    }
    return plane(here, axes, resolution=resolution, paths=ways, progress=False)
