"""Saddle-free Newton: the Hessian's absolute value in place of the Hessian."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple, final

import torch

from thalweg.errors import NON_NEGATIVE, Domain, integer_from
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lanczos_span import krylov_model
from thalweg.numerics.quadratic_model import QuadraticModel
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.judgement import STALLED, escape, judge, lost_in_noise, quiet
from thalweg.optim.metadata import Cost, Needs, Range, Reference
from thalweg.optim.seams import StepInfo


__all__ = ["SaddleFreeNewton"]

_ACCEPT, _POOR, _GOOD = 1e-4, 0.25, 0.75  # ratios of gained to foreseen
_LESS, _MORE = 0.1, 10.0  # how the damping follows
_LEAST, _MOST = 1e-12, 1e16  # below, the damping is 0; above, no step is left


class _Damped(NamedTuple):
    """The path from the Newton step with absolute eigenvalues to a short gradient step."""

    model: QuadraticModel
    products: int


@final
class SaddleFreeNewton(AbstractDeterministic):
    r"""Newton's method that is repelled by saddles.

    .. math:: \theta \leftarrow \theta - (|H| + \lambda\,|\lambda|_{\max} I)^{-1} g, \qquad
        |H| = V\,|\Lambda|\,V^\top,

    with the absolute values of the eigenvalues: the step has the length of Newton's, but goes down
    along every eigenvector. For up to ``dense`` parameters H is decomposed; for more, it is
    looked at in the Krylov space of the gradient, together with the last step and a random
    direction, and the step lies in that space. Parameters that neither the gradient nor H sees stay
    as they are.

    The damping :math:`\lambda` is a share of the largest :math:`|\lambda_i|`, so that units do not
    matter. It falls tenfold while the real model :math:`g^\top p + \tfrac12 p^\top H p` foretells
    well what f does, and rises tenfold where it does not; a trial at which f is higher is
    damped more within the same step, without new products.

    Args:
        params: Parameters, groups or named parameters.
        damping: The first :math:`\lambda`, >= 0; default 0.01.
        dense: Up to so many parameters the whole Hessian is decomposed, by one product for each;
            default 200.
        krylov: Products for more parameters, >= 2: one more than the space has dimensions;
            default 20.
        seed: Of the random direction.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 1e-6], dtype=torch.float64, requires_grad=True)
        >>> saddle = lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4  # its minima: -0.25
        >>> optimizer, closure = SaddleFreeNewton([x]), Objective.of(saddle).closure(x)
        >>> for _ in range(30):
        ...     loss = optimizer.step(closure)
        >>> round(loss.item(), 9)
        -0.25

    References:
        Dauphin, Pascanu, Gulcehre, Cho, Ganguli and Bengio, Identifying and attacking the saddle
        point problem in high-dimensional non-convex optimization, 2014.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE
    reference: ClassVar[Reference] = Reference(
        "Dauphin, Pascanu, Gulcehre, Cho, Ganguli, Bengio",
        "Identifying and attacking the saddle point problem in high-dimensional non-convex "
        "optimization",
        2014,
    )
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=20.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "damping": NON_NEGATIVE,
        "dense": integer_from(0),
        "krylov": integer_from(2),
        "seed": integer_from(0),
    }

    def __init__(
        self, params: Any, damping: float = 0.01, dense: int = 200, krylov: int = 20, seed: int = 0
    ) -> None:
        own = {"damping": damping, "dense": dense, "krylov": krylov, "seed": seed}
        super().__init__(params, own)

    def descend(self, point: Ground) -> _Damped:
        """The model, of the whole space or of a part of it."""
        setting, n = self.setting, point.x.numel()
        if n <= setting["dense"]:
            return _Damped(QuadraticModel(point.grad, point.hessian()), n)
        most, seed = setting["krylov"], setting["seed"]
        last = self.memory.get("last")
        beside = None if last is None else last.to(point.grad)
        return _Damped(krylov_model(point.product, point.grad, most, beside, seed), most)

    def advance(self, point: Ground, path: _Damped) -> StepInfo:
        """Damp until f falls as it should."""
        if not point.x.numel():
            return StepInfo(0.0, True, outcome="stationary")
        damping, tries = float(self.memory.get("damping", self.setting["damping"])), 0
        while True:
            step = path.model.damped(damping)
            x = point.x + step.step
            details = {"damping": damping, "predicted": step.decrease, "rejections": float(tries)}
            if not step.decrease > 0.0:
                return self._escape(point, path, details, "stationary")
            if not tries and lost_in_noise(point, step.decrease) and path.model.bends_down():
                left = self._escape(point, path, details, "no progress")
                if not left.rejected:
                    return left
            stalled = self.memory.get("stalled", 0.0) >= STALLED
            if torch.equal(x, point.x) or damping > _MOST or stalled:
                return self._escape(point, path, details, "no progress")
            verdict = judge(point, x, step.step, step.decrease)
            accepted = verdict.ratio > _ACCEPT
            used, damping = damping, _next(damping, verdict.ratio)
            if accepted:
                self._take(point, verdict.trial, damping, verdict.noisy)
                return StepInfo(1.0, details={**details, "ratio": verdict.ratio, "damping": used})
            if verdict.noisy and tries > 1:
                return self._escape(point, path, details, "no progress")
            tries += 1

    def _take(self, point: Ground, trial: Trial, damping: float, noisy: bool) -> None:
        step = trial.x - point.x
        point.take(trial)
        self.memory.update(damping=damping, **quiet(self.memory, point.grad, noisy))
        if point.x.numel() > self.setting["dense"]:
            self.memory["last"] = step

    def _escape(
        self, point: Ground, path: _Damped, details: dict[str, float], outcome: str
    ) -> StepInfo:
        """Leave a saddle or a maximum; where there is none, say so."""
        curvature, direction = path.model.lowest()
        trial = escape(point, curvature, direction) if curvature < 0.0 else None
        if trial is None:
            return StepInfo(0.0, True, details, outcome)
        length = math.sqrt(inner(trial.x - point.x, trial.x - point.x))
        self._take(point, trial, self.setting["damping"], noisy=False)
        return StepInfo(length, details={**details, "curvature": curvature})


def _next(damping: float, ratio: float) -> float:
    if ratio < _POOR:
        return max(_MORE * damping, _LEAST * 1e4)
    if ratio < _GOOD:
        return damping
    return _LESS * damping if _LESS * damping > _LEAST else 0.0
