"""What a caller may give as directions: a name, axes, or vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.errors import bad_argument, unknown_name
from thalweg.landscape.directions import Axes, Weights, as_vector, axes_along
from thalweg.landscape.directions_hessian import hessian_axes
from thalweg.landscape.directions_random import NORMALISATIONS, random_axes
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["Directions", "axes_of"]

Directions = str | Axes | Vector | Tensor | Sequence[Any]

_EIGENVECTORS = {"hessian": "LA", "hessian-ends": "BE"}


def axes_of(
    where: str,
    closure: AbstractClosure,
    directions: Directions,
    count: int,
    seed: int,
    centre: Weights | None,
) -> Axes:
    """The axes that a caller means.

    Args:
        where: The function that was called, for messages.
        closure: Whose parameters.
        directions: A normalisation of random directions, ``"hessian"`` (largest eigenvalues),
            ``"hessian-ends"`` (largest and smallest), ``"coordinates"`` (the entries of a function
            of one or two numbers), axes, or as many vectors as needed.
        count: How many directions.
        seed: Of what is random.
        centre: A centre that replaces that of the axes.

    Raises:
        ValueError: If the name is unknown, or there are more or fewer directions.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(2, requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> axes_of("plane", closure, "coordinates", 2, 0, None).at(1.0, 2.0)[0].tolist()
        [1.0, 2.0]
    """
    if isinstance(directions, Axes):
        axes = directions
    elif isinstance(directions, str):
        axes = _named(where, closure, directions, count, seed, centre)
    else:
        given: Any = [directions] if _single(directions) else list(directions)
        axes = axes_along(closure, *given, centre=centre)
    if len(axes.directions) != count:
        allowed = f"{count} direction{'s' if count > 1 else ''}"
        raise bad_argument(where, "directions", f"{len(axes.directions)} directions", allowed)
    if centre is None or not isinstance(directions, Axes):
        return axes
    moved = as_vector(where, closure, centre)
    return Axes(moved, axes.directions, axes.labels, None, axes.meta)


def _single(directions: Any) -> bool:
    """Whether it is one vector, and not a list of them."""
    if isinstance(directions, (Vector, Tensor)):
        return True
    return (
        bool(directions)
        and all(isinstance(part, Tensor) for part in directions)
        and (any(part.ndim != 1 for part in directions) or len({p.shape for p in directions}) > 1)
    )


def _named(
    where: str,
    closure: AbstractClosure,
    name: str,
    count: int,
    seed: int,
    centre: Weights | None,
) -> Axes:
    if name in NORMALISATIONS:
        return random_axes(closure, name, count=count, seed=seed, centre=centre)
    if name in _EIGENVECTORS:
        order = _EIGENVECTORS[name]
        return hessian_axes(closure, order, count=count, seed=seed, centre=centre)
    if name != "coordinates":
        known = [*NORMALISATIONS, *_EIGENVECTORS, "coordinates"]
        raise unknown_name(where, "directions", name, known)
    n = closure.params.numel()
    if n != count:
        allowed = f"used with {count} parameters; there are {n}"
        raise bad_argument(where, "directions", name, allowed)
    origin = closure.params.zeros_like().detach() if centre is None else centre
    units = torch.eye(n, dtype=closure.params[0].dtype)
    labels = [f"θ{i + 1}" for i in range(n)]
    axes = axes_along(closure, *units, labels=labels, centre=origin)
    return Axes(axes.centre, axes.directions, axes.labels, None, {"kind": "coordinates"})
