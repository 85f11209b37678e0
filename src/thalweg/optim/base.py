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
import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, Self, final

import torch
from torch import Tensor, nn

from thalweg.errors import Domain, NonFiniteError, closest
from thalweg.optim.metadata import Common, Cost, Needs, Range, Reference, Slot
from thalweg.vectors import Vector


__all__ = ["AbstractOptimizer", "Path", "Piece", "Point", "Ray", "StepInfo"]

Group = dict[str, Any]


@dataclass(frozen=True)
class StepInfo:
    """What the last step did, to be looked at; nothing depends on it.

    Args:
        step_length: The scalar picked along the path (the first group's learning rate, or t).
        rejected: Whether the step was refused and the parameters left as they were.
        details: Whatever else the method has to tell: damping, ratio, products, ...
    """

    step_length: float | None = None
    rejected: bool = False
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """What is known where the optimizer stands.

    Args:
        loss: The loss, where a closure was given.
        closure: The closure, for methods that ask more of it.
        groups: The optimizer's parameter groups.
    """

    loss: Any
    closure: Callable[[], Any] | None
    groups: list[Group]

    @functools.cached_property
    def params(self) -> Vector:
        """The parameters that have a gradient."""
        return Vector(p for g in self.groups for p in g["params"] if p.grad is not None)

    @functools.cached_property
    def grads(self) -> Vector:
        """Their gradients."""
        return Vector(p.grad for p in self.params)


class Path(Protocol):
    """A scalar to a step: the Vector to be added to the parameters."""

    def __call__(self, t: float) -> Vector:
        """The step at ``t``; no step at 0."""
        ...


class Piece(NamedTuple):
    """A part of a direction: for one tensor, or for many at once."""

    group: Group
    params: Any  # Tensor | Vector
    direction: Any  # Tensor | Vector


@final
class Ray:
    """The path t -> -t u, whose direction u is computed piece by piece as it is walked.

    A first-order step never holds more of u than one piece, so its memory and its caches see what
    torch's own loops see. Called as a path, the ray computes all of u once and keeps it.
    """

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces: Iterator[Piece] | list[Piece] = pieces

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)

    def __call__(self, t: float) -> Vector:
        """The step -t u."""
        self._pieces = list(self._pieces)
        parts: list[Tensor] = []
        for piece in self._pieces:
            parts.extend(
                [piece.direction] if isinstance(piece.direction, Tensor) else piece.direction
            )
        return Vector(parts) * -t


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
                "`objective.closure(x, y)`, or a function that computes the loss, calls backward and "
                "returns the loss."
            )
        point = self.evaluate(closure)
        self.info = self.advance(point, self.descend(point))
        return point.loss

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Look: by default call the closure, or take the gradients that are there."""
        return Point(self.call(closure), closure, self.param_groups)

    @abstractmethod
    def descend(self, point: Point) -> Any:
        """Point: the path from here."""

    def advance(self, point: Point, path: Any) -> StepInfo:
        """Go: by default each group's learning rate, and its decay where that is decoupled."""
        del point
        for group, params, direction in path:
            rate = float(group["lr"])
            if group["decoupled_weight_decay"] and group["weight_decay"]:
                params.mul_(1 - rate * group["weight_decay"])
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
    def add_param_group(self, param_group: Group) -> None:
        """Add a group; what it does not name it takes from the defaults.

        Raises:
            ValueError: If one of its hyper-parameters is outside its domain.
        """
        if isinstance(param_group, dict):
            check_group(type(self), param_group)
        super().add_param_group(param_group)

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


@functools.cache
def argument_names(cls: type) -> tuple[str, ...]:
    """The keywords that a method's constructor takes."""
    names: list[str] = []
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            names.extend(Common.__annotations__)
        elif name != "self":
            names.append(name)
    return tuple(names)


@functools.cache
def domains(cls: type) -> dict[str, Domain]:
    """The domain of each hyper-parameter, those of the base classes included."""
    merged: dict[str, Domain] = {}
    for base in reversed(cls.__mro__):
        merged |= vars(base).get("hyperparameters", {})
    return merged


def check_group(cls: type, group: Group) -> None:
    """Check the hyper-parameters in a group, and its names for near misses.

    Raises:
        ValueError: If a value is outside its domain.
        TypeError: If a name is all but one of the method's own.
    """
    known = domains(cls)
    for name, value in group.items():
        if name in known:
            known[name].check(cls.__name__, name, value)
        elif (nearest := closest(name, known, cutoff=0.85)) is not None:
            raise TypeError(
                f"{cls.__name__}({name}=...): unknown key in a parameter group. "
                f"Did you mean {nearest!r}?"
            )


def tensors_with_grad(groups: Iterable[Group]) -> Iterator[tuple[Group, Tensor]]:
    """Each parameter that has a gradient, with its group."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                yield group, p
