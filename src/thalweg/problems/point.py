"""A point of the plane as a model, so that a function is optimized as a network is."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn


__all__ = ["Point", "floored", "value_at"]


@final
class Point(nn.Module):
    """A point of the plane as a model: its only parameter ``x``, shape ``(2,)`` in float64.

    Whatever its input, it returns the point.

    Args:
        start: The initial point. Nothing is drawn, so a seed has no effect.

    Example:
        >>> Point((1.0, 2.0)).x.tolist()
        [1.0, 2.0]
    """

    def __init__(self, start: tuple[float, float]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, batch: object = None) -> Tensor:
        """The point, whatever the batch."""
        del batch  # a function has no data
        return self.x


def value_at(fn: Callable[[Tensor], Tensor], model: Point, batch: object) -> Tensor:
    """The value of a function at the model's point, whatever the batch: an Objective's forward.

    Example:
        >>> value_at(torch.sum, Point((1.0, 2.0)), None).item()
        3.0
    """
    del batch  # a function has no data
    return fn(model.x)


def floored(fn: Callable[[Tensor], Tensor], floor: float, points: Tensor) -> Tensor:
    """A function cut off below: flat where it would fall without end.

    Example:
        >>> floored(torch.sum, -1.0, torch.tensor([-2.0, -3.0])).item()
        -1.0
    """
    return fn(points).clamp(min=floor)
