"""Newton's method in a trust region by truncated conjugate gradients: for many parameters."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

from torch import Tensor

from thalweg.errors import Domain
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lanczos_model import lowest_eigenpair
from thalweg.numerics.quadratic_model import ModelStep
from thalweg.numerics.steihaug import ConjugatePath, Truncation
from thalweg.optim.ground import Ground
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.trust_region import OPEN, OPTIONAL_COUNT, AbstractTrustRegion


__all__ = ["TrustRegionNewtonCG"]


_EXPLORE = 10  # products along a random direction, before saying that there is no way down


@final
class _Steihaug:
    """The path of conjugate gradients; a few steps of Lanczos' method for negative curvature."""

    def __init__(self, point: Ground, stop: Truncation, remember: dict[str, Any]) -> None:
        self._point, self.remember = point, remember
        self._path = ConjugatePath(point.product, point.grad, stop)

    def within(self, radius: float) -> ModelStep:
        return self._path.within(radius)

    def natural_length(self) -> float:
        return self._path.natural_length()

    def measure(self, step: Tensor) -> float:
        return math.sqrt(inner(step, step))

    def lowest(self) -> tuple[float, Tensor]:
        return lowest_eigenpair(self._point.product, self._point.x, _EXPLORE)


@final
class TrustRegionNewtonCG(AbstractTrustRegion):
    r"""Newton's method in a trust region, by Steihaug and Toint's conjugate gradients.

    The step is where the path of conjugate gradients on

    .. math:: g^\top p + \tfrac12 p^\top H p, \qquad \|p\| \le r,

    is good enough, :math:`\|H p + g\| \le \eta_k \|g\|`; leaves the ball; or meets a direction of
    negative curvature, along which it goes to the edge. A rejected step is cut from the same path
    for a smaller r, without a new product. :math:`\eta_k` is Eisenstat and Walker's.

    Where no step is left, Lanczos' method looks from a random direction for negative curvature
    that the gradient does not show, before the method says that it has converged.

    Args:
        params: Parameters, groups or named parameters.
        radius: The first radius r > 0; default None: the length of the first whole path.
        forcing: The largest :math:`\eta_k`, in (0, 1); default 0.5.
        products: Products a step at most, >= 1, each with a vector that is kept; default None:
            twice the number of parameters, and 200 at most.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer, closure = TrustRegionNewtonCG([x]), Objective.of(rosenbrock).closure(x)
        >>> for _ in range(40):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0]

    References:
        Steihaug, The conjugate gradient method and trust regions in large scale optimization, 1983;
        Toint, Towards an efficient sparsity exploiting Newton method for minimization, 1981.
    """

    known_as: ClassVar[str] = "trust-region-newton-cg"
    reference: ClassVar[Reference] = Reference(
        "Steihaug", "The conjugate gradient method and trust regions in large scale optimization",
        1983,
    )  # fmt: skip
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=20.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {"forcing": OPEN, "products": OPTIONAL_COUNT}

    def __init__(
        self,
        params: Any,
        radius: float | None = None,
        forcing: float = 0.5,
        products: int | None = None,
    ) -> None:
        super().__init__(params, {"radius": radius, "forcing": forcing, "products": products})

    def descend(self, point: Ground) -> _Steihaug:
        """The path of conjugate gradients, not yet followed."""
        return _Steihaug(point, *self.truncation(point))
