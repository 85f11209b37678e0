r"""Curves of low loss with a few bends, fitted in expectation (Garipov et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import (
    FRACTION,
    NON_NEGATIVE,
    POSITIVE,
    NonFiniteError,
    integer_from,
    one_of,
)
from thalweg.landscape.band_movers import HeavyBall
from thalweg.landscape.band_relaxation import Band, batch_at
from thalweg.landscape.sessions import Session
from thalweg.landscape.shapes import Route
from thalweg.landscape.terrain import Terrain


__all__ = ["Curve"]


@final
@dataclass(frozen=True)
class Curve:
    r"""The bends between two fixed ends that make the mean loss over a curve small.

    .. math:: \min_{w_1, \dots, w_{m-2}} \mathbb E_{t \sim U[0, 1]} L(\phi_w(t))

    with one t and one batch a step, by descent with momentum. The curve starts straight. The rate
    is constant for half of the steps, falls linearly to a hundredth until nine tenths, and stays.

    Args:
        kind: ``"bezier"`` or ``"polygon"`` (straight pieces between the bends).
        bends: The bends m, the ends included, at least 3; default 3, as published.
        steps: Steps; default 1000.
        lr: The first rate, > 0; default 0.1.
        momentum: In [0, 1); default 0.9, as published.
        weight_decay: c of an added :math:`c\|\phi\|^2 / 2` at each step's point, >= 0; default 0;
            published with 5e-4.
        minibatch: One batch a step. None: where the loss is over several.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.landscape import connect
        >>> ring = lambda x: (x.norm() - 1) ** 2
        >>> a, b = torch.tensor([1.0, 0.1]), torch.tensor([-1.0, 0.1])
        >>> found = connect(ring, a, b, Curve(steps=500, lr=0.05))
        >>> bool(found.loss.max() < 0.1 * found.straight.loss.max())
        True

    References:
        Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, Loss surfaces, mode connectivity, and
        fast ensembling of DNNs, 2018.
    """

    kind: str = "bezier"
    bends: int = 3
    steps: int = 1000
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    minibatch: bool | None = None

    def __post_init__(self) -> None:
        one_of("bezier", "polygon").check("Curve", "kind", self.kind)
        integer_from(3).check("Curve", "bends", self.bends)
        integer_from(1).check("Curve", "steps", self.steps)
        POSITIVE.check("Curve", "lr", self.lr)
        FRACTION.check("Curve", "momentum", self.momentum)
        NON_NEGATIVE.check("Curve", "weight_decay", self.weight_decay)

    @property
    def total(self) -> int:
        """Steps."""
        return self.steps

    def run(self, terrain: Terrain, ends: tuple[Tensor, Tensor], seed: int, s: Session) -> Route:
        """Fit the curve, or go on with it."""
        straight = Band.straight(*ends, self.bends - 2)
        anchors, first = straight.points, 0
        knots = straight.fractions if self.kind == "polygon" else None
        mover = HeavyBall(self.lr, self.momentum)
        if s.state:
            anchors, first = s.state["anchors"], s.state["step"]
            mover.load_state_dict(s.state["mover"])
        count = len(terrain.closure.batches)
        minibatch = count > 1 if self.minibatch is None else self.minibatch
        for step in range(first, self.steps):
            t = float(np.random.default_rng([seed, 1, step]).random())
            batch = batch_at(step, count, seed) if minibatch else None
            route = Route(anchors, knots)
            point, weights = route.at(t), route.coefficients(t)[1:-1]
            loss, slope = terrain.slope(point, batch)
            if not math.isfinite(loss):
                raise NonFiniteError(
                    f"connect: the loss at t = {t:.3f} of the curve is {loss} at step {step}. A "
                    "smaller rate may help."
                )
            force = -(slope + self.weight_decay * point)
            mover.lr = self.lr * _schedule(step / self.steps)
            bends = mover.move(anchors[1:-1], torch.outer(weights.to(force), force))
            anchors = torch.cat([anchors[:1], bends, anchors[-1:]])
            state: dict[str, Any] = {"anchors": anchors, "step": step + 1}
            s.tick(state | {"mover": mover.state_dict()})
        return Route(anchors, knots, None, self.steps)


def _schedule(done: float) -> float:
    """The published schedule: constant, falling from a half to nine tenths, then a hundredth."""
    if done <= 0.5:
        return 1.0
    return max(0.01, 1.0 - (done - 0.5) / 0.4 * 0.99)
