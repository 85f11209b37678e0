"""The natural gradient: the gradient divided by the whole damped Fisher matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from thalweg.curvature import EmpiricalFisher, Fisher, How
from thalweg.curvature.fisher_rows import fisher_rows, solve_with_rows
from thalweg.errors import (
    FLAG,
    NON_NEGATIVE,
    POSITIVE,
    Domain,
    NonFiniteError,
    integer_from,
    one_of,
)
from thalweg.numerics.kept_iterates import kept_iterates
from thalweg.objective import AbstractClosure
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.metadata import Cost, Needs, Range, Reference, Slot
from thalweg.optim.output_metric import Prediction, divergence, gauss_newton, inner_product
from thalweg.optim.seams import Group, Point, StepInfo


__all__ = ["NaturalGradient", "NaturalOptions"]

_ENTRIES = 2**27  # of the matrix of rows at most
_ROWS = 256  # more rows than this are dearer to solve with than products are
_STEPS = 7919  # between the seeds of two steps' draws
_TRIALS = 8  # lengths of one step
_EXCESS = 1.5  # times the radius that predictions may really move
_HALF, _SHORTEST, _LONGEST = 0.5, 0.1, 0.8  # from one length to the next
_POOR, _GOOD = 0.25, 0.75  # shares of the fall that the model promised
_MORE, _LESS, _REFUSED = 1.5, 0.95, 4.0  # times the factor
_MOST = 1e8  # times the damping


@final
@dataclass(frozen=True)
class NaturalOptions:
    """What few want to change.

    Args:
        samples: Draws of labels for the Monte-Carlo Fisher matrix.
        solver: ``"samples"`` (exactly, in the space of samples), ``"cg"``, or ``"auto"``: the first
            where there are at most 256 rows, fewer than parameters, and samples can be taken apart.
        progress: Conjugate gradients stop where ten iterations bring less than ten times this share
            of what was gained; default 5e-4 (Martens); 0 goes on to rounding.
        iterations: Of conjugate gradients at most.
        adaptive_damping: Whether the damping rises where the model does not foresee the loss.
        weight_decay: Decoupled decay, >= 0.
        seed: Of the draws.

    Example:
        >>> NaturalOptions(solver="cg").as_group()["iterations"]
        50
    """

    samples: int = 1
    solver: str = "auto"
    progress: float = 5e-4
    iterations: int = 50
    adaptive_damping: bool = True
    weight_decay: float = 0.0
    seed: int = 0

    def as_group(self) -> dict[str, Any]:
        """As hyper-parameters of a group."""
        return dict(vars(self))


class _Direction(NamedTuple):
    params: list[Tensor]
    flat: Tensor
    slope: float  # of the loss along the step, downward
    length: float  # the step's square in the metric of predictions
    seen: list[Prediction]
    details: dict[str, float]


@final
class NaturalGradient(AbstractOptimizer):
    r"""Step along the gradient in the metric of predictions, within a trust region of them.

    The direction is :math:`d = (F + \lambda I)^{-1} g`, with F the Fisher matrix of the batch, and

    .. math:: \theta \leftarrow \theta - \eta\,s\,d, \qquad
        s = \min\Bigl(1, \sqrt{2r / (\eta^2 d^\top F d)}\Bigr) ,

    as :math:`\tfrac12 \delta^\top F \delta` is, for a small step :math:`\delta`, the
    Kullback-Leibler divergence between the predictions before and after. A large step can go far
    beyond: a sampled Fisher matrix does not see all directions, and along those the damping alone
    holds. So F in s is the exact one (a product with the Jacobian); the divergence and the loss are
    looked at where the step leads (a forward pass); and s is shortened while predictions moved by
    more than 1.5 r or the batch's loss rose. After eight lengths the step is refused. With
    ``adaptive_damping``, :math:`\lambda` is times a factor that rises by 3/2 where a length failed
    or the loss fell by less than 1/4 of

    .. math:: s\,\eta\,g^\top d - \tfrac12 s^2 \eta^2 d^\top F d ,

    and by 4 where a step was refused, and falls to 0.95 where the loss fell by more than 3/4 of it,
    never below 1: how well the model fits its own small batch is no reason to damp less.

    Where the batch gives fewer rows R of F = R'R than there are parameters, the solve is exact in
    their space,

    .. math:: d = \tfrac1\lambda\bigl(g - R^\top (\lambda I + R R^\top)^{-1} R g\bigr);

    otherwise conjugate gradients take products with F, from the last direction on, until the
    model's value no longer gains. A group's ``damping`` holds for its parameters.

    Args:
        params: Parameters, groups or named parameters.
        lr: :math:`\eta` >= 0; default 0.3; 1 suits batches that do not change.
        damping: :math:`\lambda` > 0; default 0.001.
        radius: r of the trust region, >= 0; 0 for none; default 0.01.
        fisher: ``"exact"`` (default: the expectation over labels; the Gauss-Newton matrix of
            cross-entropy and squared error), ``"monte-carlo"`` or ``"empirical"``.
        options: Everything else (:class:`NaturalOptions`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = NaturalGradient(model.parameters())
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.randn(8, 2), torch.randn(8, 1))
        >>> bool(optimizer.step(closure) > closure.value())
        True

    References:
        Amari, Natural gradient works efficiently in learning, 1998; Martens, New insights and
        perspectives on the natural gradient method, 2020.
    """

    needs: ClassVar[Needs] = Needs.OUTPUTS
    reference: ClassVar[Reference] = Reference(
        "Amari", "Natural gradient works efficiently in learning", 1998
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("direction"),)
    cost: ClassVar[Cost] = Cost(gradients=2.0, products=20.0)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-2, 1.0), "damping": Range(1e-4, 1.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "lr": NON_NEGATIVE,
        "damping": POSITIVE,
        "radius": NON_NEGATIVE,
        "fisher": one_of("exact", "monte-carlo", "empirical"),
        "samples": integer_from(1),
        "solver": one_of("auto", "cg", "samples"),
        "progress": NON_NEGATIVE,
        "iterations": integer_from(1),
        "adaptive_damping": FLAG,
        "weight_decay": NON_NEGATIVE,
        "seed": integer_from(0),
    }

    def __init__(
        self,
        params: Any,
        lr: float = 0.3,
        damping: float = 1e-3,
        radius: float = 1e-2,
        fisher: str = "exact",
        options: NaturalOptions | None = None,
    ) -> None:
        own = {"lr": lr, "damping": damping, "radius": radius, "fisher": fisher}
        super().__init__(params, {**own, **(options or NaturalOptions()).as_group()})
        self._tangents: dict[str, str] = {}  # what is known of the model's tangents

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """The loss and its gradient, from one of our closures."""
        if not isinstance(closure, AbstractClosure):
            raise TypeError(
                f"{type(self).__name__}.step(): the model's outputs are needed; pass "
                "objective.closure(x, y)."
            )
        return Point(self.call(closure), closure, self.param_groups)

    def descend(self, point: Point) -> _Direction:
        """Solve with the damped Fisher matrix."""
        closure, first = point.closure, self.param_groups[0]
        assert isinstance(closure, AbstractClosure)
        mine = {id(p): g for g in self.param_groups for p in g["params"] if p.grad is not None}
        kept = [i for i, p in enumerate(closure.params) if id(p) in mine]
        params = [closure.params[i] for i in kept]
        if not params:
            return _Direction([], torch.zeros(0), 0.0, 0.0, [], {})
        # The gradient as it is now: clipped, say, or with a penalty's added.
        g = torch.cat([p.grad.reshape(-1) for p in params if p.grad is not None])
        damping, rate = (
            torch.cat([g.new_full((p.numel(),), value(mine[id(p)])) for p in params])
            for value in (_damping, lambda group: float(group["lr"]))
        )
        rows = self._rows(closure, kept, len(g), first)
        if rows is not None:
            flat, details = solve_with_rows(rows.to(g), g, damping), {"rows": float(len(rows))}
        else:
            flat, details = self._by_products(closure, kept, g, damping)
        return self._foreseen(closure, params, rate * flat, details)

    def advance(self, point: Point, path: _Direction) -> StepInfo:
        """The learning rate, shortened to where predictions and loss allow."""
        first = self.param_groups[0]
        first["steps"] = first.get("steps", 0) + 1
        rate, radius = float(first["lr"]), first["radius"]
        if not path.params:
            return StepInfo(rate)
        divided = 0.5 * path.length
        share = (radius / divided) ** 0.5 if radius and divided > radius else 1.0
        used = _damping(first)
        share, tried = self._longest(point, path, share)
        details = {"kl": share**2 * divided, "damping": used, **tried, **path.details}
        return StepInfo(rate * share, share == 0.0, details)

    # ---- the length of the step -------------------------------------------------------------
    def _foreseen(
        self,
        closure: AbstractClosure,
        params: list[Tensor],
        step: Tensor,
        details: dict[str, float],
    ) -> _Direction:
        """The step, with its length in the metric of predictions."""
        parts = step.split([p.numel() for p in params])
        along = {id(p): part.view_as(p) for p, part in zip(params, parts, strict=True)}
        slope = inner_product(along, {id(p): p.grad for p in params if p.grad is not None})
        seen: list[Prediction] = []
        length = float(gauss_newton(closure, [along], 1.0, self._tangents, seen))
        return _Direction(params, step, slope, max(length, 0.0), seen, details)

    def _longest(
        self, point: Point, path: _Direction, share: float
    ) -> tuple[float, dict[str, float]]:
        """Move as far as is safe; 0 where the step is refused."""
        closure, radius = point.closure, self.param_groups[0]["radius"]
        assert isinstance(closure, AbstractClosure)
        before = float(point.loss)
        slack = 32 * torch.finfo(path.flat.dtype).eps * (1.0 + abs(before))
        old = [p.clone() for p in path.params]
        parts = path.flat.split([p.numel() for p in path.params])
        details: dict[str, float] = {}
        for trial in range(_TRIALS):
            for p, start, part in zip(path.params, old, parts, strict=True):
                p.copy_(torch.add(start, part.view_as(p), alpha=-share))
            loss, apart = divergence(closure, path.seen)
            details = {"divergence": apart, "trials": float(trial + 1)}
            near = not radius or apart <= _EXCESS * radius + slack
            promised = share * path.slope - 0.5 * share**2 * path.length
            if math.isfinite(loss) and near and loss <= before + slack:
                if promised > slack:
                    details["ratio"] = (before - loss) / promised
                    self._adapt(details["ratio"], trial)
                self._decay(path.params, old)
                return share, details
            judged = not near and math.isfinite(apart)
            share *= min(max((radius / apart) ** 0.5, _SHORTEST), _LONGEST) if judged else _HALF
        for p, start in zip(path.params, old, strict=True):
            p.copy_(start)
        self._damp(_REFUSED)
        return 0.0, details

    def _adapt(self, ratio: float, shortened: int) -> None:
        if shortened or ratio < _POOR:
            self._damp(_MORE)
        elif ratio > _GOOD:
            self._damp(_LESS)

    def _damp(self, factor: float) -> None:
        for group in self.param_groups:
            if group["adaptive_damping"]:
                group["raised"] = min(max(group.get("raised", 1.0) * factor, 1.0), _MOST)

    def _decay(self, params: list[Tensor], old: list[Tensor]) -> None:
        rates = {id(p): g for g in self.param_groups for p in g["params"]}
        for p, start in zip(params, old, strict=True):
            group = rates[id(p)]
            if group["weight_decay"]:
                p.sub_(start, alpha=float(group["lr"]) * group["weight_decay"])

    # ---- the two solvers ------------------------------------------------------------------
    def _seed(self, group: Group) -> int:
        return group["seed"] + _STEPS * group.get("steps", 0)

    def _rows(
        self, closure: AbstractClosure, kept: list[int], count: int, group: Group
    ) -> Tensor | None:
        """The rows of F, where the solve is to be in their space."""
        if group["solver"] == "cg":
            return None
        asked = group["solver"] == "samples"
        most = min(_ENTRIES // max(count, 1), 2**62 if asked else min(count - 1, _ROWS))
        fisher, samples = group["fisher"], group["samples"]
        rows = fisher_rows(closure, kept, fisher, samples, self._seed(group), most)
        if rows is None and asked:
            raise ValueError(
                f"{type(self).__name__}(solver='samples'): samples cannot be taken apart in this "
                "model (BatchNorm in train mode, say), or their gradients do not fit; use 'auto'."
            )
        return rows

    def _by_products(
        self, closure: AbstractClosure, kept: list[int], g: Tensor, damping: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        group = self.param_groups[0]
        # No tracing, which a step does not repay.
        names, how = [closure.names[i] for i in kept], How("reverse", check=False, borrow=True)
        matrix: Any
        if group["fisher"] == "empirical":
            matrix = EmpiricalFisher(closure, params=names, how=how)
        else:
            drawn = group["samples"] if group["fisher"] == "monte-carlo" else None
            matrix = Fisher(closure, drawn, self._seed(group), params=names, how=how)
        params = [closure.params[i] for i in kept]
        old = [self.state.get(p, {}).get("direction") for p in params]
        start = torch.cat([torch.zeros_like(p).reshape(-1) if d is None else d.reshape(-1)
                           for p, d in zip(params, old, strict=True)])  # fmt: skip
        try:
            solved = kept_iterates(
                lambda v: (matrix @ v).to(v) + damping * v,
                g,
                start if bool(start.any()) else None,
                progress=group["progress"],
                most=group["iterations"],
            )
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{type(self).__name__}.step(): a product with the Fisher matrix is NaN or "
                f"infinite at call {self._calls} of step(); the parameters are as they were "
                "before it."
            ) from error
        flat = solved.points[-1]
        for p, part in zip(params, flat.split([p.numel() for p in params]), strict=True):
            self.state[p]["direction"] = part.view_as(p).clone()
        return flat, {"products": float(solved.products)}


def _damping(group: Group) -> float:
    return float(group["damping"] * group.get("raised", 1.0))
