"""Newton's method in a trust region, the model minimised to rounding: for dense Hessians."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import Domain, one_of
from thalweg.numerics.quadratic_model import ModelStep, QuadraticModel, diagonal_scale
from thalweg.optim.ground import Ground
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.trust_region import AbstractTrustRegion


__all__ = ["TrustRegionNewton"]

_FLOOR = 1e-8  # the least share of the largest eigenvalue, for the first radius alone


@final
class _Dense:
    """The model with its Hessian decomposed."""

    def __init__(self, gradient: Tensor, hessian: Tensor, scale: Tensor | None) -> None:
        self._model = QuadraticModel(gradient, hessian, scale)
        self._scale = scale
        self.remember: dict[str, Any] = {} if scale is None else {"scale": scale}

    def within(self, radius: float) -> ModelStep:
        return self._model.within(radius)

    def natural_length(self) -> float:
        return self._model.newton(_FLOOR).length

    def measure(self, step: Tensor) -> float:
        return float((step if self._scale is None else step * self._scale).double().norm())

    def lowest(self) -> tuple[float, Tensor]:
        return self._model.lowest()


@final
class TrustRegionNewton(AbstractTrustRegion):
    r"""Newton's method in a trust region, nearly exact: for up to a few thousand parameters.

    .. math:: p = \arg\min_{\|D p\| \le r}\ g^\top p + \tfrac12 p^\top H p, \qquad
        (H + \sigma D^2)\, p = -g,

    by one eigendecomposition of the dense Hessian H for each accepted point; after a rejection the
    same one serves a smaller radius. At a saddle or a maximum, also an exact one (g = 0), the step
    goes down along negative curvature.

    Args:
        params: Parameters, groups or named parameters; n entries in all.
        radius: The first radius r > 0; default None: the length of the first Newton step.
        scale: ``"none"`` (default): D is the identity. ``"diagonal"``: D holds the largest
            :math:`\sqrt{|H_{ii}|}` so far, so that units of parameters do not matter.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer, closure = TrustRegionNewton([x]), Objective.of(rosenbrock).closure(x)
        >>> for _ in range(30):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0]

    References:
        More and Sorensen, Computing a trust region step, 1983; Conn, Gould and Toint, Trust-region
        methods, 2000.
    """

    reference: ClassVar[Reference] = Reference(
        "More, Sorensen", "Computing a trust region step", 1983
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=100.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {"scale": one_of("none", "diagonal")}

    def __init__(self, params: Any, radius: float | None = None, scale: str = "none") -> None:
        super().__init__(params, {"radius": radius, "scale": scale})

    def descend(self, point: Ground) -> _Dense:
        """The model, decomposed."""
        hessian = point.hessian()
        scale: Tensor | None = None
        if self.setting["scale"] == "diagonal":
            scale = diagonal_scale(hessian)
            before = self.memory.get("scale")
            if before is not None:
                scale = torch.maximum(scale, before.to(scale))
        return _Dense(point.grad, hessian, scale)
