"""What the experiments on Newton's methods share: the points of a run with exact curvature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.objective import Objective


__all__ = ["Method", "follow"]

Method = Callable[[list[Tensor]], Any]


def follow(fn: Callable[[Tensor], Tensor], start: Tensor, method: Method, steps: int) -> Tensor:
    """The points that a method visits on a function, [steps + 1, n], the start first.

    Products with the Hessian are exact.

    Example:
        >>> from thalweg.optim import Newton
        >>> start = torch.tensor([4.0, 2.0], dtype=torch.float64)
        >>> follow(lambda x: (x**2).sum(), start, Newton, 1)[-1].abs().max() < 1e-12
        tensor(True)
    """
    point = nn.Parameter(start.clone())
    optimizer, closure = method([point]), Objective.of(fn).closure(point)
    points = [start]
    for _ in range(steps):
        optimizer.step(closure)
        points.append(point.detach().clone())
    return torch.stack(points)
