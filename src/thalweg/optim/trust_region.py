r"""What trust-region methods share: try the model's step, compare, move or trust the model less.

They differ in the model, and in how its minimiser in a ball is found; that is their ``descend``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Protocol

import torch

from thalweg.errors import POSITIVE, Domain, integer_from
from thalweg.numerics.forcing import forcing_term
from thalweg.numerics.lanczos import inner
from thalweg.numerics.quadratic_model import ModelStep
from thalweg.numerics.steihaug import Truncation
from thalweg.numerics.trust_region import RadiusRule, gain_ratio, noise, shortened
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.metadata import Needs
from thalweg.optim.seams import StepInfo


__all__ = ["OPEN", "OPTIONAL_COUNT", "AbstractTrustRegion", "Region"]

OPEN = Domain("a number in (0, 1)", lambda value: 0.0 < float(value) < 1.0)  # type: ignore[arg-type]
OPTIONAL_COUNT = Domain(
    "an integer >= 1, or None", lambda value: value is None or integer_from(1).contains(value)
)

_RADIUS = Domain(
    "a finite number > 0, or None",
    lambda value: value is None or (POSITIVE.contains(value) and math.isfinite(float(value))),
)
_MOST = 200  # products a step, and vectors kept, unless more are asked for
_NOISY = 2  # rejections in a row that are allowed where differences of values are rounding
_RULE = RadiusRule()


class Region(Protocol):
    """A model whose minimiser in a ball is known for any radius."""

    def within(self, radius: float) -> ModelStep:
        """The step in a ball."""
        ...

    def natural_length(self) -> float:
        """How far the model would go alone; 0 where the gradient is 0."""
        ...


class _Verdict(NamedTuple):
    ratio: float
    share: float  # of the step, to which the radius goes if it shrinks
    noisy: bool


class AbstractTrustRegion(AbstractDeterministic, ABC):
    r"""Minimise a quadratic model in a ball, and learn the ball's radius.

    A trial is judged by the value of f there alone; its gradient is taken once it is accepted, and
    a gradient that is not finite takes the acceptance back. After a rejection the same model is
    minimised in a smaller ball, within the same step. Where the predicted decrease is lost in the
    rounding of f, slopes judge instead of values.

    The first radius is the length of the first Newton step, negative eigenvalues flipped: no number
    that has units is set in advance, and the radius has no upper bound.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE
    hyperparameters: ClassVar[dict[str, Domain]] = {"radius": _RADIUS}

    @abstractmethod
    def descend(self, point: Ground) -> Region:
        """The model here."""

    def advance(self, point: Ground, path: Region) -> StepInfo:
        """Try until a step is accepted or none can be told from standing still."""
        radius, rejected, noisy = self._radius(point, path), 0, 0
        while True:
            step = path.within(radius)
            x = point.x + step.step
            details = {"radius": radius, "rejections": float(rejected), "predicted": step.decrease}
            if not step.decrease > 0.0:
                return StepInfo(0.0, True, details, "stationary")
            if torch.equal(x, point.x) or noisy > _NOISY:
                return StepInfo(0.0, True, details, "no progress")
            trial, verdict = self._judge(point, x, step)
            accepted = verdict.ratio > _RULE.accept and bool(trial.grad().isfinite().all())
            ratio = verdict.ratio if accepted else min(verdict.ratio, 0.0)
            following = _RULE.next(radius, step.length, ratio, verdict.share)
            if accepted:
                point.take(trial)
                self.memory["radius"] = following
                return StepInfo(step.length, details={**details, "ratio": verdict.ratio})
            radius, rejected, noisy = following, rejected + 1, noisy + verdict.noisy

    def _radius(self, point: Ground, path: Region) -> float:
        """The radius from the step before, or a first one."""
        given = self.memory.get("radius") or self.setting["radius"]
        if given:
            return float(given)
        natural = path.natural_length()
        # Without a gradient there is no length but that of the parameters, or else 1.
        return natural or math.sqrt(inner(point.x, point.x)) or 1.0

    def _judge(self, point: Ground, x: torch.Tensor, step: ModelStep) -> tuple[Trial, _Verdict]:
        """The trial and what it says of the model."""
        eps = torch.finfo(x.dtype).eps
        trial = point.attempt(x)
        slope = inner(point.grad, step.step)
        share = shortened(point.fun, trial.fun, slope, _RULE.least, _RULE.shrink)
        level = noise(point.fun, trial.fun, eps)
        noisy = math.isfinite(trial.fun) and step.decrease <= level
        if noisy and trial.fun <= point.fun + level:
            gained = -0.5 * (slope + inner(trial.grad(), step.step))
            return trial, _Verdict(gained / step.decrease, share, noisy)
        return trial, _Verdict(gain_ratio(point.fun, trial.fun, step.decrease, eps), share, noisy)

    def truncation(self, point: Ground) -> Truncation:
        """How well a Krylov method is to solve here, by the settings and the gradients so far."""
        setting, memory = self.setting, self.memory
        norm = math.sqrt(inner(point.grad, point.grad))
        before, term = memory.get("norm"), memory.get("term")
        following = forcing_term(norm, before, term, setting["forcing"])
        memory.update(norm=norm, term=following)
        most = setting["products"] or min(2 * point.x.numel(), _MOST)
        return Truncation(following, most=most)
