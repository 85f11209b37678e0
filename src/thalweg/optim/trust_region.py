r"""What trust-region methods share: try the model's step, compare, move or trust the model less.

They differ in the model, and in how its minimiser in a ball is found; that is their ``descend``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from thalweg.errors import FRACTION, POSITIVE, Domain, integer_from
from thalweg.numerics.forcing import forcing_term
from thalweg.numerics.lanczos import inner
from thalweg.numerics.quadratic_model import ModelStep
from thalweg.numerics.steihaug import Truncation
from thalweg.numerics.trust_region import RadiusRule, shortened
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.judgement import STALLED, escape, judge, quiet
from thalweg.optim.metadata import Needs
from thalweg.optim.seams import StepInfo


__all__ = ["OPEN", "OPTIONAL_COUNT", "AbstractTrustRegion", "Region"]

OPEN = Domain("a number in (0, 1)", lambda v: POSITIVE.contains(v) and FRACTION.contains(v))
OPTIONAL_COUNT = Domain(
    "an integer >= 1, or None", lambda value: value is None or integer_from(1).contains(value)
)
_RADIUS = Domain(
    "a finite number > 0, or None",
    lambda value: value is None or (POSITIVE.contains(value) and math.isfinite(float(value))),  # type: ignore[arg-type]
)
_MOST = 200  # products a step, and vectors kept, unless more are asked for
_NOISY = 2  # rejections in a row that are allowed where differences of values are rounding
_RULE = RadiusRule()
_AGREE = 0.25  # how well the model has to foresee the first step,
_QUARTER, _CUTS = 0.25, 10  # else how it is cut, and how often


class Region(Protocol):
    """A model whose minimiser in a ball is known for any radius.

    ``remember`` is what the method keeps for its next step once this one has moved.
    """

    remember: dict[str, Any]

    def within(self, radius: float) -> ModelStep:
        """The step in a ball."""
        ...

    def natural_length(self) -> float:
        """How far the model would go alone; 0 where the gradient is 0."""
        ...

    def measure(self, step: Tensor) -> float:
        """The length of a step as the ball has it."""
        ...

    def lowest(self) -> tuple[float, Tensor]:
        """The lowest eigenvalue known, and its vector, of length 1 in the ball's measure."""
        ...


class AbstractTrustRegion(AbstractDeterministic, ABC):
    r"""Minimise a quadratic model in a ball, and learn the ball's radius.

    A trial is judged by the value of f there alone; its gradient is taken once it is accepted, and
    a gradient that is not finite takes the acceptance back. After a rejection the same model is
    minimised in a smaller ball, within the same step. Where the predicted decrease is lost in the
    rounding of f, slopes judge instead of values. Before a step says that there is no way down, it
    looks for negative curvature.

    The first radius is the length of the first Newton step, negative eigenvalues flipped, cut to
    quarters until the model agrees with f to a quarter of the gain: no number that has units is set
    in advance, and the radius has no upper bound.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE
    hyperparameters: ClassVar[dict[str, Domain]] = {"radius": _RADIUS}

    @abstractmethod
    def descend(self, point: Ground) -> Region:
        """The model here."""

    def advance(self, point: Ground, path: Region) -> StepInfo:
        """Try until a step is accepted or none can be told from standing still."""
        if not point.x.numel():
            return StepInfo(0.0, True, outcome="stationary")
        radius, rejected, noisy = self._radius(point, path), 0, 0
        chosen = bool(self.memory.get("radius") or self.setting["radius"])
        while True:
            step = path.within(radius)
            x = point.x + step.step
            details = {"radius": radius, "rejections": float(rejected), "predicted": step.decrease}
            if not step.decrease > 0.0:
                return self._escape(point, path, details, "stationary")
            stalled = self.memory.get("stalled", 0.0) >= STALLED
            if torch.equal(x, point.x) or noisy > _NOISY or stalled:
                return self._escape(point, path, details, "no progress")
            verdict = judge(point, x, step.step, step.decrease)
            trial, ratio = verdict.trial, verdict.ratio
            slope = inner(point.grad, step.step)
            share = shortened(point.fun, trial.fun, slope, _RULE.least, _RULE.shrink)
            early = not chosen and not verdict.noisy and rejected < _CUTS
            if early and abs(ratio - 1.0) > _AGREE:
                radius, rejected = _QUARTER * min(radius, step.length), rejected + 1
                continue
            following = _RULE.next(radius, step.length, ratio, share)
            if ratio > _RULE.accept:
                self._take(point, trial, path, radius=following, noisy=verdict.noisy)
                return StepInfo(step.length, details={**details, "ratio": ratio})
            radius, rejected, noisy = following, rejected + 1, noisy + verdict.noisy

    def truncation(self, point: Ground) -> tuple[Truncation, dict[str, float]]:
        """How well a Krylov method is to solve here, and what to remember of it."""
        setting, memory = self.setting, self.memory
        norm = math.sqrt(inner(point.grad, point.grad))
        term = forcing_term(norm, memory.get("norm"), memory.get("term"), setting["forcing"])
        most = setting["products"] or min(2 * point.x.numel(), _MOST)
        return Truncation(term, most=most), {"norm": norm, "term": term}

    def _take(
        self, point: Ground, trial: Trial, path: Region, *, radius: float, noisy: bool
    ) -> None:
        point.take(trial)
        rest = quiet(self.memory, point.grad, noisy)
        self.memory.update(path.remember, radius=radius, **rest)

    def _escape(
        self, point: Ground, path: Region, details: dict[str, float], outcome: str
    ) -> StepInfo:
        """Leave a saddle or a maximum; where there is none, say so."""
        curvature, direction = path.lowest()
        reach = path.measure(point.x)
        trial = escape(point, curvature, direction, reach) if curvature < 0.0 else None
        if trial is None:
            return StepInfo(0.0, True, details, outcome)
        length = path.measure(trial.x - point.x)
        self._take(point, trial, path, radius=length, noisy=False)
        return StepInfo(length, details={**details, "curvature": curvature})

    def _radius(self, point: Ground, path: Region) -> float:
        """The radius from the step before, or a first one."""
        given = self.memory.get("radius") or self.setting["radius"]
        if given:
            return float(given)
        length = path.natural_length() or path.measure(point.x)
        if length:
            return length
        # No gradient and no parameters: the length at which the model would have lost all of f.
        curvature = path.lowest()[0]
        return math.sqrt(2 * abs(point.fun / curvature)) or 1.0 if curvature < 0.0 else 1.0
