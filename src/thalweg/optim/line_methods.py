"""Methods that go along a line as far as a search says: quasi-Newton, conjugate gradients.

A step asks the method for a direction, searches along it, and lets the method learn from where it
ended. A direction along which nothing is lower is given up: the method forgets what it knew, and
the step is tried once more along the gradient before it is said to have failed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, final

from torch import Tensor

from thalweg.errors import Domain
from thalweg.numerics.lanczos import inner
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground
from thalweg.optim.line_walk import (
    SEARCHING,
    Landing,
    check_order,
    first_length,
    noise,
    rounding,
    walk,
)
from thalweg.optim.metadata import Cost, Range
from thalweg.optim.seams import Group, StepInfo
from thalweg.optim.stalling import note_progress, stalled


__all__ = ["AbstractLineMethod", "Aim", "Move"]

_BLIND = 6  # trials where f cannot show a difference
_UNITS = 4.0  # of rounding, relative to its terms, by which a slope must be below 0


class Aim(NamedTuple):
    """Where a step goes.

    Args:
        direction: Flat.
        slope: Of f along it, < 0; 0 where the gradient is zero.
        start: The first trial.
        steepest: Whether it is the way of the gradient.
    """

    direction: Tensor
    slope: float
    start: float
    steepest: bool


class Move(NamedTuple):
    """What a step did, for the method to learn from.

    Args:
        aim: Where it went.
        alpha: How far.
        step: The difference s of the points.
        change: The difference y of the gradients, of one and the same closure.
        grad: The gradient at the new point.
        before: The gradient at the old one.
        gained: What f fell by.
    """

    aim: Aim
    alpha: float
    step: Tensor
    change: Tensor
    grad: Tensor
    before: Tensor
    gained: float


class AbstractLineMethod(AbstractDeterministic, ABC):
    """A direction, a line search, and what is learnt from where it ends.

    Args:
        params: Parameters, groups or named parameters, as torch takes them.
        defaults: Every hyper-parameter with its value, those of the search among them.

    Raises:
        ValueError: If a hyper-parameter is outside its domain.
    """

    cost: ClassVar[Cost] = Cost(gradients=1.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = SEARCHING

    def __init__(self, params: Any, defaults: Group) -> None:
        super().__init__(params, defaults)
        check_order(type(self).__name__, defaults["decrease"], defaults["curvature"])

    @abstractmethod
    def aim(self, ground: Ground) -> tuple[Tensor, float] | None:
        """A direction and the first trial; None where nothing is known but the gradient."""

    @abstractmethod
    def learn(self, ground: Ground, move: Move) -> None:
        """Remember what a step has shown; the ground is at its end."""

    @abstractmethod
    def forget(self) -> None:
        """Give up what the direction was made of."""

    def asked(self) -> dict[str, Any]:
        """Conditions on a step that differ from the setting's."""
        return {}

    @final
    def descend(self, point: Ground) -> Aim:
        """The method's direction, where it goes down; else the gradient's."""
        made = self.aim(point)
        if made is None:
            return self._steepest(point)
        direction, start = made
        slope = inner(point.grad, direction)
        size = inner(point.grad.abs(), direction.abs())
        if not (slope < -_UNITS * rounding(point) * size and math.isfinite(size)):
            self.forget()
            return self._steepest(point)
        return Aim(direction, slope, start, False)

    @final
    def advance(self, point: Ground, path: Aim) -> StepInfo:
        """Search along the direction; along the gradient where that fails."""
        aim, spent, restarted = path, 0, False
        if aim.slope == 0.0:
            return StepInfo(0.0, True, outcome="stationary")
        if stalled(self.memory, point):
            return StepInfo(0.0, True, outcome="no progress")
        landing = self._walk(point, aim)
        if landing.found.alpha == 0.0 and not aim.steepest:
            self.forget()
            spent, restarted = landing.found.evaluations, True
            aim = self._steepest(point)
            landing = self._walk(point, aim)
        details = {
            "evaluations": float(spent + landing.found.evaluations),
            "slope": aim.slope,
            "restarted": float(restarted),
        }
        if landing.found.alpha == 0.0:
            outcome = "no progress" if landing.blind else "failed"
            return StepInfo(0.0, rejected=True, details=details, outcome=outcome)
        self._arrive(point, aim, landing)
        return StepInfo(landing.found.alpha, details=details)

    def _walk(self, ground: Ground, aim: Aim) -> Landing:
        asked = self.asked()
        if aim.start * abs(aim.slope) <= noise(ground):  # values are rounding: soon or not at all
            asked["most"] = min(self.setting["trials"], _BLIND)
        return walk(ground, aim.direction, aim.slope, aim.start, self.setting, **asked)

    def _steepest(self, ground: Ground) -> Aim:
        direction = -ground.grad
        slope = -inner(ground.grad, ground.grad)
        if not slope < 0:
            return Aim(direction, 0.0, 0.0, True)
        known = self.memory.get("length")
        start = known if known else first_length(ground, direction, slope)
        return Aim(direction, slope, start, True)

    def _arrive(self, ground: Ground, aim: Aim, landing: Landing) -> None:
        """Move there, and learn."""
        before, gained = ground.grad, ground.fun - landing.found.value
        step, change = landing.x - ground.x, landing.grad - before
        move = Move(aim, landing.found.alpha, step, change, landing.grad, before, gained)
        slopes = abs(aim.slope), abs(landing.found.slope)
        blind = landing.found.alpha * max(slopes) <= noise(ground)
        ground.accept(landing.x, landing.found.value, landing.grad)
        self.learn(ground, move)
        note_progress(self.memory, ground, blind)
