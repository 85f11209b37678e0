"""L-BFGS: BFGS from the last few pairs of steps and gradient changes, without a matrix."""

from __future__ import annotations

from typing import Any, ClassVar, final

from torch import Tensor

from thalweg.errors import Domain, integer_from, one_of
from thalweg.numerics.pairs import Pairs, curved
from thalweg.optim.ground import Ground
from thalweg.optim.line_methods import AbstractLineMethod, Move
from thalweg.optim.line_walk import rounding
from thalweg.optim.metadata import Reference


__all__ = ["LBFGS"]

_KEPT = ("rows", "order", "cross", "gram")


@final
class LBFGS(AbstractLineMethod):
    r"""Limited-memory BFGS with a line search that is made to finish.

    .. math:: d = -H g, \qquad \theta \leftarrow \theta + \alpha d,

    where H comes from the last m pairs :math:`s_i` (step) and :math:`y_i` (change of the gradient)
    by the compact form of :mod:`thalweg.numerics.pairs`, beginning at :math:`\gamma I`. A pair is
    kept where its curvature :math:`s^\top y` is above rounding, relative to its own size. Where no
    trial along d is lower, the memory is dropped and the step is tried along the gradient.

    One step is one iteration, with a line search of one or two evaluations as a rule. The two
    gradients of a pair are always of the same closure, so that batches may change between steps.

    Args:
        params: Parameters, groups or named parameters.
        memory: The number m of pairs, >= 1; default 10, as in L-BFGS-B.
        scaling: Which :math:`\gamma = s^\top y / y^\top y`. ``"last"`` (default): that of the last
            pair, as published. ``"first"``: that of the first pair, kept, as dense BFGS has it.
            ``"auto"``: the first where the memory holds as many pairs as there are parameters, so
            that H is dense BFGS's; else the last.
        line_search: ``"more-thuente"`` (default), ``"hager-zhang"`` or ``"armijo"``.
        decrease: The search's c1 in (0, c2); default 1e-4.
        curvature: The search's c2 in (c1, 1); default 0.9.
        trials: Evaluations in one search at most; default 25.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> optimizer, closure = LBFGS([x]), Objective.of(rosenbrock).closure(x)
        >>> for _ in range(40):
        ...     loss = optimizer.step(closure)
        >>> x.tolist()
        [1.0, 1.0]

    References:
        Nocedal, Updating quasi-Newton matrices with limited storage, 1980; Liu and Nocedal, On the
        limited memory BFGS method for large scale optimization, 1989; Byrd, Nocedal and Schnabel,
        Representations of quasi-Newton matrices and their use in limited memory methods, 1994.
    """

    reference: ClassVar[Reference] = Reference(
        "Liu, Nocedal", "On the limited memory BFGS method for large scale optimization", 1989
    )
    kept: ClassVar[str] = "m pairs"
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "memory": integer_from(1),
        "scaling": one_of("auto", "last", "first"),
    }

    def __init__(
        self,
        params: Any,
        memory: int = 10,
        scaling: str = "last",
        line_search: str = "more-thuente",
        decrease: float = 1e-4,
        curvature: float = 0.9,
        trials: int = 25,
    ) -> None:
        own = {"memory": memory, "scaling": scaling, "line_search": line_search}
        searching = {"decrease": decrease, "curvature": curvature, "trials": trials}
        super().__init__(params, {**own, **searching})

    def aim(self, ground: Ground) -> tuple[Tensor, float] | None:
        """Minus H g, and a first trial of 1."""
        pairs = self._pairs(ground)
        if not pairs.order:
            return None
        return -pairs.product(ground.grad, self.memory["gamma"]), 1.0

    def learn(self, ground: Ground, move: Move) -> None:
        """Keep the pair, if its curvature is above rounding."""
        slope = move.alpha * move.aim.slope
        product = curved(move.step, move.change, slope, rounding(ground))
        if product <= 0.0:
            return
        pairs, memory = self._pairs(ground), self.memory
        pairs.add(move.step, move.change)
        newest = pairs.scale(pairs.order[-1])
        kept = self.setting["scaling"]
        if kept == "auto":
            kept = "first" if self.setting["memory"] >= ground.x.numel() else "last"
        memory["length"] = newest
        memory["gamma"] = memory.get("gamma", newest) if kept == "first" else newest
        memory.update({name: getattr(pairs, name) for name in _KEPT})

    def forget(self) -> None:
        """Drop the pairs."""
        for name in (*_KEPT, "gamma"):
            self.memory.pop(name, None)

    def _pairs(self, ground: Ground) -> Pairs:
        memory, size = self.memory, self.setting["memory"]
        rows = memory.get("rows")
        if rows is None or rows.shape[1:] != (size, ground.x.numel()):
            self.forget()  # the first step; or other parameters move now
            return Pairs(size)
        return Pairs(size, *(memory[name] for name in _KEPT))
