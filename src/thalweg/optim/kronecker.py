"""The lifecycle that K-FAC and EKFAC share: layers heard, directions solved for, a step taken."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from thalweg.errors import FRACTION, NON_NEGATIVE, POSITIVE, Domain, NonFiniteError, integer_from
from thalweg.objective import AbstractClosure
from thalweg.optim.adamw import AdamW
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.kfac_factors import (
    FISHERS,
    INTERVALS,
    SHARE,
    KFACOptions,
    blocks_of,
    precondition,
    refresh_inverses,
)
from thalweg.optim.kfac_listener import Found, Listener
from thalweg.optim.kfac_model import adapt_damping, quadratic_step
from thalweg.optim.metadata import Cost, Needs, Range
from thalweg.optim.seams import Group, Point, State, StepInfo
from thalweg.vectors import Vector


__all__ = ["AbstractKronecker"]

Directions = dict[Tensor, Tensor]


class AbstractKronecker(AbstractOptimizer):
    """A gradient preconditioned layer by layer, by what two factors know of the Fisher matrix.

    What the factors are learned into is left to the methods (:class:`~thalweg.optim.KFAC`,
    :class:`~thalweg.optim.EKFAC`); hearing the layers, solving, the step and its damping stand here
    once.

    The arguments, one by one, are explained at :class:`~thalweg.optim.KFAC`.

    Raises:
        ValueError: If a value is outside its range.
        TypeError: If ``model`` is not a module.
    """

    needs: ClassVar[Needs] = Needs.LAYERS
    cost: ClassVar[Cost] = Cost(gradients=1.2)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 1.0), "damping": Range(1e-4, 1.0)}
    keeps_rows: ClassVar[bool] = False  # whether learning takes the records themselves
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "lr": NON_NEGATIVE,
        "momentum": FRACTION,
        "damping": POSITIVE,
        "decay": FRACTION,
        "intervals": INTERVALS,
        "weight_decay": NON_NEGATIVE,
        "fisher": FISHERS,
        "samples": integer_from(1),
        "fallback_lr": NON_NEGATIVE,
        "share": SHARE,
        "constraint": NON_NEGATIVE,
        "seed": integer_from(0),
    }

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.03,
        momentum: float = 0.9,
        damping: float = 3e-3,
        decay: float = 0.95,
        intervals: tuple[int, int] = (10, 100),
        weight_decay: float = 0.0,
        options: KFACOptions | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"{type(self).__name__}(model={type(model).__name__}): pass the model itself; its "
                "layers are needed."
            )
        chosen = options or KFACOptions()
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "decay": decay,
            "intervals": tuple(intervals) if isinstance(intervals, list) else intervals,
            "weight_decay": weight_decay,
            **chosen.as_group(),
        }
        self.loss_fn = chosen.loss_fn
        self.uncovered: list[str] = []
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        super().__init__([{"params": [p for _, p in named]}], defaults)
        self.names = [name for name, _ in named]
        self._listener = Listener(model, self)
        self._tangents: dict[str, str] = {}
        self._said = self.said_empirical = False

    @abstractmethod
    def learn(self, found: Found, group: Group, renew: bool) -> set[int]:
        """Take a batch's factors into the state.

        Args:
            found: The factors, and the records where ``keeps_rows``.
            group: The hyper-parameters, with the parameters that keys count.
            renew: Whether inverses, or eigenvectors, are due at this step.

        Returns:
            The indices of the parameters that have factors.
        """

    # ---- the seams ------------------------------------------------------------------------
    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Look at the loss; at the factors too, when it is time."""
        if len(self.param_groups) != 1:
            raise ValueError(
                f"{self._name}.step(): a layer cannot be split, so there is one group only."
            )
        group = self.param_groups[0]
        due = self.factors_due()
        if isinstance(closure, AbstractClosure) and closure.batches[0].loss_fn is not None:
            with self._listener.silent():
                loss = self.call(closure)
                self._check_gradients(group)
                found = self._listener.from_closure(closure, self.steps) if due else None
        else:
            loss = self.call(closure)
            self._check_gradients(group)
            found = self._listener.collected() if due else None
        if found is not None:
            self._take(found, group)
        group["steps"] = self.steps + 1
        return Point(loss, closure, self.param_groups)

    def descend(self, point: Point) -> Directions:
        """The preconditioned gradient of each parameter."""
        directions: Directions = {}
        (group,) = point.groups
        due = self._inverses_due(self.steps - 1) or group.pop("rejected", False)
        for (weight, bias), block in blocks_of(self.state, group["params"]):
            if weight.grad is None:
                continue
            if due or "left" not in block:
                refresh_inverses(block, group["damping"])
            precondition(block, weight, bias, directions)
        if not group["quadratic_model"]:
            self._constrain(directions, group)
        return directions

    def advance(self, point: Point, path: Directions) -> StepInfo:
        """Momentum and learning rate, or both from the quadratic model."""
        (group,) = point.groups
        rate, momentum, details = float(group["lr"]), group["momentum"], {}
        model: Any = group["quadratic_model"] or group["adaptive_damping"]
        closure = point.closure if isinstance(point.closure, AbstractClosure) else None
        before: list[Tensor] = []
        if model and closure is not None and path:
            before = [p.clone() for p in group["params"]]
            last = {p: self._of(p).get("last") for p in path}
            with self._listener.silent():
                known = self._tangents
                rate, momentum, details = quadratic_step(closure, path, last, group, known)
        for p in group["params"]:
            if p.grad is None:
                continue
            decayed = group["lr"] if p in path else group["fallback_lr"]
            if group["weight_decay"]:
                p.mul_(1 - float(decayed) * group["weight_decay"])
            if p not in path:
                self._fall_back(p, group)
        self._walk(path, rate, momentum)
        kept = True
        if before and closure is not None:
            with self._listener.silent():
                kept = adapt_damping(closure, point.loss, details, group, self.steps)
            if not kept:
                self._go_back(before, path, group)
        details["damping"] = float(group["damping"])
        return StepInfo(step_length=rate, rejected=not kept, details=details)

    # ---- what they are made of ------------------------------------------------------------
    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self.param_groups[0].get("steps", 0)

    def factors_due(self) -> bool:
        """Whether the next step renews the factors."""
        return self.steps % self.param_groups[0]["intervals"][0] == 0

    def _inverses_due(self, step: int) -> bool:
        """At every interval; before the first also after 1, 2, 4, ... looks."""
        looks, inverses = self.param_groups[0]["intervals"]
        looked, rest = divmod(step, looks)
        early = rest == 0 and looked.bit_count() == 1 and step < inverses
        return early or step % inverses == 0

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _of(self, p: Tensor) -> Group:
        return self.state.get(p, {})  # indexed, it would make what it is asked for

    def _check_gradients(self, group: Group) -> None:
        if any(p.grad is not None and p.grad.is_sparse for p in group["params"]):
            raise TypeError(
                f"{self._name}.step(): sparse gradients are not supported; densify them."
            )

    def _take(self, found: Found, group: Group) -> None:
        params, known = group["params"], any("blocks" in s for s in self.state.values())
        if not found.factors and not found.refused and not known:
            raise RuntimeError(
                f"{self._name}.step(): no layer was seen. Call the model in train mode, with "
                "gradients on, before loss.backward(); or pass objective.closure(x, y)."
            )
        sums = [f.outputs.sum() + f.inputs.sum() for f in found.factors.values()]
        if not all(bool(s.isfinite()) for s in sums):
            raise NonFiniteError(
                f"{self._name}.step(): a factor is NaN or infinite at call {self._calls} of "
                "step(); the parameters are as they were before it."
            )
        covered = self.learn(found, group, self._inverses_due(self.steps))
        left = [i for i, p in enumerate(params) if i not in covered and p.grad is not None]
        self.uncovered = [self.names[i] for i in left]
        if left and not self._said:
            self._said = True
            names = ", ".join(self.uncovered)
            warnings.warn(
                f"{self._name}: {names} have no Kronecker factors (see uncovered): "
                f"AdamW moves them, at fallback_lr={group['fallback_lr']}.",
                UserWarning,
                stacklevel=2,
            )

    def _go_back(self, before: list[Tensor], path: Directions, group: Group) -> None:
        """Undo a step that the loss refused; the next one starts without momentum."""
        for p, old in zip(group["params"], before, strict=True):
            p.copy_(old)
        for p in path:
            self.state[p]["last"].zero_()
        group["rejected"] = True  # so that inverses are renewed at the larger damping

    def _constrain(self, directions: Directions, group: Group) -> None:
        """Shorten all directions where the step's length in the metric would exceed the limit."""
        if not group["constraint"]:
            return
        pairs = [(u, p.grad) for p, u in directions.items() if p.grad is not None]
        parts = [_inner(u, grad) for u, grad in pairs]
        inner = float(torch.stack(parts).sum()) if parts else 0.0
        length = float(group["lr"]) ** 2 * inner
        if length > group["constraint"]:
            for u in directions.values():
                u.mul_((group["constraint"] / length) ** 0.5)

    def _walk(self, path: Directions, rate: float, momentum: float) -> None:
        """Momentum and step: tensor by tensor, and on accelerators all of a type at once."""
        entries: list[tuple[Any, Any, Any]] = []
        for p, direction in path.items():
            stored = self.state[p]
            if "last" not in stored:
                stored["last"] = torch.zeros_like(p)
            entries.append((p, stored["last"], direction))
        for p, last, direction in _joined(entries):
            p.add_(last.mul_(momentum).add_(direction, alpha=-rate))

    def _fall_back(self, p: Tensor, group: Group) -> None:
        """AdamW's own rule, for what has no factors."""
        stored = self.state[p]
        for name in ("exp_avg", "exp_avg_sq"):
            stored.setdefault(name, torch.zeros_like(p))
        stored["step"] = stored.get("step", torch.tensor(0.0)) + 1
        slots = {name: stored[name] for name in ("exp_avg", "exp_avg_sq")}
        nobody: Any = None
        ruled = {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "lr": group["fallback_lr"]}
        quotient = AdamW.update(nobody, p.grad, p, State(slots, float(stored["step"])), ruled)
        rate = group["fallback_lr"] * quotient.factor
        p.addcdiv_(quotient.over, quotient.under, value=-rate)


def _joined(entries: list[tuple[Any, Any, Any]]) -> list[tuple[Any, Any, Any]]:
    """The entries as they are on a CPU; elsewhere those of one type and device as Vectors."""
    alike: dict[Any, list[tuple[Any, Any, Any]]] = {}
    for entry in entries:
        alike.setdefault((entry[0].device, entry[0].dtype), []).append(entry)
    found: list[tuple[Any, Any, Any]] = []
    for (device, _), own in alike.items():
        first, second, third = zip(*own, strict=True)
        joined = (Vector(first), Vector(second), Vector(third))
        found += own if device.type == "cpu" else [joined]
    return found


def _inner(u: Tensor, grad: Tensor) -> Tensor:
    """The inner product: for a limit, in which a few digits are enough."""
    if u.dtype is grad.dtype and u.element_size() > 2:
        return torch.dot(u.reshape(-1), grad.reshape(-1)).double()
    return (u * grad).sum(dtype=torch.float64)
