"""Nudged elastic bands: with a fixed number of images, and with images where they are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Final, final

import torch
from torch import Tensor

from thalweg.errors import FRACTION, NON_NEGATIVE, POSITIVE, bad_argument, integer_from
from thalweg.landscape.band_relaxation import Band, Pull, relax
from thalweg.landscape.bands import new_places, on_polyline
from thalweg.landscape.sessions import Session
from thalweg.landscape.shapes import Route
from thalweg.landscape.terrain import Terrain


__all__ = ["AutoNEB", "NudgedElasticBand"]

_INNER: Final = 9  # places looked at within a segment, as Draxler et al. do
# Draxler et al.'s cycles (steps, rate) for CIFAR-10, with a tenth of their steps.
_CYCLES: Final = ((100, 0.1),) * 4 + ((200, 0.1),) * 2 + ((100, 0.01),) * 4 + ((100, 0.001),) * 4


@final
@dataclass(frozen=True)
class NudgedElasticBand:
    r"""A band of images between two minima, relaxed to a path of lowest loss.

    Each image is moved by the slope across the band (:mod:`thalweg.landscape.bands`), and images
    are kept apart along it. The images stay where no force acts across the band: on a path that
    everywhere follows the gradient, whose highest point is a saddle.

    Args:
        images: Images between the ends, at least 1; default 9.
        steps: The most steps; default 1000.
        lr: Rate of descent by batches, > 0; default 0.1, the first of Draxler et al. All data at
            once are relaxed by FIRE, which finds its own time step.
        momentum: Of descent by batches, in [0, 1); default 0.9, as theirs.
        spring: The springs' constant k, > 0. Infinite (the default, as theirs): images are spaced
            evenly again after each step, and there is nothing to choose.
        climb: Whether the highest image climbs to the saddle itself. None: if all data are used
            at once.
        tolerance: Where it ends: the largest force times the mean gap, relative to the range of
            the losses, >= 0; default 1e-4.
        weight_decay: c of an added :math:`c\|R\|^2 / 2` while it is relaxed, >= 0; default 0.
        minibatch: One batch a step. None: where the loss is over several.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.landscape import connect
        >>> def ring(x):  # two wells on a circle, a hill between them, saddles of height 1/11
        ...     return (x.norm() - 1) ** 2 + 0.1 * x[1] ** 2
        >>> a, b = torch.tensor([1.0, 0.1]).double(), torch.tensor([-1.0, 0.1]).double()
        >>> found = connect(ring, a, b, NudgedElasticBand(images=7))
        >>> round(found.saddle.loss, 4), round(float(found.straight.loss.max()), 4)
        (0.0909, 0.811)

    References:
        Henkelman and Jonsson, Improved tangent estimate in the nudged elastic band method for
        finding minimum energy paths and saddle points, 2000.
    """

    images: int = 9
    steps: int = 1000
    lr: float = 0.1
    momentum: float = 0.9
    spring: float = math.inf
    climb: bool | None = None
    tolerance: float = 1e-4
    weight_decay: float = 0.0
    minibatch: bool | None = None

    def __post_init__(self) -> None:
        where = type(self).__name__
        integer_from(1).check(where, "images", self.images)
        integer_from(1).check(where, "steps", self.steps)
        POSITIVE.check(where, "lr", self.lr)
        FRACTION.check(where, "momentum", self.momentum)
        NON_NEGATIVE.check(where, "tolerance", self.tolerance)
        NON_NEGATIVE.check(where, "weight_decay", self.weight_decay)
        if not self.spring > 0:
            raise bad_argument(where, "spring", self.spring, "a number in (0, inf]")

    @property
    def total(self) -> int:
        """The most steps."""
        return self.steps

    def run(self, terrain: Terrain, ends: tuple[Tensor, Tensor], seed: int, s: Session) -> Route:
        """Find the path, or go on with it."""
        pull = _pull(self, terrain, seed)
        start = Band.straight(*ends, self.images)
        band = relax(terrain, start, pull, s.tick, s.state or None)
        return Route(band.points, band.fractions, band.converged, band.steps, band.summit)


@final
@dataclass(frozen=True)
class AutoNEB:
    r"""A band that is given more images where it misses something.

    Cycles of relaxation, each followed by a dense look: where the loss between two images lies
    above the line through theirs by more than ``threshold`` of the range of the whole band, an
    image is put in, and the images keep the spacing that this gives. It ends after the last cycle,
    or, on all data at once, when nothing is missing and the band has settled.

    Args:
        images: Images between the ends in the first cycle, at least 1; default 3.
        cycles: The (most steps, rate) of each cycle; default: 14 cycles of the shape that Draxler
            et al. give for CIFAR-10, with a tenth of their steps.
        threshold: The score above which an image is missing, in [0, 1); default 0.1, theirs.
        insert: The most images that a cycle puts in, at least 1; default 5.
        momentum: Of descent by batches, in [0, 1); default 0.9, theirs.
        climb: As for :class:`NudgedElasticBand`, in the last cycle.
        tolerance: As for :class:`NudgedElasticBand`.
        weight_decay: c of an added :math:`c\|R\|^2 / 2` while it is relaxed; default 0; theirs is
            1e-4.
        minibatch: One batch a step. None: where the loss is over several.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> AutoNEB(cycles=((50, 0.1), (50, 0.01))).total
        100

    References:
        Draxler, Veschgini, Salmhofer and Hamprecht, Essentially no barriers in neural network
        energy landscape, 2018.
        Kolsbjerg, Groves and Hammer, An automated nudged elastic band method, 2016.
    """

    images: int = 3
    cycles: tuple[tuple[int, float], ...] = _CYCLES
    threshold: float = 0.1
    insert: int = 5
    momentum: float = 0.9
    climb: bool | None = None
    tolerance: float = 1e-4
    weight_decay: float = 0.0
    minibatch: bool | None = None

    def __post_init__(self) -> None:
        where = type(self).__name__
        integer_from(1).check(where, "images", self.images)
        integer_from(1).check(where, "insert", self.insert)
        FRACTION.check(where, "threshold", self.threshold)
        FRACTION.check(where, "momentum", self.momentum)
        NON_NEGATIVE.check(where, "tolerance", self.tolerance)
        NON_NEGATIVE.check(where, "weight_decay", self.weight_decay)
        if not self.cycles:
            raise bad_argument(where, "cycles", self.cycles, "at least one (steps, rate)")
        for steps, lr in self.cycles:
            integer_from(1).check(where, "cycles", steps)
            POSITIVE.check(where, "cycles", lr)

    @property
    def total(self) -> int:
        """The most steps."""
        return sum(steps for steps, _ in self.cycles)

    def run(self, terrain: Terrain, ends: tuple[Tensor, Tensor], seed: int, s: Session) -> Route:
        """Find the path, or go on with it."""
        base = _pull(self, terrain, seed)
        band, cycle, inner = Band.straight(*ends, self.images), 0, None
        if s.state:
            cycle, inner = s.state["cycle"], s.state["relax"]
            band = Band(**s.state["band"])
        while cycle < len(self.cycles):
            last = cycle + 1 == len(self.cycles)
            steps, lr = self.cycles[cycle]
            pull = replace(base, steps=steps, lr=lr, seed=seed + cycle, climb=base.climb and last)
            outer = {"cycle": cycle, **_as_dict(band)}

            def save(state: dict[str, Any], outer: dict[str, Any] = outer) -> None:
                s.tick(outer | {"relax": state})

            band = relax(terrain, band, pull, save, inner)
            cycle, inner = cycle + 1, None
            if not last:
                band, complete = self._refined(terrain, band)
                if complete and band.converged:  # what is left is to climb
                    cycle = len(self.cycles) - 1
            s.tick({"cycle": cycle, **_as_dict(band), "relax": None}, 0)
        return Route(band.points, band.fractions, band.converged, band.steps, band.summit)

    def _refined(self, terrain: Terrain, band: Band) -> tuple[Band, bool]:
        """The band with an image in each place where one is missing, and whether none was."""
        knots = band.fractions
        inner = torch.arange(1, _INNER + 1, dtype=torch.float64, device=knots.device) / (_INNER + 1)
        t = torch.lerp(knots[:-1, None], knots[1:, None], inner[None]).flatten()

        def losses(points: Tensor) -> Tensor:
            return knots.new_tensor([terrain.look(point)["loss"] for point in points])

        between = torch.cat([losses(on_polyline(band.points, knots, part)) for part in t.split(9)])
        between = between.view(len(knots) - 1, _INNER)
        places = new_places(knots, inner, losses(band.points), between, self.threshold, self.insert)
        if not len(places):
            return band, True
        every, order = torch.cat([knots, places]).sort()
        points = torch.cat([band.points, on_polyline(band.points, knots, places)])[order]
        return replace(band, points=points, fractions=every), False


def _as_dict(band: Band) -> dict[str, Any]:
    return {"band": {field.name: getattr(band, field.name) for field in fields(band)}}


def _pull(method: NudgedElasticBand | AutoNEB, terrain: Terrain, seed: int) -> Pull:
    several = len(terrain.closure.batches) > 1
    minibatch = several if method.minibatch is None else method.minibatch
    climb = not minibatch if method.climb is None else method.climb
    pull = Pull(
        1, 0.1, method.momentum, math.inf, climb, method.tolerance, method.weight_decay, minibatch
    )
    pull = replace(pull, seed=seed)
    if isinstance(method, NudgedElasticBand):
        pull = replace(pull, steps=method.steps, lr=method.lr, spring=method.spring)
    return pull
