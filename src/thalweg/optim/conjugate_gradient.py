"""Linear conjugate gradients as an optimizer: for quadratic functions."""

from __future__ import annotations

from typing import Any, ClassVar, final

from torch import Tensor

from thalweg.numerics.lanczos import inner
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground
from thalweg.optim.line_walk import noise, rounding
from thalweg.optim.metadata import Cost, Needs, Range, Reference
from thalweg.optim.seams import StepInfo
from thalweg.optim.stalling import note_progress, stalled


__all__ = ["ConjugateGradient"]

_UNITS = 4.0  # of rounding, relative to its terms, by which a curvature must be above 0


@final
class ConjugateGradient(AbstractDeterministic):
    r"""The method of Hestenes and Stiefel on :math:`\tfrac12 x^\top A x - b^\top x`, A positive.

    .. math::
        d_t = -g_t + \frac{g_t^\top g_t}{g_{t-1}^\top g_{t-1}}\, d_{t-1}, \qquad
        \theta_{t+1} = \theta_t - \frac{g_t^\top d_t}{d_t^\top H d_t}\, d_t .

    A step is one iteration and takes one product with the Hessian of the closure. Directions are
    conjugate, :math:`d_t^\top H d_s = 0`, so that n steps reach the minimum but for rounding, and k
    steps do where H has k distinct eigenvalues. The residual is the true gradient at each point,
    not a recurrence that drifts from it.

    It is meant for quadratic functions. ``info.details`` says how far the function is from one:
    ``deviation`` is the error of the foreseen value, relative to the foreseen decrease. A
    curvature :math:`d^\top H d / d^\top d` that is not positive is reported there as ``curvature``,
    with the outcome "failed" and the parameters left as they are; so is a function that
    rises where a quadratic one would fall. Use :class:`~thalweg.optim.NonlinearCG` or
    a trust-region method for such functions.

    Args:
        params: Parameters, groups or named parameters.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        >>> scale = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
        >>> closure = Objective.of(lambda x: 0.5 * (scale * (x - 1) ** 2).sum()).closure(x)
        >>> optimizer = ConjugateGradient([x])
        >>> for _ in range(3):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0, 1.0]

    References:
        Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, 1952.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE
    reference: ClassVar[Reference] = Reference(
        "Hestenes, Stiefel", "Methods of conjugate gradients for solving linear systems", 1952
    )
    kept: ClassVar[str] = "a direction"
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=1.0)
    space: ClassVar[dict[str, Range]] = {}

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def descend(self, point: Ground) -> Tensor:
        """The gradient made conjugate to the last direction."""
        last, weight = self.memory.get("direction"), self.memory.get("weight", 0.0)
        if last is None or last.numel() != point.grad.numel():
            return -point.grad
        direction = weight * last - point.grad
        return direction if inner(direction, point.grad) < 0 else -point.grad

    def advance(self, point: Ground, path: Tensor) -> StepInfo:
        """Go to the minimum along the direction."""
        if not bool(point.grad.any()):
            return StepInfo(0.0, True, outcome="stationary")
        if stalled(self.memory, point):
            return StepInfo(0.0, True, outcome="no progress")
        slope, image = inner(point.grad, path), point.product(path)
        bend, length = inner(path, image), inner(path, path)
        details = {"curvature": bend / length, "slope": slope}
        if not bend > _UNITS * rounding(point) * inner(path.abs(), image.abs()):
            self.memory.pop("direction", None)
            return StepInfo(0.0, True, details, "failed")
        alpha = -slope / bend
        details["predicted"] = foreseen = -0.5 * alpha * slope
        trial = point.attempt(point.x.add(path, alpha=alpha))
        details["deviation"] = abs(point.fun - trial.fun - foreseen) / foreseen
        if not (trial.fun <= point.fun + noise(point) and bool(trial.grad().isfinite().all())):
            self.memory.pop("direction", None)
            return StepInfo(0.0, True, details, "failed")
        before = inner(point.grad, point.grad)
        point.take(trial)
        self.memory["direction"] = path
        self.memory["weight"] = inner(point.grad, point.grad) / before
        note_progress(self.memory, point, foreseen <= noise(point))
        return StepInfo(alpha, details=details)
