"""BFGS: a dense estimate of the inverse Hessian from gradients."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import FLAG, Domain
from thalweg.numerics.lanczos import inner
from thalweg.numerics.pairs import curved
from thalweg.optim.ground import Ground
from thalweg.optim.line_methods import AbstractLineMethod, Move
from thalweg.optim.line_walk import rounding
from thalweg.optim.metadata import Reference


__all__ = ["BFGS"]

_DAMPED = 0.2  # Powell's least share of s'Bs in s'y


@final
class BFGS(AbstractLineMethod):
    r"""The method of Broyden, Fletcher, Goldfarb and Shanno, for up to a few thousand parameters.

    .. math::
        d = -H g, \qquad \theta \leftarrow \theta + \alpha d, \qquad
        H \leftarrow (I - \rho s y^\top)\, H\, (I - \rho y s^\top) + \rho s s^\top, \qquad
        \rho = 1 / y^\top s,

    with the step s and the change y of the gradient, as one symmetric update of rank two in
    :math:`O(n^2)`. Before the first update H is :math:`\gamma I` with
    :math:`\gamma = y^\top s / y^\top y`, which gives it the scale of the problem. A pair without
    curvature above rounding is skipped or, with Armijo's search, damped. Where no trial along d is
    lower, H is dropped and the step is tried along the gradient.

    Args:
        params: Parameters, groups or named parameters; n entries in all, n^2 in H.
        line_search: ``"more-thuente"`` (default), ``"hager-zhang"`` or ``"armijo"``.
        decrease: The search's c1 in (0, c2); default 1e-4.
        curvature: The search's c2 in (c1, 1); default 0.9.
        trials: Evaluations in one search at most; default 25.
        damped: Whether pairs with less curvature than a fifth of the model's are mended (Powell)
            where the search is Armijo's, which does not see to it; default True.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer, closure = BFGS([x]), Objective.of(rosenbrock).closure(x)
        >>> for _ in range(40):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0]

    References:
        Broyden, The convergence of a class of double-rank minimization algorithms, 1970; Fletcher,
        Goldfarb and Shanno in the same year; Powell, A fast algorithm for nonlinearly constrained
        optimization calculations, 1978 (damping); Nocedal and Wright, Numerical Optimization, 2006,
        chapter 6.
    """

    reference: ClassVar[Reference] = Reference(
        "Broyden; Fletcher; Goldfarb; Shanno",
        "The convergence of a class of double-rank minimization algorithms",
        1970,
    )
    kept: ClassVar[str] = "an n x n matrix"
    hyperparameters: ClassVar[dict[str, Domain]] = {"damped": FLAG}

    def __init__(
        self,
        params: Any,
        line_search: str = "more-thuente",
        decrease: float = 1e-4,
        curvature: float = 0.9,
        trials: int = 25,
        damped: bool = True,
    ) -> None:
        own = {"line_search": line_search, "damped": damped}
        searching = {"decrease": decrease, "curvature": curvature, "trials": trials}
        super().__init__(params, {**own, **searching})

    def aim(self, ground: Ground) -> tuple[Tensor, float] | None:
        """Minus H g, and a first trial of 1."""
        inverse = self.memory.get("inverse")
        if inverse is None or len(inverse) != ground.x.numel():
            return None
        return -(inverse @ ground.grad), 1.0

    def learn(self, ground: Ground, move: Move) -> None:
        """Update H, if the pair's curvature is above rounding."""
        memory, s, y = self.memory, move.step, move.change
        inverse = memory.get("inverse")
        if inverse is not None and len(inverse) != len(s):
            inverse = None  # other parameters move now
        mending = self.setting["line_search"] == "armijo" and self.setting["damped"]
        if mending and inverse is not None:
            y = _damped(s, y, move.before, move.alpha)
        product = curved(s, y, move.alpha * move.aim.slope, rounding(ground))
        if product <= 0.0:
            return
        memory["length"] = product / inner(y, y)
        if inverse is None:
            eye = torch.eye(len(s), dtype=s.dtype, device=s.device)
            inverse = memory["length"] * eye
        memory["inverse"] = _updated(inverse, s, y, product)

    def forget(self) -> None:
        """Drop H."""
        self.memory.pop("inverse", None)


def _updated(inverse: Tensor, s: Tensor, y: Tensor, product: float) -> Tensor:
    """H + s w' + w s', with w chosen so that H y = s; symmetric to the last digit."""
    image = inverse @ y
    w = (0.5 * (1 + inner(y, image) / product) / product) * s - image / product
    half = torch.outer(s, w)
    return inverse + (half + half.T)


def _damped(s: Tensor, y: Tensor, before: Tensor, alpha: float) -> Tensor:
    """Y drawn towards B s until s'y is a fifth of s'Bs; B s = -alpha g, so B is not needed."""
    image = -alpha * before
    model, product = inner(s, image), inner(s, y)
    if product >= _DAMPED * model or model <= 0:
        return y
    theta = (1 - _DAMPED) * model / (model - product)
    return theta * y + (1 - theta) * image
