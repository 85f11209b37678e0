"""What experiments on functions share: walking, agreement of two numbers, slopes with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from thalweg.reproduce.claims import Claim


__all__ = ["near", "slope", "walk"]


def walk(
    fn: Callable[[Tensor], Tensor],
    start: Tensor,
    make: Callable[[list[Tensor]], Any],
    steps: int,
    momentum: Callable[[int], float] | None = None,
) -> Tensor:
    """The points that an optimizer visits, [steps + 1, *start.shape], the start first.

    The sum of what ``fn`` returns is minimised, so that a method which works coordinate by
    coordinate may walk from many starts at once. ``momentum`` is that of step 1, 2, ... where
    it is not to stay as ``make`` sets it.

    Example:
        >>> from thalweg.optim import SGD
        >>> walk(lambda x: x**2, torch.tensor([4.0]), lambda p: SGD(p, lr=0.25), 2).flatten()
        tensor([4., 2., 1.])
    """
    point = nn.Parameter(start.clone())
    optimizer = make([point])

    def closure() -> Tensor:
        value = fn(point).sum()
        (point.grad,) = torch.autograd.grad(value, point)
        return value.detach()

    path = [start.clone()]
    for k in range(1, steps + 1):
        if momentum is not None:
            optimizer.param_groups[0]["momentum"] = momentum(k)
        optimizer.step(closure)
        path.append(point.detach().clone())
    return torch.stack(path)


def near(
    claim: str, source: str, expected: float, measured: float, tolerance: float = 1e-3
) -> Claim:
    """A claim that holds where two numbers agree to a tolerance relative to the expected one.

    Example:
        >>> near("a third", "arithmetic", 1 / 3, 0.3333).holds
        True
    """
    holds = abs(measured - expected) <= tolerance * abs(expected)
    wanted, found = (float(f"{value:.6g}") for value in (expected, measured))
    return Claim(claim, f"{source}; agreement to {tolerance:g}", wanted, found, holds)


def slope(x: Any, y: Any) -> tuple[float, float]:
    """The slope of the least-squares line, and half its 95% interval (Student's t).

    Example:
        >>> value, half = slope([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
        >>> round(value, 6), round(half, 6)
        (2.0, 0.0)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    centred = x - x.mean()
    value = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - value * centred
    free = len(x) - 2
    error = float(np.sqrt(rest @ rest / free / (centred @ centred)))
    return value, float(stdtrit(free, 0.975)) * error
