"""How a closure is evaluated where the optimizer does not stand.

One of our closures is a pure function and is evaluated anywhere. Any other of torch's moves the
live parameters there and back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, final

import torch
from torch import Tensor

from thalweg.objective import AbstractClosure, Attempt
from thalweg.optim.products import Guarded
from thalweg.vectors import Vector


__all__ = ["Counts", "Sight", "Trial", "Tried", "sight_of", "write"]

_REDUCED = (torch.bfloat16, torch.float16)


@final
@dataclass
class Counts:
    """What a method has asked for so far.

    Args:
        nfev: Values of the function, those that came with a gradient included.
        ngev: Gradients.
        nhvp: Products with a curvature matrix, or with a Jacobian or its transpose.

    Example:
        >>> Counts(nfev=2).as_dict()
        {'nfev': 2, 'ngev': 0, 'nhvp': 0}
    """

    nfev: int = 0
    ngev: int = 0
    nhvp: int = 0

    def as_dict(self) -> dict[str, int]:
        """As plain data."""
        return dict(vars(self))


class Tried(NamedTuple):
    """A value, and how the derivatives there are found without evaluating it again."""

    value: float
    gradient: Callable[[], Sequence[Tensor]]
    product: Callable[[Vector], Vector] | None  # after the gradient


class Sight(Protocol):
    """The function at points where nobody stands."""

    def attempt(self, name: str, parts: Sequence[Tensor]) -> Tried:
        """The function at a point, whose derivatives may be wanted later."""
        ...

    def value(self, parts: Sequence[Tensor]) -> float:
        """The value at a point."""
        ...

    def value_and_grad(self, parts: Sequence[Tensor]) -> tuple[float, Sequence[Tensor]]:
        """The value and the gradient at a point."""
        ...


@final
class _Pure:
    """One of our closures: evaluated anywhere without touching the model."""

    def __init__(self, closure: AbstractClosure, params: Sequence[Tensor]) -> None:
        self._closure, self._params = closure, params
        place = {id(p): i for i, p in enumerate(closure.params)}
        self._where = [place.get(id(p)) for p in params]
        self._whole = self._where == list(range(len(closure.params)))

    def _theta(self, parts: Sequence[Tensor]) -> Vector:
        if self._whole:
            return Vector(parts)
        theta = [p.detach() for p in self._closure.params]
        for i, part in zip(self._where, parts, strict=True):
            if i is not None:
                theta[i] = part
        return Vector(theta)

    def value(self, parts: Sequence[Tensor]) -> float:
        """The value at a point."""
        return float(self._closure.value(self._theta(parts)))

    def value_and_grad(self, parts: Sequence[Tensor]) -> tuple[float, Sequence[Tensor]]:
        """The value and the gradient at a point."""
        value, grads = self._closure.value_and_grad(self._theta(parts))
        return float(value), self._mine(grads, parts)

    def attempt(self, name: str, parts: Sequence[Tensor]) -> Tried:
        """The function at a point, whose derivatives may be wanted later."""
        if any(p.dtype in _REDUCED for p in self._params):  # products are taken in float32
            return Tried(self.value(parts), lambda: self.value_and_grad(parts)[1], None)
        point = Attempt(self._closure, self._theta(parts))
        product = Guarded(name, self._closure, self._params, lambda: point.products)
        return Tried(float(point.value), lambda: self._mine(point.gradient(), parts), product)

    def _mine(self, grads: Vector, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """The optimizer's part of a gradient; zeros where the closure has no such parameter."""
        if self._whole:
            return grads.tensors
        return [
            torch.zeros_like(part) if i is None else grads[i]
            for i, part in zip(self._where, parts, strict=True)
        ]


@final
class _Live:
    """Any closure of torch's: the parameters are moved there and exactly back for each call."""

    def __init__(self, closure: Callable[[], Any], params: Sequence[Tensor]) -> None:
        self._closure = closure
        self._params = params

    def value(self, parts: Sequence[Tensor]) -> float:
        """The value at a point."""
        return self.value_and_grad(parts)[0]

    def value_and_grad(self, parts: Sequence[Tensor]) -> tuple[float, Sequence[Tensor]]:
        """The value and the gradient at a point."""
        here = [p.detach().clone() for p in self._params]
        grads = [None if p.grad is None else p.grad.clone() for p in self._params]
        try:
            write(self._params, parts)
            with torch.enable_grad():
                loss = self._closure()
            found = [
                torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self._params
            ]
        finally:
            write(self._params, here)
            for p, grad in zip(self._params, grads, strict=True):
                p.grad = grad
        return float(loss.detach() if isinstance(loss, Tensor) else loss), found

    def attempt(self, name: str, parts: Sequence[Tensor]) -> Tried:
        """The function at a point; the gradient came with it."""
        value, found = self.value_and_grad(parts)
        return Tried(value, lambda: found, None)


@final
class Trial:
    """A point that is tried.

    Args:
        x: The point, flat.
        tried: The function there.
        join: Parts to a flat vector.
        counts: Where a gradient is counted.
    """

    def __init__(
        self, x: Tensor, tried: Tried, join: Callable[[Sequence[Tensor]], Tensor], counts: Counts
    ) -> None:
        self.x, self.fun, self.product = x, tried.value, tried.product
        self._gradient, self._join, self._counts = tried.gradient, join, counts
        self._grad: Tensor | None = None

    def grad(self) -> Tensor:
        """The gradient there, flat."""
        if self._grad is None:
            self._counts.ngev += 1
            self._grad = self._join(self._gradient())
        return self._grad


def sight_of(closure: Callable[[], Any], params: Sequence[Tensor]) -> Sight:
    """How a closure is evaluated away from the live parameters."""
    if isinstance(closure, AbstractClosure):
        return _Pure(closure, params)
    return _Live(closure, params)


def write(params: Sequence[Tensor], parts: Sequence[Tensor]) -> None:
    """Move live parameters to a point."""
    with torch.no_grad():
        for p, part in zip(params, parts, strict=True):
            p.copy_(part)
