"""Newton's method in a trust region by Lanczos' method: for many parameters, and past saddles."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

from torch import Tensor

from thalweg.errors import Domain, integer_from
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lanczos_model import LanczosModel, lowest_eigenpair
from thalweg.numerics.quadratic_model import ModelStep
from thalweg.numerics.steihaug import Truncation
from thalweg.optim.ground import Ground
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.trust_region import OPEN, OPTIONAL_COUNT, AbstractTrustRegion


__all__ = ["NewtonLanczos"]


@final
class _Krylov:
    """The model in a Krylov space, with the method's accuracy."""

    def __init__(
        self, point: Ground, stop: Truncation, remember: dict[str, Any], explore: int, seed: int
    ) -> None:
        self._point, self._stop, self.remember = point, stop, remember
        self._explore, self._seed = explore, seed
        size = min(point.x.numel(), stop.most or 1)
        self._model = LanczosModel(point.product, point.grad, size, seed)

    def within(self, radius: float) -> ModelStep:
        return self._model.within(radius, self._stop, explore=self._explore)

    def natural_length(self) -> float:
        return self._model.natural_length(self._stop)

    def measure(self, step: Tensor) -> float:
        return math.sqrt(inner(step, step))

    def lowest(self) -> tuple[float, Tensor]:
        most = max(self._explore, 1)
        return lowest_eigenpair(self._point.product, self._point.x, most, self._seed)


@final
class NewtonLanczos(AbstractTrustRegion):
    r"""Newton's method in a trust region, by Gould, Lucidi, Roma and Toint's method (GLTR).

    Lanczos' method builds an orthonormal basis Q from the gradient, in which the Hessian is small:
    the model

    .. math:: g^\top p + \tfrac12 p^\top H p, \qquad \|p\| \le r, \quad p = Q h,

    is minimised over it to rounding, along the edge of the ball too, where conjugate gradients
    stop. More vectors are added until what is missing from
    :math:`(H + \sigma I) p = -g` is below :math:`\eta_k \|g\|`; after a rejection the same basis
    serves a smaller ball.

    Where the gradient says nothing of a negative eigenvalue (it is zero, or an eigenvector: the
    Krylov space ends), random directions are followed for a few products, and the step leaves an
    exact saddle or maximum.

    Args:
        params: Parameters, groups or named parameters.
        radius: The first radius r > 0; default None: the length of the first Newton step, negative
            eigenvalues flipped.
        forcing: The largest :math:`\eta_k`, in (0, 1); default 0.1. It is Eisenstat and Walker's.
        products: Products a step at most, >= 1, each with a vector that is kept; default None: as
            many as there are parameters, and 200 at most.
        explore: Products that may be spent on random directions where the Krylov space ends;
            default 10.
        seed: Of the random directions.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # a saddle
        >>> saddle = lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4
        >>> optimizer, closure = NewtonLanczos([x]), Objective.of(saddle).closure(x)
        >>> for _ in range(20):
        ...     loss = optimizer.step(closure)
        >>> loss.item()
        -0.25

    References:
        Gould, Lucidi, Roma and Toint, Solving the trust-region subproblem using the Lanczos method,
        1999.
    """

    reference: ClassVar[Reference] = Reference(
        "Gould, Lucidi, Roma, Toint",
        "Solving the trust-region subproblem using the Lanczos method",
        1999,
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=20.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "forcing": OPEN,
        "products": OPTIONAL_COUNT,
        "explore": integer_from(0),
        "seed": integer_from(0),
    }

    def __init__(
        self,
        params: Any,
        radius: float | None = None,
        forcing: float = 0.1,
        products: int | None = None,
        explore: int = 10,
        seed: int = 0,
    ) -> None:
        own = {"radius": radius, "forcing": forcing, "products": products}
        super().__init__(params, {**own, "explore": explore, "seed": seed})

    def descend(self, point: Ground) -> _Krylov:
        """The model, in a space that is still empty."""
        setting = self.setting
        return _Krylov(point, *self.truncation(point), setting["explore"], setting["seed"])
