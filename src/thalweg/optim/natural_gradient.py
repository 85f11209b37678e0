"""The natural gradient: the gradient divided by the whole damped Fisher matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from thalweg.curvature import EmpiricalFisher, Fisher, How
from thalweg.curvature.fisher_rows import fisher_rows
from thalweg.errors import NON_NEGATIVE, POSITIVE, Domain, NonFiniteError, integer_from, one_of
from thalweg.numerics.conjugate_gradient import conjugate_gradient
from thalweg.objective import AbstractClosure
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.metadata import Cost, Needs, Range, Reference, Slot
from thalweg.optim.seams import Group, Point, StepInfo


__all__ = ["NaturalGradient", "NaturalOptions"]

_ENTRIES = 2**27  # of the matrix of rows at most
_ROWS = 256  # more rows than this are dearer to solve with than products are
_STEPS = 7919  # between the seeds of two steps' draws


@final
@dataclass(frozen=True)
class NaturalOptions:
    """What few want to change.

    Args:
        samples: Draws of labels for the Monte-Carlo Fisher matrix.
        solver: ``"samples"`` (exactly, in the space of samples), ``"cg"``, or ``"auto"``: the first
            where there are at most 256 rows, fewer than parameters, and samples can be taken apart.
        tolerance: Of conjugate gradients: the residual over the gradient's length.
        iterations: Of conjugate gradients at most.
        weight_decay: Decoupled decay, >= 0.
        seed: Of the draws.

    Example:
        >>> NaturalOptions(solver="cg").as_group()["iterations"]
        50
    """

    samples: int = 1
    solver: str = "auto"
    tolerance: float = 1e-4
    iterations: int = 50
    weight_decay: float = 0.0
    seed: int = 0

    def as_group(self) -> dict[str, Any]:
        """As hyper-parameters of a group."""
        return dict(vars(self))


class _Direction(NamedTuple):
    params: list[Tensor]
    flat: Tensor
    length: float  # d'Fd
    details: dict[str, float]


@final
class NaturalGradient(AbstractOptimizer):
    r"""Step along the gradient in the metric of predictions, within a trust region of them.

    The direction is :math:`d = (F + \lambda I)^{-1} g`, with F the Fisher matrix.

    .. math:: \theta \leftarrow \theta - \eta\,s\,d, \qquad
        s = \min\Bigl(1, \sqrt{2r / (\eta^2 d^\top F d)}\Bigr),

    with F the Fisher matrix of the batch and :math:`\tfrac12 \delta^\top F \delta` the
    Kullback-Leibler divergence between the predictions before and after a small step
    :math:`\delta`, kept to the radius r. Where the batch gives fewer rows R of F = R'R than there
    are parameters, the solve is exact in their space,

    .. math:: d = \tfrac1\lambda\bigl(g - R^\top (\lambda I + R R^\top)^{-1} R g\bigr);

    otherwise conjugate gradients take products with F, from the last direction on. A group's
    ``damping`` holds for its parameters.

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
    cost: ClassVar[Cost] = Cost(gradients=1.0, products=50.0)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-2, 1.0), "damping": Range(1e-4, 1.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "lr": NON_NEGATIVE,
        "damping": POSITIVE,
        "radius": NON_NEGATIVE,
        "fisher": one_of("exact", "monte-carlo", "empirical"),
        "samples": integer_from(1),
        "solver": one_of("auto", "cg", "samples"),
        "tolerance": NON_NEGATIVE,
        "iterations": integer_from(1),
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
            return _Direction([], torch.zeros(0), 0.0, {})
        # The gradient as it is now: clipped, say, or with a penalty's added.
        g = torch.cat([p.grad.reshape(-1) for p in params if p.grad is not None])
        damping = torch.cat([g.new_full((p.numel(),), mine[id(p)]["damping"]) for p in params])
        rows = self._rows(closure, kept, len(g), first)
        if rows is not None:
            flat, length = _in_sample_space(rows.to(g), g, damping)
            return _Direction(params, flat, length, {"rows": float(len(rows))})
        return self._by_products(closure, kept, g, damping)

    def advance(self, point: Point, path: _Direction) -> StepInfo:
        """The learning rate, shortened to the trust region."""
        first = self.param_groups[0]
        rate = float(first["lr"])
        divergence = 0.5 * rate**2 * path.length
        radius, share = first["radius"], 1.0
        if radius and divergence > radius:
            share = (radius / divergence) ** 0.5
        rates = {id(p): g for g in self.param_groups for p in g["params"]}
        parts = path.flat.split([p.numel() for p in path.params]) if path.params else []
        for p, part in zip(path.params, parts, strict=True):
            group = rates[id(p)]
            if group["weight_decay"]:
                p.mul_(1 - float(group["lr"]) * group["weight_decay"])
            p.add_(part.view_as(p), alpha=-float(group["lr"]) * share)
        first["steps"] = first.get("steps", 0) + 1
        return StepInfo(rate * share, details={"kl": share**2 * divergence, **path.details})

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
    ) -> _Direction:
        group = self.param_groups[0]
        names, how = [closure.names[i] for i in kept], How(borrow=True, check=False)
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
        solved = conjugate_gradient(
            lambda v: (matrix @ v).to(v) + damping * v,
            g,
            start if bool(start.any()) else None,
            group["tolerance"],
            group["iterations"],
        )
        if not bool(solved.x.isfinite().all()):
            raise NonFiniteError(
                f"{type(self).__name__}.step(): the direction is NaN or infinite at call "
                f"{self._calls} of step(); the parameters are as they were before it."
            )
        for p, part in zip(params, solved.x.split([p.numel() for p in params]), strict=True):
            self.state[p]["direction"] = part.view_as(p).clone()
        # F d = g - r - damping d.
        length = float((solved.x * (g - solved.residual - damping * solved.x)).sum())
        details = {"products": float(solved.iterations), "converged": float(solved.converged)}
        return _Direction(params, solved.x, max(length, 0.0), details)


def _in_sample_space(rows: Tensor, g: Tensor, damping: Tensor) -> tuple[Tensor, float]:
    """(D + R'R)^-1 g with a diagonal D by Woodbury's identity, and d'R'Rd, in float64."""
    r, g64, inverse = rows.double(), g.double(), damping.double().reciprocal()
    scaled = r * inverse
    small = scaled @ r.T
    small.diagonal().add_(1.0)
    weights = torch.linalg.solve(small, scaled @ g64)
    d = g64 * inverse - scaled.T @ weights
    return d.to(g), float((r @ d).square().sum())
