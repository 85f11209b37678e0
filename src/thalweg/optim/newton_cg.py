"""Newton's method by truncated conjugate gradients, with a line search: for many parameters."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import Domain
from thalweg.numerics.forcing import forcing_term
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lanczos_model import lowest_eigenpair
from thalweg.numerics.steihaug import ConjugatePath, Truncation
from thalweg.optim.ground import Ground
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.newton_line import AbstractNewtonLine, Direction
from thalweg.optim.trust_region import OPEN, OPTIONAL_COUNT


__all__ = ["NewtonCG"]

_MOST = 200  # products a step, unless more are asked for
_EXPLORE = 10  # along a random direction, before saying that there is no way down


@final
class NewtonCG(AbstractNewtonLine):
    r"""Newton's method with a line search, its system solved as well as it is worth.

    Conjugate gradients on :math:`H p = -g` stop at :math:`\|H p + g\| \le \eta_k \|g\|`, with
    Eisenstat and Walker's :math:`\eta_k`, which makes the convergence superlinear; or where they
    meet a direction d whose curvature :math:`d^\top H d / d^\top d` is below the share ``flat`` of
    the largest met so far. Such a direction is followed as far as if its curvature were
    positive. Then Armijo's rule, from step 1.

    No number has units: curvature is small beside curvature, a residual beside the gradient.

    Args:
        params: Parameters, groups or named parameters.
        forcing: The largest :math:`\eta_k`, in (0, 1); default 0.5.
        products: Products a step at most, >= 1; default None: twice the number of parameters, and
            200 at most.
        flat: In (0, 1); default None: the rounding of the numbers' type.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer, closure = NewtonCG([x]), Objective.of(rosenbrock).closure(x)
        >>> for _ in range(60):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0]

    References:
        Dembo and Steihaug, Truncated-Newton algorithms for large-scale unconstrained optimization,
        1983; Nocedal and Wright, Numerical optimization, 2006, algorithm 7.1.
    """

    known_as: ClassVar[str] = "newton-cg"
    reference: ClassVar[Reference] = Reference(
        "Dembo, Steihaug",
        "Truncated-Newton algorithms for large-scale unconstrained optimization",
        1983,
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=20.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "forcing": OPEN,
        "products": OPTIONAL_COUNT,
        "flat": Domain(
            "a number in (0, 1), or None", lambda value: value is None or OPEN.contains(value)
        ),
    }

    def __init__(
        self,
        params: Any,
        forcing: float = 0.5,
        products: int | None = None,
        flat: float | None = None,
    ) -> None:
        super().__init__(params, {"forcing": forcing, "products": products, "flat": flat})

    def descend(self, point: Ground) -> Direction:
        """Follow conjugate gradients."""
        setting, memory = self.setting, self.memory
        norm = math.sqrt(inner(point.grad, point.grad))
        term = forcing_term(norm, memory.get("norm"), memory.get("term"), setting["forcing"])
        most = setting["products"] or min(2 * point.x.numel(), _MOST)
        flat = setting["flat"] or torch.finfo(point.x.dtype).eps
        path = ConjugatePath(point.product, point.grad, Truncation(term, most=most, flat=flat))
        step = path.flipped()

        def lowest() -> tuple[float, Tensor]:
            return lowest_eigenpair(point.product, point.x, _EXPLORE)

        details = {"products": float(path.products), "forcing": term}
        return Direction(step, lowest, None, {"norm": norm, "term": term}, details)
