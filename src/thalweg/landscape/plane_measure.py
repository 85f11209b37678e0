"""What planes and lines share: ranges, the store, the way of evaluating."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import bad_argument
from thalweg.landscape.evaluation_choice import METHODS
from thalweg.landscape.evaluation_survey import Survey
from thalweg.landscape.plane_fill import fill
from thalweg.landscape.plane_grid import AutoSpan, ranges_of
from thalweg.landscape.store import Store, kept_settings
from thalweg.objective import AbstractClosure


__all__ = ["check_closure", "measured", "ranges"]


def measured(
    survey: Survey,
    axes: list[np.ndarray],
    grid: Sequence[tuple[float, ...]],
    method: str,
    path: str | Path | None,
    progress: bool | None,
) -> tuple[Store, dict[str, Any]]:
    """The values of a grid, from a store or measured now, and how they were measured.

    Args:
        survey: What is measured, begun.
        axes: The coordinates of each axis.
        grid: The points, row by row.
        method: The way that the caller wants.
        path: The store's file, if any.
        progress: Whether a progress bar is shown.
    """
    where = survey.where
    _check_method(where, method)
    begun = kept_settings(path)
    if begun and method == "auto":
        method = begun.get("evaluation", {}).get("method", "auto")
    coordinate = {name: axis.tolist() for name, axis in zip("xy", axes, strict=False)}
    settings = {"what": where, **coordinate, **survey.settings()}
    settings |= {"labels": list(survey.axes.labels)}
    if begun:  # refused before any time is spent
        Store(path, settings, len(grid), survey.names)
    choice = survey.choice(grid, method)
    settings["evaluation"] = choice.as_dict()
    store = Store(path, settings, len(grid), survey.names)
    fill(choice.scheme, survey.evaluation, grid, store, label=where, progress=progress)
    return store, {**survey.meta(), "evaluation": choice.as_dict()}


def check_closure(where: str, closure: Any) -> None:
    """Raise unless it is a closure or a risk.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(closure, AbstractClosure):
        raise TypeError(
            f"{where}(closure={type(closure).__name__}): pass objective.closure(x, y) or "
            "objective.over(loader)."
        )


def _check_method(where: str, method: Any) -> None:
    if method not in METHODS:
        raise bad_argument(where, "evaluation", method, f"one of {', '.join(map(repr, METHODS))}")


def ranges(survey: Survey, span: Any) -> tuple[list[tuple[float, float]], str]:
    """The range of each axis, and where it comes from."""
    count = len(survey.axes.directions)
    if span is None and survey.axes.window is not None:
        return list(survey.axes.window), "the directions' own"
    if span is None or span == "auto":
        span = AutoSpan()
    if isinstance(span, AutoSpan):
        words = f"automatic: to {span.factor:g} times the loss at the centre"
        return survey.span(span), words
    return ranges_of(survey.where, span, count), "given"
