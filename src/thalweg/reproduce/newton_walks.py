"""What the experiments on Newton's methods share: the points of a run with exact curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.objective import Objective


__all__ = ["Method", "follow"]

Method = Callable[[list[Tensor]], Any]


def follow(
    fn: Callable[[Tensor], Tensor],
    start: Tensor,
    method: Method,
    steps: int,
    until: float = -math.inf,
) -> Tensor:
    """The points that a method visits on a function, [steps + 1, n], the start first.

    Products with the Hessian are exact. It ends early where the function is at most ``until``.

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
        if until > -math.inf and float(fn(points[-1])) <= until:
            break
    return torch.stack(points)
