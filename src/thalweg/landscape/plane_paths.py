"""Paths on a plane: where a point is drawn, how far out of the plane it lies, and its true loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.errors import bad_argument
from thalweg.landscape.directions import Axes, Weights, as_vector
from thalweg.landscape.evaluation_survey import Survey
from thalweg.landscape.recording import Recording
from thalweg.landscape.surface import PlanePath
from thalweg.landscape.trajectory import Trajectory
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["Path", "path_in", "points_of", "project"]


Path = Trajectory | Recording | Sequence[Weights]


def project(
    closure: AbstractClosure,
    axes: Axes,
    points: Path,
    *,
    name: str = "path",
    batchnorm: str = "kept",
) -> PlanePath:
    """A path as a plane shows it, with residuals and true losses, for ``Surface.with_paths``.

    Args:
        closure: What the surface was measured with.
        axes: The plane's axes.
        points: A Trajectory, or recorded weights in order.
        name: The path's name.
        batchnorm: As for :func:`plane`.

    Returns:
        The path. A loss that is NaN stays so.

    Raises:
        ValueError: If a point does not fit the parameters.

    Example:
        >>> import torch
        >>> from thalweg.landscape.directions_names import axes_of
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(2, requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> axes = axes_of("plane", closure, "coordinates", 2, 0, None)
        >>> path = project(closure, axes, [torch.tensor([3.0, 4.0]), torch.zeros(2)])
        >>> path.xy.tolist(), path.loss.tolist()
        ([[3.0, 4.0], [0.0, 0.0]], [25.0, 0.0])
    """
    if not isinstance(closure, AbstractClosure):
        raise TypeError(f"project(closure={type(closure).__name__}): a closure is needed.")
    survey = Survey("project", closure, axes, (), batchnorm)
    found, steps = points_of("project", closure, points)
    with survey.begun():
        return path_in(survey, name, found, steps)


def points_of(where: str, closure: AbstractClosure, walk: Path) -> tuple[list[Vector], np.ndarray]:
    """The points of a path as Vectors, and their steps."""
    recording = walk.recording if isinstance(walk, Trajectory) else walk
    points = list(recording.points() if isinstance(recording, Recording) else recording)
    steps = recording.steps if isinstance(recording, Recording) else np.arange(len(points))
    if not points:
        raise bad_argument(where, "paths", f"{len(points)} points", "recorded weights, in order")
    return [as_vector(where, closure, point) for point in points], steps


def path_in(survey: Survey, name: str, points: list[Vector], steps: np.ndarray) -> PlanePath:
    """A path in a survey that has begun."""
    xy, residual = survey.axes.project(points)
    loss = np.array([row[0] for row in survey.true_values(points)])
    return PlanePath(name, xy, residual, loss, steps)
