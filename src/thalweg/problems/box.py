"""A function to be minimised over a box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


__all__ = ["BoundedProblem"]


@final
@dataclass(frozen=True)
class BoundedProblem:
    r"""A function to be minimised over a box :math:`l \le x \le u`.

    Args:
        name: What tables call it.
        fn: From a tensor of shape ``(n,)`` to a 0-dim tensor.
        start: Where methods start; not always in the box.
        lower: The lower bounds; ``-inf`` is no bound.
        upper: The upper bounds.
        minima: The values at the local solutions, the lowest first.
        reference: Where it is from.

    Example:
        >>> square = lambda x: (x**2).sum()
        >>> problem = BoundedProblem("corner", square, (2.0,), (1.0,), (3.0,), (1.0,), "an example")
        >>> problem.optimality(torch.ones(1)), problem.solved(1.0)
        (0.0, True)
    """

    name: str
    fn: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    minima: tuple[float, ...]
    reference: str

    def __call__(self, x: Tensor) -> Tensor:
        """The value at ``x``."""
        return self.fn(x)

    def point(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The start as a new tensor."""
        return torch.tensor(self.start, dtype=dtype)

    def bounds(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds as tensors."""
        return torch.tensor(self.lower, dtype=dtype), torch.tensor(self.upper, dtype=dtype)

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        lower, upper = self.bounds(x.dtype)
        return x.clamp(lower, upper)

    def optimality(self, x: Tensor) -> float:
        r""":math:`\lVert P(x - \nabla f(x)) - x \rVert_\infty`: zero at a solution."""
        leaf = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.fn(leaf), leaf)
        return float((self.project(leaf.detach() - gradient) - leaf.detach()).abs().max())

    def solved(self, value: float, tolerance: float = 1e-8, floor: float = 1e-6) -> bool:
        r"""Whether :math:`|f - f^*| \le \tau \max(|f^*|, \text{floor})`, as for least squares."""
        return any(abs(value - low) <= tolerance * max(abs(low), floor) for low in self.minima)
