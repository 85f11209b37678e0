"""The learning rate over a run: a factor on the tuned rate, and part of what may be tuned."""

from __future__ import annotations

import math
from typing import Any, final

from torch.optim import Optimizer

from thalweg.errors import bad_argument


__all__ = ["SCHEDULES", "TUNED", "Schedule", "check_schedule", "factor"]

SCHEDULES = ("constant", "cosine", "linear", "step")
TUNED = "tuned"  # of a study: each trial draws one of them
WARM_UP = 0.05


def factor(name: str, spent: float) -> float:
    r"""The factor when the share ``spent`` of the budget is used.

    ``constant`` is 1. ``cosine`` and ``linear`` rise linearly over the first 5% and then fall to 0,
    as :math:`\frac12(1 + \cos\pi s)` and :math:`1 - s` of the share s of the rest; ``step`` is
    divided by 10 at one half and again at three quarters.

    Raises:
        ValueError: If there is no such schedule.

    Example:
        >>> [round(factor("cosine", s), 3) for s in (0.0, 0.025, 0.05, 0.525, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if name not in SCHEDULES:
        raise bad_argument("Plan", "schedule", name, f"one of {', '.join(SCHEDULES)}")
    if name == "constant":
        return 1.0
    if name == "step":
        return 1.0 if spent < 0.5 else 0.1 if spent < 0.75 else 0.01
    if spent < WARM_UP:
        return spent / WARM_UP
    rest = min(1.0, (spent - WARM_UP) / (1 - WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * rest)) if name == "cosine" else 1 - rest


def check_schedule(where: str, name: str) -> None:
    """Refuse what is neither a schedule nor ``"tuned"``.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> check_schedule("Plan", "tuned")
    """
    if name not in (*SCHEDULES, TUNED):
        raise bad_argument(where, "schedule", name, f"one of {', '.join((*SCHEDULES, TUNED))}")


@final
class Schedule:
    """A schedule on the groups of an optimizer.

    Args:
        name: One of :data:`SCHEDULES`.
        optimizer: Whose learning rates move.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        >>> Schedule("linear", optimizer).set(0.525)
        >>> round(optimizer.param_groups[0]["lr"], 3)
        0.2
    """

    def __init__(self, name: str, optimizer: Optimizer) -> None:
        self.name = name
        self._held: list[tuple[dict[str, Any], float]] = [
            (group, float(group["lr"])) for group in optimizer.param_groups if "lr" in group
        ]

    def set(self, spent: float, ahead: float = 0.0) -> None:
        """Set the rates for the step that begins when ``spent`` of the budget is used.

        Args:
            spent: The share of the budget used so far.
            ahead: The share that a step takes: a warm-up looks one step ahead, so that the first
                step moves.
        """
        if self.name == "constant":
            return
        now = spent + ahead if spent < WARM_UP else spent
        for group, rate in self._held:
            group["lr"] = rate * factor(self.name, min(now, 1.0))
