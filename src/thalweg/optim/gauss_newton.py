"""Gauss-Newton: the minimiser of the linear model of the residuals, and a line search."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import torch

from thalweg.errors import NON_NEGATIVE, Domain
from thalweg.numerics.armijo import armijo
from thalweg.numerics.damped_least_squares import DampedStep
from thalweg.numerics.lanczos import inner
from thalweg.optim.dense_model import DenseModel
from thalweg.optim.least_squares import AbstractLeastSquares, Model
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.residual_ground import ResidualGround
from thalweg.optim.residual_view import View
from thalweg.optim.seams import StepInfo


__all__ = ["GaussNewton"]

_WALLS = 20  # times a step is cut because derivatives at its end are not finite


@final
class GaussNewton(AbstractLeastSquares):
    r"""Nonlinear least squares by the Gauss-Newton step and Armijo's line search.

    .. math:: p = \arg\min_p \lVert J p + r\rVert^2 + \mu\lVert D p\rVert^2, \qquad
        x \leftarrow x + \alpha p,

    with J the Jacobian of the residuals r, and D the lengths of its columns. Quadratic convergence
    where the residuals vanish at the minimum, linear or none where they are large and curved. Where
    J has not full rank p is the shortest of the minimisers; close to such a point p is long and
    nearly across the gradient, and the search may stall: there :class:`LevenbergMarquardt` holds.

    Args:
        params: Parameters, groups or named parameters.
        ridge: :math:`\mu \ge 0`, in units in which columns have length 1; default 0.
        cutoff: Singular values below this share of the largest are zero; default None: the
            precision of the numbers times the larger side of J.
        solver: ``"svd"``, ``"lsmr"`` or ``"auto"`` (default), as :class:`LevenbergMarquardt` has
            them.
        loss: As :class:`LevenbergMarquardt` has it; default ``"linear"``.
        loss_scale: The size up to which a residual counts as small, > 0; default 1.

    Raises:
        ValueError: If a value is outside its range.
        TypeError: In ``step``, if the closure does not tell residuals.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, 1.0], dtype=torch.float64, requires_grad=True)
        >>> fn = lambda x: torch.stack([x[0] * x[1] - 2, x[0] - x[1] - 1])
        >>> optimizer, closure = GaussNewton([x]), Objective.residuals(fn).closure(x)
        >>> for _ in range(6):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [2.0, 1.0]

    References:
        Gauss, Theoria motus corporum coelestium, 1809; Deuflhard, Newton methods for nonlinear
        problems, 2011; Nocedal and Wright, Numerical optimization, 2006, section 10.3.
    """

    reference: ClassVar[Reference] = Reference("Gauss", "Theoria motus corporum coelestium", 1809)
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=10.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "ridge": NON_NEGATIVE,
        "cutoff": Domain(
            "a number in [0, inf), or None",
            lambda value: value is None or NON_NEGATIVE.contains(value),
        ),
    }

    def __init__(
        self,
        params: Any,
        ridge: float = 0.0,
        cutoff: float | None = None,
        solver: str = "auto",
        loss: str = "linear",
        loss_scale: float = 1.0,
    ) -> None:
        own = {"ridge": ridge, "cutoff": cutoff, "solver": solver}
        super().__init__(params, {**own, "loss": loss, "loss_scale": loss_scale})

    def advance(self, point: ResidualGround, path: Model) -> StepInfo:
        """Search along the step."""
        step = path.damped(float(self.setting["ridge"]))
        details = {"offset": path.offset, "cosine": path.cosine, "rounding": path.rounding}
        size = float((path.scale * point.x).double().norm())
        details |= {"predicted": step.decrease, "size": size}
        if isinstance(path, DenseModel):
            details["rank"] = float(path.rank)
        if torch.equal(point.x + step.step, point.x) or not step.slope < 0.0:
            outcome = "no progress" if point.grad.any() else "stationary"
            return StepInfo(0.0, True, details, outcome)
        if step.decrease <= path.rounding:
            view = point.look(point.x + step.step)
            if not (self.slopes_fell(point, path, view) and self.derived(point, view)):
                return StepInfo(0.0, True, details, "no progress")
            return self._taken(point, path, view, {**details, "length": step.length})
        alpha, view = self._searched(point, path, step)
        if view is None:
            return StepInfo(0.0, True, details, "failed")
        gained = (point.fun - view.fun) / (step.decrease * alpha * (2 - alpha))
        details |= {"alpha": alpha, "ratio": gained, "length": alpha * step.length}
        return self._taken(point, path, view, details)

    def _searched(
        self, point: ResidualGround, path: Model, step: DampedStep
    ) -> tuple[float, View | None]:
        """A length, and what is seen there; None where there is no lower point."""
        seen: dict[float, View] = {}

        def phi(alpha: float) -> float:
            seen[alpha] = point.look(point.x + alpha * step.step)
            return seen[alpha].fun

        start = 1.0
        for _ in range(_WALLS):
            found = armijo(phi, point.fun, step.slope, start)
            if found.alpha == 0.0:
                break
            if self.derived(point, seen[found.alpha]):
                return found.alpha, seen[found.alpha]
            start = 0.25 * found.alpha
        return 0.0, None

    def _taken(
        self, point: ResidualGround, path: Model, view: View, details: dict[str, float]
    ) -> StepInfo:
        move = view.x - point.x
        point.take(view)
        self.memory["scale"] = path.scale
        return StepInfo(math.sqrt(inner(move, move)), details=details)
