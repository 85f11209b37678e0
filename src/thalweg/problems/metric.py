"""What a problem is scored by, and what counts as solved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict, final

from torch import Tensor

from thalweg.errors import bad_argument, one_of


__all__ = ["Metric", "Scores", "Target"]


@final
@dataclass(frozen=True)
class Metric:
    """A number in the user's own terms, beside the loss.

    Args:
        name: What tables and axes call it.
        fn: From outputs and targets to a scalar tensor, the mean over samples.
        higher_is_better: Whether a larger value is the better one.

    Raises:
        ValueError: If ``fn`` cannot be called or ``name`` is empty.

    Example:
        >>> import torch
        >>> error = Metric("largest error", lambda out, y: (out - y).abs().max(), False)
        >>> error.fn(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(2.)
    """

    name: str
    fn: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name):
            raise bad_argument("Metric", "name", self.name, "a non-empty string")
        if not callable(self.fn) or isinstance(self.fn, type):
            raise bad_argument("Metric", "fn", self.fn, "a function of outputs and targets")


@final
@dataclass(frozen=True)
class Target:
    """The value at which a problem counts as solved.

    A loss is solved at or below ``value``; a metric at or above it where higher is better.

    Args:
        quantity: ``"validation_loss"``, ``"validation_metric"`` or ``"train_loss"``.
        value: The value to be reached, finite.

    Raises:
        ValueError: If ``quantity`` is none of the three or ``value`` is not finite.

    Example:
        >>> Target("validation_loss", 0.1)
        Target(quantity='validation_loss', value=0.1)
    """

    quantity: str
    value: float

    def __post_init__(self) -> None:
        kinds = one_of("validation_loss", "validation_metric", "train_loss")
        kinds.check("Target", "quantity", self.quantity)
        if not (isinstance(self.value, (int, float)) and math.isfinite(self.value)):
            raise bad_argument("Target", "value", self.value, "a finite number")


class Scores(TypedDict):
    """What :meth:`Problem.evaluate` returns: a plain dict.

    Example:
        >>> Scores(loss=0.1, metric=None)
        {'loss': 0.1, 'metric': None}
    """

    loss: float
    metric: float | None
