"""A loss on a plane through real weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import bad_argument
from thalweg.landscape.directions import Weights
from thalweg.landscape.directions_names import Directions, axes_of
from thalweg.landscape.evaluation_metrics import Metrics
from thalweg.landscape.evaluation_survey import Survey
from thalweg.landscape.plane_grid import Span, coordinates
from thalweg.landscape.plane_measure import check_closure, measured, ranges
from thalweg.landscape.plane_paths import Path as Walk, path_in, points_of
from thalweg.landscape.surface import Surface
from thalweg.objective import AbstractClosure


__all__ = ["plane"]


def plane(
    closure: AbstractClosure,
    directions: Directions = "filter",
    *,
    resolution: int | tuple[int, int] = 51,
    span: Span = None,
    spacing: str | tuple[str, str] = "linear",
    centre: Weights | None = None,
    metrics: Metrics = (),
    paths: Mapping[str, Walk] | None = None,
    batchnorm: str = "kept",
    seed: int = 0,
    evaluation: str = "auto",
    store: str | Path | None = None,
    progress: bool | None = None,
) -> Surface:
    r"""Measure :math:`f(\theta_c + x\,\delta + y\,\eta)` on a grid.

    The model is moved from point to point without copies, so that a plane costs its forward passes
    and little more, or less where a layer's output is known from three products
    (:mod:`thalweg.landscape.evaluation_reuse`). Batches are read once, when the risk is made.
    Afterwards the model, its mode, buffers and ``requires_grad``, gradients and every random
    generator are as before, also after an exception.

    The model is evaluated in the mode that it is in: call ``model.eval()`` first for the function
    that is deployed. In training mode dropout draws the same numbers at every point, and BatchNorm
    uses the statistics of each batch.

    Args:
        closure: ``objective.closure(x, y)`` or ``objective.over(loader)``.
        directions: ``"filter"`` (random, filter-normalised: the default of Li et al.), another
            normalisation of :func:`random_axes`, ``"hessian"``, ``"hessian-ends"``,
            ``"coordinates"``, axes from :func:`pca_axes` or :func:`axes_through`, or two vectors.
        resolution: Points along each axis, or (along x, along y), at least 2. Odd numbers put a
            point on the centre. Default 51, that of most published figures.
        span: Half-width of both axes; or (x, y), each a half-width or a (low, high) pair; or
            ``"auto"`` or an :class:`AutoSpan`, which walk out until the loss has changed. None
            takes the axes' window ([-1, 1] for normalised directions), else ``"auto"``.
        spacing: ``"linear"`` or ``"log"`` (symmetric about 0), or one for each axis.
        centre: The centre; None takes the live parameters, or that of the axes.
        metrics: Measured in the same forward pass: ``"accuracy"``, ``"error"``, or a mapping of
            names to functions of (outputs, targets). Measured with derivatives at each point, many
            times dearer: ``"gradient_norm"``, ``"lambda_max"``, ``"lambda_min"``, ``"convexity"``
            (:math:`|\lambda_{\min}/\lambda_{\max}|` of the Hessian).
        paths: Name to recorded weights or a Trajectory, to be drawn on the plane.
        batchnorm: ``"kept"`` or ``"recalibrated"``: running statistics estimated anew at each
            point, which takes a second forward pass.
        seed: Of random directions.
        evaluation: ``"auto"`` times a few points of each way and takes the fastest; ``"in-place"``,
            ``"first-layer"`` or ``"vmap"`` demand one.
        store: A file that is filled point by point and continued by the next call with the same
            arguments.
        progress: Whether a progress bar is shown; None shows it on a terminal.

    Returns:
        The surface. NaN stays NaN.

    Raises:
        ValueError: If an argument is outside its range, or the store holds another surface.
        TypeError: If ``closure`` is not a closure.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(2, requires_grad=True)
        >>> closure = Objective.of(lambda x: x[0] ** 2 + 10 * x[1]).closure(x)
        >>> plane(closure, "coordinates", resolution=(3, 2), span=(1.0, 2.0)).loss
        array([[-19., -20., -19.],
               [ 21.,  20.,  21.]])

    References:
        Li, Xu, Taylor, Studer and Goldstein, Visualizing the loss landscape of neural nets, 2018.
        Goodfellow, Vinyals and Saxe, Qualitatively characterizing neural network optimization
        problems, 2015.
    """
    check_closure("plane", closure)
    axes = axes_of("plane", closure, directions, 2, seed, centre)
    survey = Survey("plane", closure, axes, metrics, batchnorm)
    walks = {name: points_of("plane", closure, walk) for name, walk in (paths or {}).items()}
    sizes = _pair("plane", "resolution", resolution, int)
    gaps = _pair("plane", "spacing", spacing, str)
    with survey.begun():
        sides, found = ranges(survey, span)
        x, y = (
            coordinates("plane", low, high, size, gap)
            for (low, high), size, gap in zip(sides, sizes, gaps, strict=True)
        )
        grid = [(float(a), float(b)) for b in y for a in x]
        values, meta = measured(survey, [x, y], grid, evaluation, store, progress)
        drawn = tuple(
            path_in(survey, name, points, steps) for name, (points, steps) in walks.items()
        )
    shape = (len(y), len(x))
    columns = {name: values.values[:, i].reshape(shape) for i, name in enumerate(survey.names)}
    first, second = axes.labels
    meta |= {"span": found, "spacing": list(gaps)}
    return Surface(x, y, columns, values.computed.reshape(shape), (first, second), drawn, meta)


def _pair(where: str, name: str, value: Any, kind: type) -> tuple[Any, Any]:
    if isinstance(value, kind):
        return value, value
    try:
        first, second = value
    except (TypeError, ValueError):
        raise bad_argument(where, name, value, f"one {kind.__name__} or a pair of them") from None
    return first, second
