"""What is measured around a point, and the form that every view of a landscape has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from thalweg.errors import integer_from
from thalweg.landscape import Axes, Line, Surface, axes_along, plane
from thalweg.landscape.plane_grid import Span
from thalweg.objective import AbstractClosure
from thalweg.problems import Problem
from thalweg.setting import Setting


__all__ = ["Frame", "View", "around", "loss_of", "measure"]


@final
@dataclass(frozen=True)
class Frame:
    """How a picture is taken.

    Args:
        directions: Of a view around a point, as :func:`thalweg.landscape.plane` takes them by name;
            None: filter-normalised, and of a function of two variables its coordinates.
        resolution: Points along each axis, >= 2.
        span: Half-width of the axes, or "auto"; None: the directions' own.
        metrics: Measured beside the loss, by name.
        batchnorm: "kept" or "recalibrated".
        seed: Of random directions.
        store: A file in which a picture that is interrupted is kept.
        progress: Whether progress is shown; None: on a terminal.

    Raises:
        ValueError: If the resolution is below 2.

    Example:
        >>> Frame(resolution=25).span is None
        True
    """

    directions: str | None = None
    resolution: int = 51
    span: Span = None
    metrics: tuple[str, ...] = ()
    batchnorm: str = "kept"
    seed: int = 0
    store: Path | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        integer_from(2).check("thalweg landscape", "resolution", self.resolution)


@final
@dataclass(frozen=True, eq=False)
class View:
    """What was measured.

    Args:
        surface: The surface, with its paths.
        lines: Lines by name.
        sentences: What is to be said first.
        facts: How it came about, as pairs of term and text.

    Example:
        >>> import numpy as np
        >>> flat = np.zeros((2, 2))
        >>> View(Surface([0, 1], [0, 1], {"loss": flat}, flat == 0)).lines
        {}
    """

    surface: Surface
    lines: Mapping[str, Line] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def around(setting: Setting, frame: Frame | None = None) -> View:
    """Look around the point of a setting.

    Args:
        setting: From :func:`thalweg.setting.prepare`.
        frame: How the picture is taken.

    Returns:
        The view.

    Raises:
        ValueError: If an argument of the frame is outside its range.

    Example:
        >>> from thalweg.problems import BOOTH
        >>> from thalweg.setting import prepare
        >>> seen = around(prepare(BOOTH.problem()), Frame(resolution=5, progress=False))
        >>> seen.surface.x.tolist(), float(seen.surface.loss.min())
        ([-10.0, -5.0, 0.0, 5.0, 10.0], 9.0)
    """
    frame = frame or Frame()
    loss = loss_of(setting)
    if frame.directions is None and setting.problem.function is not None:
        return View(measure(loss, frame, *coordinates(setting.problem, frame)))
    return View(measure(loss, frame, frame.directions or "filter", frame.span))


def loss_of(setting: Setting) -> AbstractClosure:
    """The training loss over the samples of a setting."""
    return setting.objective.over(setting.batches)


def coordinates(problem: Problem, frame: Frame) -> tuple[Axes, Span]:
    """The axes of a function of two variables: its own, over its box."""
    assert problem.function is not None
    closure = problem.objective(problem.build(0)).closure(*next(problem.batches(0)))
    unit = torch.eye(2, dtype=closure.params[0].dtype)
    axes = axes_along(closure, unit[0], unit[1], labels=("x", "y"), centre=torch.zeros(2))
    return axes, problem.function.box if frame.span is None else frame.span


def measure(
    loss: AbstractClosure,
    frame: Frame,
    directions: Any,
    span: Span,
    paths: Mapping[str, Any] | None = None,
) -> Surface:
    """A plane as a frame says, in a store that is dropped when the picture is whole."""
    surface = plane(
        loss,
        directions,
        resolution=frame.resolution,
        span=span,
        metrics=frame.metrics,
        paths=paths,
        batchnorm=frame.batchnorm,
        seed=frame.seed,
        store=frame.store,
        progress=frame.progress,
    )
    if frame.store is not None:
        frame.store.unlink(missing_ok=True)
    return surface
