"""What of a line is hidden behind a surface, seen from far away.

A plotting library that sorts whole objects by depth draws a path either all in front of a surface
or all behind it. Here each point looks towards the eye: it is hidden where its ray passes under the
surface.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import final

import numpy as np

from thalweg.report.heights import bilinear


__all__ = ["AZIMUTHS", "Block", "runs"]

# Where a picture may be taken from, the usual place first.
AZIMUTHS = [float(-60 + 30 * k) for k in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)]

_STEPS = 160
_LIFT = 0.006  # a line on the surface is drawn on it, not in it


@final
@dataclass(frozen=True, eq=False)
class Block:
    """A surface in a box as it is drawn.

    Args:
        x: [nx] grid.
        y: [ny] grid.
        z: [ny, nx] heights in [0, 1], NaN in holes.
        sides: Lengths of the drawn box along x, y and z.

    Example:
        >>> ends = np.array([0.0, 0.5, 1.0])
        >>> ridge = Block(ends, ends, np.array([[0.0, 1.0, 0.0]] * 3), (1.0, 1.0, 1.0))
        >>> behind, before = np.array([0.1, 0.5, 0.2]), np.array([0.9, 0.5, 0.2])
        >>> ridge.hidden(np.array([behind, before]), elev=10, azim=0).tolist()
        [True, False]
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    sides: tuple[float, float, float]

    def hidden(self, points: np.ndarray, elev: float, azim: float) -> np.ndarray:
        """[n] whether each point (x, y, height) is behind the surface; NaN points are not.

        Args:
            points: [n, 3] in the units of the grid, heights in [0, 1].
            elev: degrees of the eye above the horizon.
            azim: degrees of the eye around the vertical.
        """
        points = np.asarray(points, float).reshape(-1, 3)
        up, around = math.radians(elev), math.radians(azim)
        towards = np.array(
            [math.cos(up) * math.cos(around), math.cos(up) * math.sin(around), math.sin(up)]
        )
        spans = np.array([self.x[-1] - self.x[0], self.y[-1] - self.y[0], 1.0])
        step = towards * spans / np.array(self.sides)
        reach = np.linspace(0, 1.5 * max(self.sides), _STEPS)[1:]
        rays = points[:, None, :] + reach[:, None] * step
        ground = bilinear(self.x, self.y, self.z, rays[..., :2].reshape(-1, 2))
        under = ground.reshape(rays.shape[:2]) > rays[..., 2] + _LIFT
        return np.any(under, axis=1)

    def outlook(self, lines: list[np.ndarray], elev: float, azimuths: list[float]) -> float:
        """The azimuth from which least of some lines is hidden; the first of equals."""
        points = np.concatenate(lines) if lines else np.zeros((0, 3))
        if not len(points):
            return azimuths[0]
        hidden = [int(self.hidden(points, elev, azim).sum()) for azim in azimuths]
        return azimuths[int(np.argmin(hidden))]


def runs(flags: np.ndarray) -> list[tuple[slice, bool]]:
    """Stretches of equal flags; each takes the first point of the next, so that none is cut off.

    Example:
        >>> runs(np.array([True, True, False]))
        [(slice(0, 3, None), True), (slice(2, 3, None), False)]
    """
    if not len(flags):
        return []
    edges = [0, *(int(k) + 1 for k in np.flatnonzero(np.diff(flags.astype(int)))), len(flags)]
    return [
        (slice(low, min(high + 1, len(flags))), bool(flags[low]))
        for low, high in itertools.pairwise(edges)
    ]
