"""Levenberg-Marquardt: the Gauss-Newton step, damped until the linear model holds."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import FLAG, Domain, one_of
from thalweg.numerics.damped_least_squares import DampedStep
from thalweg.numerics.damping import first_radius, nielsen
from thalweg.numerics.lanczos import inner
from thalweg.numerics.trust_region import shortened
from thalweg.optim.dense_model import DenseModel
from thalweg.optim.least_squares import AbstractLeastSquares, Model
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.residual_ground import ResidualGround
from thalweg.optim.residual_view import View
from thalweg.optim.seams import StepInfo


__all__ = ["LevenbergMarquardt"]

_ACCEPT, _POOR, _GOOD = 1e-4, 0.25, 0.75  # More's thresholds of the ratio
_FIRST_DAMPING = 1e-3  # Nielsen's tau
_AHEAD = 0.1  # of the step, where the second derivative along it is looked at
_ACCELERATION = 0.75  # over velocity at most (Transtrum and Sethna)
_RELATIVELY_SHORT = 1e-4  # steps, for which acceleration is lost in rounding


@final
class LevenbergMarquardt(AbstractLeastSquares):
    r"""Nonlinear least squares by damped Gauss-Newton steps.

    .. math:: p = \arg\min_p \lVert J p + r\rVert^2 + \mu \lVert D p\rVert^2, \qquad
        x \leftarrow x + p \text{ if } \tfrac12\lVert r\rVert^2 \text{ falls enough,}

    with J the Jacobian of the residuals r. One decomposition of J serves every damping
    :math:`\mu` that is tried at a point. A trial with residuals or a Jacobian that are NaN or
    infinite is a step too far. Where the gain is lost in the rounding of the sum of squares, the
    angle between r and the columns of J judges instead of it.

    Args:
        params: Parameters, groups or named parameters.
        scaling: D. ``"more"`` (default): the largest lengths of J's columns so far;
            ``"marquardt"``: the present ones; ``"levenberg"``: ones.
        damping: ``"trust-region"`` (default; More's): :math:`\mu` is such that p fits in a ball,
            whose radius the ratio of actual and predicted decrease rules. ``"nielsen"``: the ratio
            rules :math:`\mu` itself. With products it is always Nielsen's.
        geodesic: Whether to follow the residuals' curvature to second order (Transtrum and Sethna);
            one more evaluation a trial, fewer Jacobians.
        solver: ``"svd"``: J as a matrix, decomposed. ``"lsmr"``: products alone, inexactly.
            ``"auto"`` (default): the first up to 16 million entries.
        loss: ``"linear"`` (default), ``"soft_l1"``, ``"huber"``, ``"cauchy"`` or ``"arctan"``:
            the cost is :math:`\tfrac12\sum_i c^2\rho(r_i^2/c^2)`.
        loss_scale: c > 0; default 1.

    Raises:
        ValueError: If a value is outside its range.
        TypeError: In ``step``, if the closure does not tell residuals.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> fn = lambda x: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])
        >>> optimizer, closure = LevenbergMarquardt([x]), Objective.residuals(fn).closure(x)
        >>> for _ in range(15):
        ...     loss = optimizer.step(closure)
        >>> x.tolist(), closure.value().item()
        ([1.0, 1.0], 0.0)

    References:
        Levenberg 1944; Marquardt 1963; More, The Levenberg-Marquardt algorithm: implementation and
        theory, 1978; Nielsen, Damping parameter in Marquardt's method, 1999; Transtrum and Sethna,
        Improvements to the Levenberg-Marquardt algorithm, 2012.
    """

    reference: ClassVar[Reference] = Reference(
        "More", "The Levenberg-Marquardt algorithm: implementation and theory", 1978
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=10.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "scaling": one_of("more", "marquardt", "levenberg"),
        "damping": one_of("trust-region", "nielsen"),
        "geodesic": FLAG,
    }

    def __init__(
        self,
        params: Any,
        scaling: str = "more",
        damping: str = "trust-region",
        geodesic: bool = False,
        solver: str = "auto",
        loss: str = "linear",
        loss_scale: float = 1.0,
    ) -> None:
        own = {"scaling": scaling, "damping": damping, "geodesic": geodesic, "solver": solver}
        super().__init__(params, {**own, "loss": loss, "loss_scale": loss_scale})

    def advance(self, point: ResidualGround, path: Model) -> StepInfo:
        """Try dampings until a step is accepted, or none can be told from standing still."""
        trust = _Trust(self.setting, self.memory, path, point.x)
        details = {"offset": path.offset, "cosine": path.cosine, "rounding": path.rounding}
        if isinstance(path, DenseModel):
            details["rank"] = float(path.rank)
        rejected = 0
        while True:
            step = trust.step()
            view, move = self._tried(point, path, step)
            details |= {"predicted": step.decrease, "rejections": float(rejected)}
            details |= {"length": step.length, "size": trust.size, "damping": step.damping}
            if view is None:
                outcome = "no progress" if point.grad.any() else "stationary"
                return StepInfo(0.0, True, details, outcome)
            if step.decrease <= path.rounding:
                if not self.slopes_fell(point, path, view):
                    return StepInfo(0.0, True, details, "no progress")
                ratio = 1.0
            else:
                ratio = (point.fun - view.fun) / step.decrease if view.finite else -math.inf
            if ratio >= _ACCEPT and not self.derived(point, view):
                ratio = -math.inf
            details["ratio"] = ratio
            kept = trust.learn(step, ratio, shortened(point.fun, view.fun, step.slope, 0.1, 0.5))
            if ratio >= _ACCEPT:
                point.take(view)
                self.memory.update(kept, scale=path.scale)
                return StepInfo(math.sqrt(inner(move, move)), details=details)
            rejected += 1

    def _tried(
        self, point: ResidualGround, path: Model, step: DampedStep
    ) -> tuple[View | None, Tensor]:
        """The residuals at the end of a step; None where it does not move."""
        move = step.step
        if self.setting["geodesic"] and isinstance(path, DenseModel):
            move = self._accelerated(point, path, step)
        x = point.x + move
        if torch.equal(x, point.x):
            return None, move
        return point.look(x), move

    def _accelerated(self, point: ResidualGround, path: DenseModel, step: DampedStep) -> Tensor:
        r"""The step and half its acceleration, where that is the smaller part of it.

        The second derivative of the residuals along the step is a difference,
        :math:`\tfrac2h\bigl(\tfrac{r(x + hp) - r}{h} - J p\bigr)`.
        """
        velocity, scale = step.step, path.scale
        if step.length <= _RELATIVELY_SHORT * float((scale * point.x).norm()):
            return velocity
        ahead = point.look(point.x + _AHEAD * velocity)
        if not ahead.finite:
            return velocity
        slope = point.view.plain_jacobian() @ velocity
        bend = 2 / _AHEAD * ((ahead.plain - point.view.plain).to(slope) / _AHEAD - slope)
        acceleration = path.problem.applied(step.damping, point.view.weighted(bend))
        short = 2 * float((scale * acceleration).norm()) <= _ACCELERATION * step.length
        return velocity + 0.5 * acceleration if short else velocity


@final
class _Trust:
    """The damping, whichever rule sets it."""

    def __init__(
        self, setting: dict[str, Any], memory: dict[str, Any], path: Model, x: Tensor
    ) -> None:
        self._path = path
        self.size = float((path.scale * x).double().norm())
        self._by_radius = setting["damping"] == "trust-region" and isinstance(path, DenseModel)
        self._first = "radius" not in memory
        self._radius = float(memory.get("radius", first_radius(self.size)))
        self._damping = float(memory.get("damping", _FIRST_DAMPING))
        self._growth = float(memory.get("growth", 2.0))

    def step(self) -> DampedStep:
        """The step to be tried."""
        if self._by_radius:
            assert isinstance(self._path, DenseModel)
            return self._path.problem.within(self._radius)
        return self._path.damped(self._damping)

    def learn(self, step: DampedStep, ratio: float, share: float) -> dict[str, float]:
        """Change the damping by what a trial has shown; what to remember."""
        if not self._by_radius:
            accepted = ratio if ratio >= _ACCEPT else 0.0
            self._damping, self._growth = nielsen(self._damping, self._growth, accepted)
            return {"damping": self._damping, "growth": self._growth}
        if self._first:
            self._radius = min(self._radius, step.length)
        if ratio <= _POOR:
            self._radius = share * min(self._radius, step.length)
        elif step.interior or ratio >= _GOOD:
            self._radius = 2.0 * step.length
        return {"radius": self._radius}
