"""Walks of methods that take products with the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.objective import Objective


__all__ = ["curved_walk"]


def curved_walk(
    fn: Callable[[Tensor], Tensor],
    start: Tensor,
    make: Callable[[list[Tensor]], Any],
    steps: int,
) -> Tensor:
    """The points that an optimizer visits with an objective's closure, the start first.

    Example:
        >>> from thalweg.optim import AdaHessian
        >>> method = lambda p: AdaHessian(p, lr=1.0, betas=(0.0, 0.9))
        >>> curved_walk(lambda x: (3 * x**2).sum(), torch.tensor([4.0]), method, 1).flatten()
        tensor([4., 0.])
    """
    point = nn.Parameter(start.clone())
    optimizer, closure = make([point]), Objective.of(fn).closure(point)
    path = [start.clone()]
    for _ in range(steps):
        optimizer.step(closure)
        path.append(point.detach().clone())
    return torch.stack(path)
