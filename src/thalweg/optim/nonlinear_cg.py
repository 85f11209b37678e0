"""Nonlinear conjugate gradients: two vectors of memory, five rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Final, final

from torch import Tensor

from thalweg.errors import NON_NEGATIVE, Domain, bad_argument, integer_from, one_of
from thalweg.numerics.lanczos import inner
from thalweg.numerics.pairs import curved
from thalweg.optim.ground import Ground
from thalweg.optim.line_methods import AbstractLineMethod, Move
from thalweg.optim.line_walk import noise, rounding
from thalweg.optim.metadata import Reference


__all__ = ["NonlinearCG"]

_SUFFICIENT = 0.01  # of |g|^2, by which a direction must go down; else the gradient is followed
_TRUNCATION = 0.4  # Hager and Zhang's eta, in the form that follows the function's scale
_GROWTH = 10.0  # the most by which the first trial is longer than the last step


@final
class NonlinearCG(AbstractLineMethod):
    r"""Conjugate gradients on any smooth function.

    .. math:: d_t = -g_t + \beta_t d_{t-1}, \qquad \theta_{t+1} = \theta_t + \alpha_t d_t,

    with a line search that is nearly exact. With :math:`y = g_t - g_{t-1}` the rules are

    * ``"fletcher-reeves"``: :math:`\beta = g_t^\top g_t / g_{t-1}^\top g_{t-1}`;
    * ``"polak-ribiere"``: :math:`\beta = \max(0, g_t^\top y / g_{t-1}^\top g_{t-1})`;
    * ``"hestenes-stiefel"``: :math:`\beta = \max(0, g_t^\top y / d_{t-1}^\top y)`;
    * ``"dai-yuan"``: :math:`\beta = g_t^\top g_t / d_{t-1}^\top y`;
    * ``"hager-zhang"``: :math:`\beta = \max\bigl((y - 2 d_{t-1} y^\top y / d_{t-1}^\top y)^\top
      g_t / d_{t-1}^\top y,\ 0.4\, d_{t-1}^\top g_{t-1} / d_{t-1}^\top d_{t-1}\bigr)`.

    The first four agree on quadratics with exact searches. The method starts again from the
    gradient where the direction does not go down enough, where successive gradients are far from
    orthogonal (``powell``), and after ``restart`` steps.

    Args:
        params: Parameters, groups or named parameters.
        rule: The rule for :math:`\beta`; default ``"hager-zhang"``, which goes down with any
            search.
        restart: Steps after which it starts again; 0 never. Default None: six times the number of
            parameters, as CG_DESCENT has it.
        powell: It starts again where :math:`|g_t^\top g_{t-1}| \ge` powell :math:`g_t^\top g_t`; 0
            never. Default 0. Powell took 0.2.
        line_search: ``"more-thuente"`` (default), ``"hager-zhang"`` or ``"armijo"``.
        decrease: The search's c1 in (0, c2); default 1e-4.
        curvature: The search's c2 in (c1, 1); default 0.1 (Nocedal and Wright). Below 0.5 for
            Fletcher and Reeves's rule, whose directions may go up otherwise.
        trials: Evaluations in one search at most; default 25.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer, closure = NonlinearCG([x]), Objective.of(rosenbrock).closure(x)
        >>> for _ in range(60):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0]

    References:
        Fletcher and Reeves, Function minimization by conjugate gradients, 1964; Polak and Ribiere,
        1969, with Gilbert and Nocedal, 1992 (max with 0); Hestenes and Stiefel, 1952; Powell,
        Restart procedures for the conjugate gradient method, 1977; Dai and Yuan, 1999; Hager and
        Zhang, A new conjugate gradient method with guaranteed descent and an efficient line search,
        2005, and The limited memory conjugate gradient method, 2013 (0.4).
    """

    reference: ClassVar[Reference] = Reference(
        "Fletcher, Reeves; Hager, Zhang", "Function minimization by conjugate gradients", 1964
    )
    known_as: ClassVar[str] = "nonlinear-cg"
    kept: ClassVar[str] = "a direction"
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "rule": one_of(
            "fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan", "hager-zhang"
        ),
        "restart": Domain(
            "an integer >= 0, or None", lambda n: n is None or integer_from(0).contains(n)
        ),
        "powell": NON_NEGATIVE,
    }

    def __init__(
        self,
        params: Any,
        rule: str = "hager-zhang",
        restart: int | None = None,
        powell: float = 0.0,
        line_search: str = "more-thuente",
        decrease: float = 1e-4,
        curvature: float = 0.1,
        trials: int = 25,
    ) -> None:
        own = {"rule": rule, "restart": restart, "powell": powell, "line_search": line_search}
        searching = {"decrease": decrease, "curvature": curvature, "trials": trials}
        super().__init__(params, {**own, **searching})
        if rule == "fletcher-reeves" and line_search != "armijo" and not curvature < 0.5:
            allowed = (
                "below 0.5 for Fletcher and Reeves's rule, whose directions may go up otherwise"
            )
            raise bad_argument(type(self).__name__, "curvature", curvature, allowed)

    def aim(self, ground: Ground) -> tuple[Tensor, float] | None:
        """The gradient made conjugate to the last direction, and how far that went."""
        memory, grad = self.memory, ground.grad
        last = memory.get("direction")
        if last is None or last.numel() != grad.numel() or memory["beta"] == 0.0:
            return None
        direction = memory["beta"] * last - grad
        slope = inner(direction, grad)
        if not (slope < 0 and slope <= -_SUFFICIENT * inner(grad, grad)):
            return None
        return direction, self._first(ground, slope)

    def learn(self, ground: Ground, move: Move) -> None:
        """Keep the direction and its weight in the next one."""
        memory, new, old = self.memory, inner(move.grad, move.grad), inner(move.before, move.before)
        curvature = curved(move.step, move.change, move.alpha * move.aim.slope, rounding(ground))
        if curvature > 0:
            memory["length"] = curvature / inner(move.change, move.change)
        count = 0 if move.aim.steepest else memory.get("count", 0)
        memory["count"] = count + 1
        most = self.setting["restart"]
        most = 6 * move.grad.numel() if most is None else most
        overlap, powell = abs(inner(move.grad, move.before)), self.setting["powell"]
        again = (most and memory["count"] >= most) or (powell and overlap >= powell * new)
        weight = 0.0 if again or old == 0.0 else _RULES[self.setting["rule"]](move, new, old)
        memory["beta"] = weight if math.isfinite(weight) else 0.0
        memory["direction"] = move.aim.direction
        memory["reach"] = move.alpha * abs(move.aim.slope)
        memory["gained"] = move.gained

    def forget(self) -> None:
        """Start again from the gradient."""
        for name in ("direction", "beta", "count", "reach", "gained"):
            self.memory.pop(name, None)

    def _first(self, ground: Ground, slope: float) -> float:
        """The first trial: as much gained as last time or, where f cannot tell, the same reach."""
        memory = self.memory
        same = memory["reach"] / abs(slope)
        if memory["gained"] <= noise(ground):
            return same
        return min(2.02 * memory["gained"] / abs(slope), _GROWTH * same)


def _fletcher_reeves(move: Move, new: float, old: float) -> float:
    del move
    return new / old


def _polak_ribiere(move: Move, new: float, old: float) -> float:
    del new
    return max(0.0, inner(move.grad, move.change) / old)


def _hestenes_stiefel(move: Move, new: float, old: float) -> float:
    del new, old
    bend = _bend(move)
    return max(0.0, inner(move.grad, move.change) / bend) if bend else 0.0


def _dai_yuan(move: Move, new: float, old: float) -> float:
    del old
    bend = _bend(move)
    return new / bend if bend else 0.0


def _hager_zhang(move: Move, new: float, old: float) -> float:
    del new, old
    bend = _bend(move)
    if not bend:
        return 0.0
    d, y = move.aim.direction, move.change
    weight = (inner(y, move.grad) - 2 * inner(y, y) / bend * inner(d, move.grad)) / bend
    return max(weight, _TRUNCATION * move.aim.slope / inner(d, d))


def _bend(move: Move) -> float:
    """D'y; 0 where it is not above the rounding of the slopes that it is the difference of."""
    bend = inner(move.aim.direction, move.change)
    return bend if bend > 1e-12 * abs(move.aim.slope) else 0.0


_RULES: Final[dict[str, Callable[[Move, float, float], float]]] = {
    "fletcher-reeves": _fletcher_reeves,
    "polak-ribiere": _polak_ribiere,
    "hestenes-stiefel": _hestenes_stiefel,
    "dai-yuan": _dai_yuan,
    "hager-zhang": _hager_zhang,
}
