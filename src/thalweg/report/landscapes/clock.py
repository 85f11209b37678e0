"""One clock for several paths: where each optimizer is at a step, between its recorded points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from thalweg.errors import one_of
from thalweg.landscape import PlanePath, Surface


__all__ = ["Clock", "place_at"]

_PACES = one_of("linear", "log")


@final
@dataclass(frozen=True)
class Clock:
    """The steps that the frames of an animation show.

    Args:
        steps: Of the longest path.
        pace: "linear": each frame is as many steps on; "log": few steps a frame at first, where
            most of the way is made, and more later.

    Raises:
        ValueError: If there is no such pace.

    Example:
        >>> Clock(100, "linear").at(0.5), round(Clock(100, "log").at(0.5), 1)
        (50.0, 9.0)
    """

    steps: float
    pace: str = "linear"

    def __post_init__(self) -> None:
        _PACES.check("animation", "pace", self.pace)

    @staticmethod
    def of(surface: Surface, pace: str) -> Clock:
        """The clock of a surface's paths.

        Raises:
            ValueError: If it has none that moves.
        """
        last = max((float(path.steps[-1]) for path in surface.paths if len(path)), default=0.0)
        if last <= 0:
            raise ValueError("animation: the surface has no path that moves; see with_paths.")
        return Clock(last, pace)

    def at(self, share: float) -> float:
        """The step at a share of the time, in [0, 1]."""
        if self.pace == "linear":
            return self.steps * share
        return float(np.expm1(share * np.log1p(self.steps)))


def place_at(path: PlanePath, step: float) -> tuple[np.ndarray, float]:
    """Where a path is at a step, and its true loss there; after its end it rests.

    Example:
        >>> path = PlanePath("sgd", [[0, 0], [4, 2]], [0, 0], [3.0, 1.0], [0, 10])
        >>> place_at(path, 5)
        (array([2., 1.]), 2.0)
    """
    xy = np.array([np.interp(step, path.steps, path.xy[:, k]) for k in (0, 1)])
    return xy, float(np.interp(step, path.steps, path.loss))
