"""A loss along a line through real weights."""

from __future__ import annotations

from pathlib import Path

from thalweg.landscape.directions import Weights
from thalweg.landscape.directions_names import Directions, axes_of
from thalweg.landscape.evaluation_metrics import Metrics
from thalweg.landscape.evaluation_survey import Survey
from thalweg.landscape.plane_grid import Span, coordinates
from thalweg.landscape.plane_measure import check_closure, measured, ranges
from thalweg.landscape.surface import Line
from thalweg.objective import AbstractClosure


__all__ = ["line"]


def line(
    closure: AbstractClosure,
    direction: Directions = "filter",
    *,
    resolution: int = 101,
    span: Span = None,
    spacing: str = "linear",
    centre: Weights | None = None,
    metrics: Metrics = (),
    batchnorm: str = "kept",
    seed: int = 0,
    evaluation: str = "auto",
    store: str | Path | None = None,
    progress: bool | None = None,
) -> Line:
    r"""Measure :math:`f(\theta_c + t\,\delta)` along a line.

    Args:
        closure: ``objective.closure(x, y)`` or ``objective.over(loader)``.
        direction: As for :func:`plane`: a name, axes with one direction (``axes_through(closure, a,
            b)`` is the line from a to b), or one vector.
        resolution: Points, at least 2; an odd number puts one on the centre.
        span: A half-width, a (low, high) pair, ``"auto"``, or an :class:`AutoSpan`; None takes the
            axis' window, else ``"auto"``.
        spacing: ``"linear"`` or ``"log"`` (symmetric about 0).
        centre: The centre; None takes the live parameters, or that of the axis.
        metrics: As for :func:`plane`.
        batchnorm: ``"kept"`` or ``"recalibrated"``.
        seed: Of a random direction.
        evaluation: As for :func:`plane`.
        store: A file that is filled point by point and continued by the next call.
        progress: Whether a progress bar is shown; None shows it on a terminal.

    Returns:
        The line. NaN stays NaN.

    Raises:
        ValueError: If an argument is outside its range, or the store holds something else.
        TypeError: If ``closure`` is not a closure.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> line(closure, torch.tensor([2.0, 0.0]), resolution=3, span=1.0).loss
        array([1., 1., 9.])

    References:
        Goodfellow, Vinyals and Saxe, Qualitatively characterizing neural network optimization
        problems, 2015.
    """
    check_closure("line", closure)
    axes = axes_of("line", closure, direction, 1, seed, centre)
    survey = Survey("line", closure, axes, metrics, batchnorm)
    with survey.begun():
        ((low, high),), found = ranges(survey, span)
        t = coordinates("line", low, high, resolution, spacing)
        grid = [(float(a),) for a in t]
        values, meta = measured(survey, [t], grid, evaluation, store, progress)
    columns = {name: values.values[:, i] for i, name in enumerate(survey.names)}
    return Line(t, columns, axes.labels[0], meta | {"span": found, "spacing": spacing})
