"""One lifecycle for every method: ``step = advance . descend . evaluate``.

* ``evaluate(closure)`` looks: it returns a :class:`Point` (a loss, gradients).
* ``descend(point)`` points: it returns a path, a function from one scalar to a step.
* ``advance(point, path)`` goes: it picks the scalar (a learning rate, a line search's step, a trust
  radius, a damping), moves the parameters and says in a :class:`StepInfo` what it did.

A method fills one or two of the three. The rest of what torch asks of an optimizer (groups,
schedulers, hooks, checkpoints, copies) stands here once.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from thalweg.errors import Domain, NonFiniteError, closest
from thalweg.optim.arguments import argument_names, check_group
from thalweg.optim.metadata import Cost, Needs, Range, Reference, Slot
from thalweg.optim.seams import Deferred, Group, Point, Quotient, Scaled, StepInfo


__all__ = ["AbstractOptimizer"]


class AbstractOptimizer(torch.optim.Optimizer, ABC):
    """A drop-in ``torch.optim.Optimizer`` made of three seams.

    Args:
        params: Parameters, groups or named parameters, as torch takes them.
        defaults: Every hyper-parameter with its value. Plain data: they live in the groups, where
            schedulers, checkpoints and copies find them.

    Raises:
        ValueError: If a hyper-parameter is outside its domain.
        TypeError: If an argument's name is unknown, or a model is passed for its parameters.
    """

    needs: ClassVar[Needs]
    reference: ClassVar[Reference]
    slots: ClassVar[tuple[Slot, ...]] = ()
    cost: ClassVar[Cost] = Cost()
    space: ClassVar[dict[str, Range]]
    hyperparameters: ClassVar[dict[str, Domain]] = {}
    evaluation_slot: ClassVar[str | None] = None

    info: StepInfo
    inner: torch.optim.Optimizer | None = None  # whose groups and state these are, if not its own

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Refuse misspelt names in our message form, before anything is made."""
        del args
        for name in options:
            if name not in argument_names(cls):
                nearest = closest(name, argument_names(cls))
                hint = f" Did you mean {nearest!r}?" if nearest else ""
                known = ", ".join(argument_names(cls))
                raise TypeError(
                    f"{cls.__name__}({name}=...): unknown argument.{hint} Known: {known}."
                )
        return super().__new__(cls)

    def __init__(self, params: Any, defaults: Group) -> None:
        if isinstance(params, nn.Module):
            name = type(self).__name__
            raise TypeError(f"{name}(params={type(params).__name__}): pass model.parameters().")
        check_group(type(self), defaults)
        self.info = StepInfo()
        self._calls = 0
        super().__init__(params, defaults)

    # ---- the lifecycle --------------------------------------------------------------------
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Re-evaluates the model and returns the loss: torch's, or ``objective.closure``.
                Methods that need gradients only also work after ``loss.backward()``.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: If the method needs a closure and none is given.
            NonFiniteError: If the loss is NaN or infinite; the parameters are as they were.
        """
        self._calls += 1
        if closure is None and self.needs not in {Needs.GRADIENT, Needs.LAYERS}:
            raise TypeError(
                f"{type(self).__name__}.step(): this method needs {self.needs.value}. Pass "
                "`objective.closure(x, y)`, or a function that computes the loss, calls backward "
                "and returns the loss."
            )
        point = self.evaluate(closure)
        loss = point.loss  # where the step began, whatever it accepts
        self.info = self.advance(point, self.descend(point))
        return loss

    def evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """Look: by default call the closure, or take the gradients that are there."""
        return Point(self.call(closure), closure, self.param_groups)

    @abstractmethod
    def descend(self, point: Any) -> Any:
        """Point: the path from here."""

    def advance(self, point: Any, path: Any) -> StepInfo:
        """Go: by default each group's learning rate, and its decay where that is decoupled."""
        del point
        last: Group | None = None
        rate = kept = 1.0
        for group, params, direction in path:
            kind = type(direction)
            if kind is Deferred:
                direction.move()
                continue
            if group is not last:
                last, rate = group, float(group["lr"])
                kept = 1 - rate * group["weight_decay"] if group["decoupled_weight_decay"] else 1.0
            if kept != 1.0:
                params.mul_(kept)
            if kind is Quotient:
                factor = -rate * direction.factor
                params.addcdiv_(direction.over, direction.under, value=factor)
            elif kind is Scaled:
                params.add_(direction.direction, alpha=-(rate * direction.factor))
            else:
                params.add_(direction, alpha=-rate)
        return StepInfo(step_length=float(self.param_groups[0]["lr"]))

    @final
    def call(self, closure: Callable[[], Any] | None) -> Any:
        """Call the closure with autograd on, and refuse a loss that is not finite."""
        if closure is None:
            return None
        with torch.enable_grad():
            loss = closure()
        # Detached: torch warns where the number of a leaf that requires a gradient is read.
        number = float(loss.detach() if isinstance(loss, Tensor) else loss or 0.0)
        if not math.isfinite(number):
            raise NonFiniteError(
                f"{type(self).__name__}.step(): the loss is {number} at call {self._calls} of "
                "step(); the parameters are as they were before it. Try a smaller learning rate."
            )
        return loss

    @final
    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Hold the weights that are meant to be evaluated (an average, say) in the model.

        Most methods evaluate where they stand, and this does nothing.
        """
        slot = self.evaluation_slot
        held = [(p, s[slot]) for p, s in self.state.items() if slot is not None and slot in s]
        saved = [p.detach().clone() for p, _ in held]
        with torch.no_grad():
            for p, weights in held:
                p.copy_(weights)
        try:
            yield
        finally:
            with torch.no_grad():
                for (p, _), before in zip(held, saved, strict=True):
                    p.copy_(before)

    # ---- torch's contract -----------------------------------------------------------------
    @final
    def add_param_group(self, param_group: Group) -> None:
        """Add a group; what it does not name it takes from the defaults.

        Raises:
            ValueError: If one of its hyper-parameters is outside its domain.
        """
        if isinstance(param_group, dict):
            check_group(type(self), param_group, self.inner)
        if self.inner is None:
            super().add_param_group(param_group)
        else:
            self.inner.add_param_group(param_group)
            for name, value in self.defaults.items():
                self.param_groups[-1].setdefault(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but hooks, so that copies and pickles step like the original."""
        kept = {k: v for k, v in vars(self).items() if not k.startswith("_optimizer_")}
        kept.pop("step", None)  # schedulers patch it onto the instance
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, with its own memory and whatever defaults it lacks."""
        if "state" in state:
            state = {**state, "state": owned(state["state"])}
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)


def owned(state: Mapping[Any, Any]) -> defaultdict[Any, Any]:
    """A copy of an optimizer's state that shares no memory with it (torch's loader would)."""
    return defaultdict(dict, {p: copy.deepcopy(slots) for p, slots in state.items()})
