"""Newton's method with a modified Hessian and a line search."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import Domain, one_of
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lanczos_model import lowest_eigenpair
from thalweg.numerics.modified_cholesky import modified_cholesky
from thalweg.numerics.quadratic_model import ModelStep, QuadraticModel, diagonal_scale
from thalweg.optim.ground import Ground
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.newton_line import AbstractNewtonLine, Direction
from thalweg.optim.trust_region import OPEN


__all__ = ["Newton"]

_ASIDE = 0.1  # the least share of a step along the lowest eigenvector, where H is not positive
_PRODUCTS = 20  # with the dense Hessian, to find that vector


@final
class Newton(AbstractNewtonLine):
    r"""Newton's method, for up to a few thousand parameters.

    .. math:: \theta \leftarrow \theta + \alpha p, \qquad B p = -g,

    with B the dense Hessian where that is positive enough, and :math:`\alpha = 1` unless f does not
    fall (Armijo's rule). Near a minimum it doubles the number of correct digits at each step; on a
    convex quadratic function it needs one.

    Elsewhere B is H modified, in coordinates :math:`D p` with :math:`D_i = \sqrt{|H_{ii}|}`, so
    that neither the units of the parameters nor those of f matter. ``"eigen"`` makes every
    eigenvalue :math:`\max(|\lambda|, \delta\,|\lambda|_{\max})`: the step goes away from a saddle
    along negative curvature, and has a part along the lowest eigenvector even where the gradient
    has none. ``"cholesky"`` adds :math:`\tau D^2` with the first :math:`\tau` of a rising sequence
    for which a Cholesky factor exists; it is cheaper.

    Args:
        params: Parameters, groups or named parameters; n entries in all.
        modification: ``"eigen"`` (default) or ``"cholesky"``.
        floor: :math:`\delta` in (0, 1), of the eigenvalues; default None:
            :math:`\sqrt{\epsilon}` of the numbers' type for negative ones, and n times
            :math:`\epsilon` for positive ones.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, -1.0], dtype=torch.float64, requires_grad=True)
        >>> closure = Objective.of(lambda x: x[0] ** 2 + 5 * x[1] ** 2).closure(x)
        >>> loss = Newton([x]).step(closure)
        >>> x.abs().max().item() < 1e-12
        True

    References:
        Nocedal and Wright, Numerical optimization, 2006, sections 3.4 and 3.5; Dauphin et al.,
        Identifying and attacking the saddle point problem, 2014 (why eigenvalues are flipped).
    """

    reference: ClassVar[Reference] = Reference(
        "Nocedal, Wright", "Numerical optimization, 2nd edition", 2006
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=100.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "modification": one_of("eigen", "cholesky"),
        "floor": Domain(
            "a number in (0, 1), or None", lambda value: value is None or OPEN.contains(value)
        ),
    }

    def __init__(
        self, params: Any, modification: str = "eigen", floor: float | None = None
    ) -> None:
        super().__init__(params, {"modification": modification, "floor": floor})

    def descend(self, point: Ground) -> Direction:
        """The step to the minimum of a model that has one."""
        if not point.x.numel():
            return Direction(ModelStep(point.x, 0.0, 0.0, False), lambda: (0.0, point.x))
        hessian = point.hessian()
        if self.setting["modification"] == "cholesky":
            return _by_cholesky(point, hessian)
        given = self.setting["floor"]
        floor = given or torch.finfo(point.x.dtype).eps ** 0.5
        model = QuadraticModel(point.grad, hessian, diagonal_scale(hessian))
        details = {"lowest": float(model.values[0]), "largest": float(model.values[-1])}
        step = model.newton(floor, aside=_ASIDE, rounding=given is None)
        return Direction(step, model.lowest, _reach(point, model.scale), details=details)


def _reach(point: Ground, scale: Tensor | None) -> float:
    """The length of the parameters in the scale."""
    x = point.x.double() if scale is None else point.x.double() * scale
    return float(x.norm())


def _by_cholesky(point: Ground, hessian: Tensor) -> Direction:
    factor = modified_cholesky(hessian)
    p = -factor.solve(point.grad)
    if factor.shift > 0.0:
        scale = factor.scale
        matrix = hessian.double() / scale / scale[:, None]
        low, v = lowest_eigenpair(lambda u: matrix @ u, scale, _PRODUCTS)
        if low < 0.0:
            v = (v / scale).to(p)
            length = _ASIDE * float((p.double() * scale).norm())
            p = p - length * math.copysign(1.0, inner(point.grad, v)) * v
    decrease = -inner(point.grad, p) - 0.5 * inner(p, hessian @ p)

    def lowest() -> tuple[float, Tensor]:
        return QuadraticModel(point.grad, hessian, factor.scale).lowest()

    step = ModelStep(p, decrease, float(p.norm()), False)
    reach = _reach(point, factor.scale)
    return Direction(step, lowest, reach, details={"shift": factor.shift})
