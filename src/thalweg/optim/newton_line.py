"""What Newton methods with a line search share: search along a direction, or leave a saddle."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from torch import Tensor

from thalweg.numerics.lanczos import inner
from thalweg.numerics.quadratic_model import ModelStep
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.judgement import STALLED, escape, quiet
from thalweg.optim.metadata import Needs
from thalweg.optim.newton_search import search
from thalweg.optim.seams import StepInfo


__all__ = ["AbstractNewtonLine", "Direction"]


@final
@dataclass(frozen=True)
class Direction:
    """A step that a model proposes, and what else is known there.

    Args:
        step: The model's step; its decrease is that of the real model.
        lowest: Gives the lowest eigenvalue and its unit vector, where they are wanted.
        reach: The length of the parameters, in the measure in which that is a unit vector; None is
            the Euclidean one.
        remember: What the method keeps for its next step once this one has moved.
        details: What it has to tell.
    """

    step: ModelStep
    lowest: Callable[[], tuple[float, Tensor]]
    reach: float | None = None
    remember: dict[str, Any] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)


class AbstractNewtonLine(AbstractDeterministic, ABC):
    """Search along the direction of a quadratic model, from step 1 down, by Armijo's rule.

    Values of f judge a trial; its gradient is taken once it is accepted. A direction that does not
    go down is replaced by the gradient's. Before a step says that there is no way down, it looks
    for negative curvature.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE

    @abstractmethod
    def descend(self, point: Ground) -> Direction:
        """The direction here."""

    def advance(self, point: Ground, path: Direction) -> StepInfo:
        """Search along it."""
        if not point.x.numel():
            return StepInfo(0.0, True, outcome="stationary")
        d, slope = path.step.step, inner(point.grad, path.step.step)
        details = {"predicted": path.step.decrease, **path.details}
        if not point.grad.any():
            return self._escape(point, path, details, "stationary")
        bend = -2.0 * (path.step.decrease + slope)
        if not (math.isfinite(slope) and slope < 0.0 and bool(d.isfinite().all())):
            d, slope, bend = -point.grad, -inner(point.grad, point.grad), 0.0
        if self.memory.get("stalled", 0.0) >= STALLED:
            return self._escape(point, path, details, "no progress")
        found = search(point, d, slope, bend)
        if found.trial is None or bool((found.trial.x == point.x).all()):
            return self._escape(point, path, details, "no progress")
        self._take(point, found.trial, path, found.noisy)
        return StepInfo(found.alpha, details={**details, "alpha": found.alpha})

    def _take(self, point: Ground, trial: Trial, path: Direction, noisy: bool) -> None:
        point.take(trial)
        rest = quiet(self.memory, point.grad, noisy)
        self.memory.update(path.remember, **rest)

    def _escape(
        self, point: Ground, path: Direction, details: dict[str, float], outcome: str
    ) -> StepInfo:
        """Leave a saddle or a maximum; where there is none, say so."""
        curvature, direction = path.lowest()
        trial = escape(point, curvature, direction, path.reach) if curvature < 0.0 else None
        if trial is None:
            return StepInfo(0.0, True, details, outcome)
        self._take(point, trial, path, noisy=False)
        return StepInfo(1.0, details={**details, "curvature": curvature})
