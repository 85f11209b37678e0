"""Spectral projected gradients: for bounds and other sets, by the length that fitted last time.

A step of the optimizer ends at a lower point than it began. The method itself lets the function
rise now and then, which is what makes spectral steps fast; it does so between two points that are
seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from thalweg.errors import Domain, bad_argument, integer_from, one_of
from thalweg.numerics.lanczos import inner
from thalweg.numerics.pairs import curved
from thalweg.numerics.wolfe import SHARE
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.ground import Ground, Trial
from thalweg.optim.line_walk import first_length, noise, rounding
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.projections import Projection, nearest_of, sets_of
from thalweg.optim.seams import StepInfo


__all__ = ["SpectralProjectedGradient"]

_LONGER = 10.0  # the next rate, where the function bends down
_LEAST, _MOST = 0.1, 0.5  # what remains of a step that was too long


class _Stand(NamedTuple):
    """A point of the method's own path."""

    x: Tensor
    fun: float
    grad: Tensor


@final
class SpectralProjectedGradient(AbstractDeterministic):
    r"""Projected gradient descent with spectral steps and a non-monotone search.

    .. math::
        \theta(\alpha) = P\bigl(\theta - \alpha\lambda g\bigr), \qquad
        f(\theta(\alpha)) \le \max_{0 \le j < M} f_{t-j}
        + c_1\, g^\top \bigl(\theta(\alpha) - \theta\bigr), \qquad
        \lambda_{t+1} = \frac{s^\top s}{s^\top y},

    with :math:`\alpha = 1` first. P is the nearest point of the set; along the ``"arc"`` each trial
    is projected, along the ``"line"`` from :math:`\theta` to :math:`\theta(1)` only the first is,
    which is cheaper where P is dear and the set convex.

    One step goes on until it finds a point lower than where it began (mostly at once, and at most
    for 2M iterations), so that the parameters are always the best feasible ones so far.

    Args:
        params: Parameters, groups or named parameters; projected when the optimizer is made.
        projection: A set of :mod:`thalweg.optim.projections`, or any function of a tensor that
            returns the nearest feasible one; or a list with one for each parameter group, None to
            leave it free. Default None: the whole space. It is not part of a checkpoint.
        path: ``"arc"`` (default) or ``"line"``.
        window: M >= 1; default 10, the authors'. 1: the function goes down in each iteration.
        decrease: c1 in (0, 1); default 1e-4, the authors'.
        trials: Evaluations in one search at most; default 25.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.projections import Box
        >>> x = torch.tensor([2.0, 2.0], dtype=torch.float64, requires_grad=True)
        >>> closure = Objective.of(lambda x: (x[0] - 1) ** 2 + (x[1] + 3) ** 2).closure(x)
        >>> optimizer = SpectralProjectedGradient([x], Box(0.0, 5.0))
        >>> for _ in range(10):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 0.0]

    References:
        Birgin, Martinez and Raydan, Nonmonotone spectral projected gradient methods on convex sets,
        2000; Barzilai and Borwein, Two-point step size gradient methods, 1988; Bertsekas, On the
        Goldstein-Levitin-Polyak gradient projection method, 1976 (the arc).
    """

    reference: ClassVar[Reference] = Reference(
        "Birgin, Martinez, Raydan",
        "Nonmonotone spectral projected gradient methods on convex sets",
        2000,
    )
    kept: ClassVar[str] = "none"
    cost: ClassVar[Cost] = Cost(gradients=1.0)
    space: ClassVar[dict[str, Range]] = {}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "path": one_of("arc", "line"),
        "window": integer_from(1),
        "decrease": SHARE,
        "trials": integer_from(1),
    }

    def __init__(
        self,
        params: Any,
        projection: Projection | Sequence[Projection | None] | None = None,
        path: str = "arc",
        window: int = 10,
        decrease: float = 1e-4,
        trials: int = 25,
    ) -> None:
        listed = projection if isinstance(projection, (list, tuple)) else [projection]
        if not all(each is None or callable(each) for each in listed):
            allowed = "a function of a tensor, a list of such for each group, or None"
            raise bad_argument(type(self).__name__, "projection", projection, allowed)
        own = {"path": path, "window": window, "decrease": decrease, "trials": trials}
        super().__init__(params, own)
        self.projection = projection
        self._entered = 0  # groups that have been projected
        self._enter()

    # ---- the three seams --------------------------------------------------------------------
    def evaluate(self, closure: Callable[[], Any] | None) -> Ground:
        """Stand at a feasible point, also where a group is new."""
        self._enter()
        return super().evaluate(closure)

    def descend(self, point: Ground) -> float:
        """The rate: the last spectral one, or a first one that moves entries by a hundredth."""
        slope = inner(point.grad, point.grad)
        if slope == 0.0:
            return 0.0
        return self.memory.get("rate") or first_length(point, point.grad, slope)

    def advance(self, point: Ground, path: float) -> StepInfo:
        """Go on until a point is lower; where none is found, straight down from here."""
        memory, rate = self.memory, path
        gap = self._gap(point.x, point.grad, rate, point)
        details = {"optimality": float(gap.abs().max()) / rate if rate and gap.numel() else 0.0}
        if not bool(gap.any()):
            return StepInfo(0.0, True, details, "stationary")
        start = _Stand(point.x, point.fun, point.grad)
        values = list(memory["values"]) if memory.get("last") == point.fun else [point.fun]
        made = self._wander(point, start, rate, values) or self._wander(
            point, start, rate, values[-1:], monotone=True
        )
        if made is None:
            outcome = "no progress" if abs(inner(gap, point.grad)) <= noise(point) else "failed"
            return StepInfo(0.0, True, details, outcome)
        trial, following, values = made
        point.take(trial)
        memory.update(rate=following, values=values, last=point.fun)
        return StepInfo(rate, details=details)

    def projected_gradient(self, point: Ground) -> Tensor:
        r"""What is left of the gradient in the set: :math:`(P(x - \lambda g) - x) / \lambda`."""
        rate = self.descend(point)
        return self._gap(point.x, point.grad, rate, point) / rate if rate else point.grad

    # ---- the method's own path --------------------------------------------------------------
    def _wander(
        self, ground: Ground, here: _Stand, rate: float, values: list[float], monotone: bool = False
    ) -> tuple[Trial, float, list[float]] | None:
        """Iterate until a point is better than the start: it, the next rate, the values seen."""
        start, window, values = here, 1 if monotone else self.setting["window"], list(values)
        for _ in range(1 if monotone else 2 * window):
            trial = self._search(ground, here, rate, max(values[-window:]))
            if trial is None:
                return None
            s, y = trial.x - here.x, trial.grad() - here.grad
            bend = curved(s, y, inner(here.grad, s), rounding(ground))
            following = inner(s, s) / bend if bend else _LONGER * rate
            here = _Stand(trial.x, trial.fun, trial.grad())
            values = [*values, trial.fun][-self.setting["window"] :]
            if trial.fun < start.fun or self._closer(ground, here, start, following):
                return trial, following, values
            rate = following
        return None

    def _search(self, ground: Ground, here: _Stand, rate: float, level: float) -> Trial | None:
        """Back along the arc or the line until there is enough decrease below the level."""
        setting, alpha = self.setting, 1.0
        x = far = self._nearest_to(here.x.sub(here.grad, alpha=rate), ground)
        for _ in range(setting["trials"]):
            slope = inner(here.grad, x - here.x)
            if not slope < 0.0:
                return None
            trial = ground.attempt(x)
            enough = trial.fun <= level + setting["decrease"] * slope + noise(ground)
            if enough and bool(trial.grad().isfinite().all()):
                return trial
            alpha *= _shortened(trial.fun - here.fun, slope)
            if setting["path"] == "arc":
                x = self._nearest_to(here.x.sub(here.grad, alpha=alpha * rate), ground)
            else:  # between two feasible points: lerp does not round beyond either
                x = here.x.lerp(far, alpha)
        return None

    def _closer(self, ground: Ground, here: _Stand, start: _Stand, rate: float) -> bool:
        """Whether, of two values that rounding alone tells apart, the set's optimum is nearer."""
        if abs(here.fun - start.fun) > noise(ground):
            return False
        one, other = (self._gap(p.x, p.grad, rate, ground) for p in (here, start))
        return inner(one, one) < 0.81 * inner(other, other)

    # ---- the set ----------------------------------------------------------------------------
    def _gap(self, x: Tensor, grad: Tensor, rate: float, ground: Ground) -> Tensor:
        """P(x - rate grad) - x, flat."""
        return self._nearest_to(x.sub(grad, alpha=rate), ground) - x

    def _nearest_to(self, aim: Tensor, ground: Ground) -> Tensor:
        """P(aim), flat: itself a feasible point, which x + (P(aim) - x) need not be in rounding."""
        if self.projection is None:
            return aim
        sets = self._sets()
        owner = {id(p): i for i, group in enumerate(self.param_groups) for p in group["params"]}
        parts = []
        for p, part in zip(ground.params, ground.split(aim), strict=True):
            parts.append(self._nearest(sets[owner[id(p)]], part).reshape(-1).to(aim.dtype))
        return torch.cat(parts) if parts else aim

    def _nearest(self, project: Projection | None, part: Tensor) -> Tensor:
        if project is None or not part.numel():
            return part
        return nearest_of(type(self).__name__, project, part)

    def _sets(self) -> Sequence[Any]:
        return sets_of(type(self).__name__, self.projection, len(self.param_groups))

    @torch.no_grad()
    def _enter(self) -> None:
        """Project the parameters of new groups."""
        new = self.param_groups[self._entered :]
        if self.projection is not None:
            for group, project in zip(new, self._sets()[self._entered :], strict=True):
                for p in group["params"]:
                    if p.requires_grad:
                        p.copy_(self._nearest(project, p.detach()))
        self._entered = len(self.param_groups)


def _shortened(rise: float, slope: float) -> float:
    """Where a parabola has its minimum, as a share of a step that was too long."""
    if not math.isfinite(rise):
        return 0.25
    return min(max(-0.5 * slope / (rise - slope), _LEAST), _MOST) if rise > slope else _MOST
