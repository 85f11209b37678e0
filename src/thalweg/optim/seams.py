"""What flows between the three seams of a step: a point, a path from it, and what was done."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, final

from torch import Tensor

from thalweg.vectors import Vector


__all__ = [
    "Deferred",
    "Group",
    "Path",
    "Piece",
    "Point",
    "Quotient",
    "Ray",
    "Scaled",
    "State",
    "StepInfo",
    "tensors_with_grad",
]

Group = dict[str, Any]


@dataclass(frozen=True)
class StepInfo:
    """What the last step did, to be looked at; nothing depends on it.

    Args:
        step_length: The scalar picked along the path (the first group's learning rate, or t).
        rejected: Whether the step was refused and the parameters left as they were.
        details: Whatever else the method has to tell: damping, ratio, products, ...
        outcome: "moved"; or, of methods that judge their own steps, "stationary", "no progress"
            or "failed".

    Example:
        >>> StepInfo(step_length=0.1).rejected
        False
    """

    step_length: float | None = None
    rejected: bool = False
    details: dict[str, float] = field(default_factory=dict)
    outcome: str = "moved"


@dataclass(frozen=True)
class Point:
    """What is known where the optimizer stands.

    Args:
        loss: The loss, where a closure was given.
        closure: The closure, for methods that ask more of it.
        groups: The optimizer's parameter groups.

    Example:
        >>> import torch
        >>> p = torch.ones(2, requires_grad=True)
        >>> p.sum().backward()
        >>> Point(None, None, [{"params": [p]}]).grads[0]
        tensor([1., 1.])
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
        return Vector(p.grad for p in self.params if p.grad is not None)


class Path(Protocol):
    """A scalar to a step: the Vector to be added to the parameters."""

    def __call__(self, t: float) -> Vector:
        """The step at ``t``; no step at 0."""
        ...


class Quotient(NamedTuple):
    """A direction over / under, entry by entry, that is divided where it is added: one pass less.

    Example:
        >>> import torch
        >>> Quotient(torch.ones(2), torch.full((2,), 4.0), 2.0).value()
        tensor([0.5000, 0.5000])
    """

    over: Any  # Tensor | Vector
    under: Any  # Tensor | Vector
    factor: float = 1  # of the whole; the integer where there is none, at no step

    def value(self) -> Any:
        """The direction, divided."""
        divided = self.over.div(self.under)
        return divided if isinstance(self.factor, int) else divided * self.factor


@final
class State:
    """What a rule keeps of a parameter, as it reads it: ``state.exp_avg``, and ``vars`` of it.

    Args:
        slots: The slots by name; they become the attributes.
        step: The count of updates, this one included.
        fresh: Whether the slots are new.

    Example:
        >>> state = State({"exp_avg": 0.5}, step=2.0)
        >>> state.exp_avg, state.step, vars(state)
        (0.5, 2.0, {'exp_avg': 0.5})
    """

    __slots__ = ("__dict__", "fresh", "step")  # so that only slots are in vars

    def __init__(self, slots: dict[str, Any], step: float = 0.0, fresh: bool = False) -> None:
        self.__dict__ = slots
        self.step = step
        self.fresh = fresh


class Scaled(NamedTuple):
    """A direction with a factor of its own, that is taken where it is added: one pass less.

    Example:
        >>> import torch
        >>> Scaled(torch.ones(2), 0.2).value()
        tensor([0.2000, 0.2000])
    """

    direction: Any  # Tensor | Vector, of any type that can be added to the parameter
    factor: float

    def value(self) -> Any:
        """The direction, scaled."""
        return self.direction * self.factor


class Deferred(NamedTuple):
    """A direction that is found, scaled, decayed and walked in one pass, by compiled code.

    Example:
        >>> Deferred(lambda: print("moved")).move()
        moved
    """

    move: Callable[[], None]


class Piece(NamedTuple):
    """A part of a direction: for one tensor, or for many at once.

    Example:
        >>> import torch
        >>> Piece({"lr": 0.1}, torch.zeros(2), torch.ones(2)).direction
        tensor([1., 1.])
    """

    group: Group
    params: Any  # Tensor | Vector
    direction: Any  # Tensor | Vector | Quotient | Scaled


@final
class Ray:
    """The path t -> -t u, whose direction u is computed piece by piece as it is walked.

    A first-order step never holds more of u than one piece, so its memory and its caches see what
    torch's own loops see. Called as a path, the ray computes all of u once and keeps it.

    Example:
        >>> import torch
        >>> ray = Ray(iter([Piece({}, torch.zeros(2), torch.ones(2))]))
        >>> ray(0.5)[0]
        tensor([-0.5000, -0.5000])
    """

    def __init__(self, pieces: Iterator[tuple[Group, Any, Any]]) -> None:
        self._pieces: Iterable[tuple[Group, Any, Any]] = pieces  # Piece, or as plain a tuple

    def __iter__(self) -> Iterator[tuple[Group, Any, Any]]:
        return iter(self._pieces)

    def __call__(self, t: float) -> Vector:
        """The step -t u."""
        self._pieces = list(self._pieces)
        parts: list[Tensor] = []
        for _, _, direction in self._pieces:
            if isinstance(direction, Deferred):
                raise TypeError("Ray: a compiled step has no direction apart; set compile=False.")
            u = direction.value() if isinstance(direction, (Quotient, Scaled)) else direction
            parts.extend([u] if isinstance(u, Tensor) else u)
        return Vector(parts) * -t


def tensors_with_grad(groups: Iterable[Group]) -> Iterator[tuple[Group, Tensor]]:
    """Each parameter that has a gradient, with its group."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                yield group, p
