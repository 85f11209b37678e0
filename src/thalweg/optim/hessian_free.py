"""Hessian-free optimization: a damped curvature model, minimised by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from thalweg.errors import FRACTION, NON_NEGATIVE, Domain, integer_from, one_of
from thalweg.numerics.kept_iterates import Iterates, kept_iterates
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lanczos_model import lowest_eigenpair
from thalweg.optim.curvature_product import curvature_product, preconditioner_of
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground
from thalweg.optim.iterates_search import best_iterate
from thalweg.optim.judgement import STALLED, escape, quiet
from thalweg.optim.metadata import Cost, Needs, Range, Reference
from thalweg.optim.seams import StepInfo
from thalweg.optim.trust_region import OPEN


__all__ = ["HessianFree", "HessianFreeOptions"]

_RETRIES = 12  # times a step without progress is damped more
_EXPLORE = 10  # products along a random direction, before saying that there is no way down
_POOR, _GOOD = 0.25, 0.75


@final
@dataclass(frozen=True)
class HessianFreeOptions:
    """What few want to change.

    Args:
        iterations: Of conjugate gradients at most; default 250 (Martens).
        progress: Their test of progress; default 5e-4 (Martens).
        warm: The share of the last solution from which they start; default 0.95 (Martens and
            Sutskever); 0 starts from 0.
        drop: By which the damping falls after a good step, in (0, 1); default 2/3 (Martens). It
            rises by the inverse.
        exponent: Of the preconditioner, in (0, 1]; default 0.75 (Martens).
        least: Below this share of the curvature along the gradient the damping is 0.

    Example:
        >>> HessianFreeOptions(iterations=50).as_group()["warm"]
        0.95
    """

    iterations: int = 250
    progress: float = 5e-4
    warm: float = 0.95
    drop: float = 2 / 3
    exponent: float = 0.75
    least: float = 1e-12

    def as_group(self) -> dict[str, Any]:
        """As hyper-parameters of a group."""
        return dict(vars(self))


class _Model(NamedTuple):
    """What :meth:`HessianFree.advance` solves with, as often as it has to."""

    solve: Callable[[float], Iterates]
    product: Callable[[Tensor], Tensor]
    damping: float
    scale: float


@final
class HessianFree(AbstractDeterministic):
    r"""Martens' method: Newton's for networks, without a matrix.

    .. math:: (B + \lambda I)\, p = -g

    by conjugate gradients from a share of the last solution, with B the generalised Gauss-Newton
    matrix where the closure has outputs, else the Hessian. They stop where the model no longer
    gains; some iterates are kept, and f is asked from the last one back for the best; from there
    Armijo's rule shortens the step where f is not lower.

    The damping follows Levenberg's rule with

    .. math:: \rho = \frac{f(\theta + p) - f(\theta)}{g^\top p + \tfrac12 p^\top B p},

    the model *without* the term of the damping, so that :math:`\rho = 1` on a quadratic:
    :math:`\lambda` falls to 2/3 where :math:`\rho > 3/4` and rises to 3/2 where
    :math:`\rho < 1/4`. A step on which nothing is lower is solved again with ten times the damping.

    Batches may change from step to step; within one, all products and values are the closure's.

    Args:
        params: Parameters, groups or named parameters.
        damping: The first :math:`\lambda`, as a share of the curvature
            :math:`g^\top B g / g^\top g`, >= 0; default 0.1.
        curvature: ``"auto"`` (default), ``"ggn"`` or ``"hessian"``.
        products: ``"exact"`` (default), or the Hessian's products as differences of gradients,
            ``"forward"`` (one gradient each; right to about :math:`\sqrt\epsilon`) or
            ``"central"`` (two; :math:`\epsilon^{2/3}`).
        preconditioner: ``"none"`` (default), or ``"fisher"``:
            :math:`(\operatorname{diag} \sum_i g_i^2 + \lambda)^{-3/4}` with the gradients of
            single samples.
        options: Everything else (:class:`HessianFreeOptions`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> layers = torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
        >>> model = torch.nn.Sequential(*layers)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.randn(16, 2), torch.randn(16, 1))
        >>> optimizer = HessianFree(model.parameters())
        >>> bool(optimizer.step(closure) > closure.value())
        True

    References:
        Martens, Deep learning via Hessian-free optimization, 2010; Martens and Sutskever, Training
        deep and recurrent networks with Hessian-free optimization, 2012.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE
    reference: ClassVar[Reference] = Reference(
        "Martens", "Deep learning via Hessian-free optimization", 2010
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=50.0)
    space: ClassVar[dict[str, Range]] = {"damping": Range(1e-3, 1.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "damping": NON_NEGATIVE,
        "curvature": one_of("auto", "ggn", "hessian"),
        "products": one_of("exact", "forward", "central"),
        "preconditioner": one_of("none", "fisher"),
        "iterations": integer_from(1),
        "progress": NON_NEGATIVE,
        "warm": FRACTION,
        "drop": OPEN,
        "exponent": Domain("a number in (0, 1]", lambda v: v == 1 or FRACTION.contains(v)),
        "least": NON_NEGATIVE,
    }

    def __init__(
        self,
        params: Any,
        damping: float = 0.1,
        curvature: str = "auto",
        products: str = "exact",
        preconditioner: str = "none",
        options: HessianFreeOptions | None = None,
    ) -> None:
        own = {"damping": damping, "curvature": curvature, "products": products}
        own["preconditioner"] = preconditioner
        super().__init__(params, {**own, **(options or HessianFreeOptions()).as_group()})

    def descend(self, point: Ground) -> _Model:
        """The model, ready to be solved with any damping."""
        setting, memory = self.setting, self.memory
        product = curvature_product(point, setting["curvature"], setting["products"])
        squares = inner(point.grad, point.grad)
        scale = memory.get("scale", 0.0)
        damping = memory.get("damping")
        if damping is None and squares > 0.0:
            scale = abs(inner(point.grad, product(point.grad))) / squares
            damping = setting["damping"] * scale
        weights = preconditioner_of(point, setting["preconditioner"])
        last = memory.get("last")
        start = setting["warm"] * last.to(point.grad) if last is not None else None

        def solve(lam: float) -> Iterates:
            warm = start if start is not None and bool(start.any()) else None
            return kept_iterates(
                lambda v: torch.add(product(v), v, alpha=lam),
                -point.grad,
                warm,
                progress=setting["progress"],
                most=setting["iterations"],
                preconditioner=None if weights is None else weights(lam, setting["exponent"]),
            )

        return _Model(solve, product, damping or 0.0, scale)

    def advance(self, point: Ground, path: _Model) -> StepInfo:
        """Solve, go back over the iterates, search; damp more where nothing is lower."""
        if not bool(point.grad.any()):
            return self._escape(point, {}, "stationary")
        if self.memory.get("stalled", 0.0) >= STALLED:
            return self._escape(point, {}, "no progress")
        lam, drop = path.damping, self.setting["drop"]
        details: dict[str, float] = {}
        for retry in range(_RETRIES):
            found = path.solve(lam)
            step = best_iterate(point, found.points)
            details = {"damping": lam, "iterations": float(found.iterations)}
            details["retries"] = float(retry)
            if step is None:
                lam = max(10 * lam, 1e-6 * path.scale)
                continue
            bent = path.product(step.direction)
            foreseen = -inner(point.grad, step.direction) - 0.5 * inner(step.direction, bent)
            rho = step.gained / foreseen if foreseen > 0 else -math.inf
            following = lam / drop if rho < _POOR else lam * drop if rho > _GOOD else lam
            if following < self.setting["least"] * path.scale:
                following = 0.0
            point.take(step.trial)
            rest = quiet(self.memory, point.grad, step.noisy)
            last = found.points[-1]
            self.memory.update(damping=following, scale=path.scale, last=last, **rest)
            details |= {"predicted": foreseen, "rho": rho, "alpha": step.alpha}
            return StepInfo(step.alpha, details=details)
        return self._escape(point, details, "no progress")

    def _escape(self, point: Ground, details: dict[str, float], outcome: str) -> StepInfo:
        """Leave a saddle or a maximum, which the Gauss-Newton matrix does not see; or say so."""
        if not point.x.numel():
            return StepInfo(0.0, True, outcome="stationary")
        curvature, direction = lowest_eigenpair(point.product, point.x, _EXPLORE)
        trial = escape(point, curvature, direction) if curvature < 0.0 else None
        if trial is None:
            return StepInfo(0.0, True, details, outcome)
        point.take(trial)
        self.memory.update(quiet(self.memory, point.grad, False))
        return StepInfo(1.0, details={**details, "curvature": curvature})
