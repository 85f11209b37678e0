r"""Axes of a picture: a centre and one or two directions in parameter space.

A point of parameter space rarely lies in the plane that is drawn. Where it is drawn, and how much
of it is not drawn, is least squares: with :math:`D = [\delta\ \eta]` and :math:`d = \theta -
\theta_c`,

.. math:: (x, y)^\top = (D^\top D)^{-1} D^\top d, \qquad
          r = \frac{\lVert d - D (x, y)^\top \rVert}{\lVert d \rVert} .

For axes that are not orthonormal this is not the inner product with each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import bad_argument
from thalweg.landscape.weights import flat_weights
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["Axes", "Weights", "as_vector", "axes_along", "axes_through", "state_vector"]

Weights = Vector | Tensor | Sequence[Tensor] | nn.Module | Mapping[str, Any]

_MARGIN = 0.25  # of the points' extent, left around them


@final
@dataclass(frozen=True, eq=False)
class Axes:
    r"""A centre :math:`\theta_c` and one or two directions.

    Args:
        centre: The point at the origin.
        directions: :math:`\delta`, or :math:`\delta` and :math:`\eta`.
        labels: What each axis is, in words.
        window: The range of each coordinate that is worth looking at; None where nothing is known.
        meta: How the directions were made, JSON-able.

    Raises:
        ValueError: If a direction is zero or not finite, or the two are parallel.

    Example:
        >>> centre, first = Vector([torch.zeros(3)]), Vector([torch.tensor([2.0, 0.0, 0.0])])
        >>> axes = Axes(centre, (first,), ("x",))
        >>> xy, residual = axes.project([torch.tensor([6.0, 8.0, 0.0])])
        >>> xy.tolist(), residual.tolist()
        ([[3.0]], [0.8])
    """

    centre: Vector
    directions: tuple[Vector, ...]
    labels: tuple[str, ...]
    window: tuple[tuple[float, float], ...] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.directions) not in {1, 2} or len(self.labels) != len(self.directions):
            raise bad_argument("Axes", "directions", len(self.directions), "one or two, each named")
        for direction, label in zip(self.directions, self.labels, strict=True):
            length = float(direction.norm())
            if not 0.0 < length < float("inf"):
                allowed = "finite and not zero everywhere"
                raise bad_argument("Axes", f"direction {label!r}", f"norm {length}", allowed)
        if abs(self.cosine) > 1 - 1e-9:
            raise bad_argument("Axes", "directions", f"cosine {self.cosine}", "not parallel")

    @property
    def cosine(self) -> float:
        """The cosine of the angle between the two directions; 0 for a single one."""
        if len(self.directions) == 1:
            return 0.0
        gram = self._gram()
        return float(gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1]))

    def at(self, *coordinates: float) -> Vector:
        """The point with these coordinates."""
        point = self.centre.clone()
        for direction, x in zip(self.directions, coordinates, strict=True):
            point.add_(direction, alpha=x)
        return point

    def project(self, points: Iterable[Weights]) -> tuple[np.ndarray, np.ndarray]:
        """Where points lie, and how much of each is out of the plane.

        Args:
            points: Vectors, flat tensors, or lists of tensors.

        Returns:
            (n, k) coordinates and (n,) residuals in [0, 1]; a point at the centre has residual 0.
        """
        inverse = np.linalg.inv(self._gram())
        centre, axes = _doubles(self.centre), [_doubles(axis) for axis in self.directions]
        coordinates, residuals = [], []
        for point in points:
            away = _doubles(as_vector("Axes.project", self.centre, point)) - centre
            xy = inverse @ np.array([float(axis @ away) for axis in axes])
            length = float(away.norm())
            for axis, x in zip(axes, xy, strict=True):
                away.sub_(axis, alpha=float(x))
            coordinates.append(xy)
            residuals.append(min(1.0, float(away.norm()) / length) if length else 0.0)
        shape = (len(coordinates), len(self.directions))
        return np.array(coordinates).reshape(shape), np.array(residuals)

    def _gram(self) -> np.ndarray:
        return np.array([[float(a.dot(b)) for b in self.directions] for a in self.directions])


def as_vector(where: str, like: AbstractClosure | Vector, weights: Weights) -> Vector:
    """Weights in any form as a Vector of the shapes, types and devices of the parameters.

    Args:
        where: For messages.
        like: A closure, or its parameters.
        weights: A Vector, a flat tensor, or tensors one for each parameter; of a closure, a module
            or a state_dict too.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> as_vector("plane", Vector([torch.zeros(1, 2), torch.zeros(1)]), torch.arange(3.0))
        Vector(3 entries in 2 tensors: (1, 2), (1,))
    """
    params = like if isinstance(like, Vector) else like.params
    if isinstance(weights, (nn.Module, Mapping)):
        if isinstance(like, Vector):
            allowed = "a Vector, a flat tensor or a list of tensors"
            raise bad_argument(where, "weights", type(weights).__name__, allowed)
        weights = flat_weights(weights, like, where)
    if isinstance(weights, Tensor) and len(params) == 1 and weights.shape == params[0].shape:
        parts = [weights]
    elif isinstance(weights, Tensor):
        if weights.ndim != 1 or weights.numel() != params.numel():
            allowed = f"a flat tensor of {params.numel()} entries"
            raise bad_argument(where, "weights", tuple(weights.shape), allowed)
        parts = params.like(weights.detach()).tensors
    else:
        parts = list(weights)
        shapes = [tuple(part.shape) for part in parts]
        if shapes != [tuple(part.shape) for part in params]:
            allowed = f"tensors of the shapes of the {len(params)} trainable parameters"
            raise bad_argument(where, "weights", shapes, allowed)
    pairs = zip(parts, params, strict=True)
    return Vector([part.detach().to(p.device, p.dtype) for part, p in pairs])


def axes_along(
    closure: AbstractClosure,
    *directions: Weights,
    labels: Sequence[str] | None = None,
    centre: Weights | None = None,
) -> Axes:
    """Axes along given directions: a gradient, an update, a moment of an optimizer.

    Args:
        closure: Whose parameters.
        *directions: One or two, as Vectors, flat tensors or lists of tensors.
        labels: What they are, in words.
        centre: The centre; None takes the live parameters.

    Returns:
        The axes; the directions keep their lengths.

    Raises:
        ValueError: If a direction does not fit the parameters, or is zero.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> axes_along(closure, closure.value_and_grad()[1], labels=["gradient"]).at(-0.5)[0]
        tensor([0., 0.])
    """
    where = "axes_along"
    made = tuple(as_vector(where, closure, d) for d in directions)
    names = ["first direction", "second direction"] if labels is None else list(labels)
    start = closure.params.clone() if centre is None else as_vector(where, closure, centre)
    return Axes(start, made, tuple(names[: len(made)]), meta={"kind": "given"})


def axes_through(
    closure: AbstractClosure, *points: Weights, labels: Sequence[str] = ("A", "B", "C")
) -> Axes:
    r"""The line through two weights, or the plane through three.

    Through two, the coordinate is 0 at the first and 1 at the second. Through three, the axes are
    orthonormal (Gram and Schmidt on :math:`B - A` and :math:`C - A`), so that lengths in the
    picture are lengths in parameter space.

    Args:
        closure: Whose parameters.
        *points: Two or three weights: modules, state_dicts, Vectors, flat tensors or lists of
            tensors.
        labels: Their names.

    Returns:
        The axes, with the first point in the centre and a window around all of them.

    Raises:
        ValueError: If the points coincide or, of three, lie on a line.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(2, requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> a, b, c = torch.tensor([0.0, 0.0]), torch.tensor([2.0, 0.0]), torch.tensor([2.0, 3.0])
        >>> axes_through(closure, a, b, c).project([c])[0].tolist()
        [[2.0, 3.0]]

    References:
        Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, Loss surfaces, mode connectivity, and
        fast ensembling of DNNs, 2018.
    """
    where = "axes_through"
    if len(points) not in {2, 3}:
        raise bad_argument(where, "points", len(points), "two or three weights")
    start, *others = [as_vector(where, closure, point) for point in points]
    names, meta = [str(label) for label in labels], {"kind": "through", "points": list(labels)}
    away = [other - start for other in others]
    if len(away) == 1:
        window = ((-_MARGIN, 1 + _MARGIN),)
        return Axes(start, (away[0],), (f"{names[0]} to {names[1]}",), window, meta)
    across = float(away[0].norm())
    first = away[0] / (across or 1.0)
    rest = away[1].add(first, alpha=-float(first.dot(away[1])))
    second = rest / (float(rest.norm()) or 1.0)
    axes = (first, second)
    shown = (f"{names[0]} to {names[1]}", f"towards {names[2]}, at a right angle")
    found, _ = Axes(start, axes, shown).project([start, *others])
    return Axes(start, axes, shown, window_around(found), meta)


def state_vector(closure: AbstractClosure, optimizer: torch.optim.Optimizer, key: str) -> Vector:
    """What an optimizer keeps for each parameter, as a direction.

    Args:
        closure: Whose parameters.
        optimizer: Any torch optimizer that moves them.
        key: The entry of its state, such as ``"exp_avg"`` or ``"momentum_buffer"``.

    Returns:
        The state; zeros for a parameter that has none.

    Raises:
        ValueError: If no parameter has such an entry.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> optimizer = torch.optim.Adam([x])
        >>> _ = optimizer.step(closure)
        >>> state_vector(closure, optimizer, "exp_avg")[0]
        tensor([0.6000, 0.8000])
    """
    found = [optimizer.state.get(p, {}).get(key) for p in closure.params]
    shaped = [
        part if isinstance(part, Tensor) and part.shape == p.shape else None
        for part, p in zip(found, closure.params, strict=True)
    ]
    if all(part is None for part in shaped):
        keys = sorted({name for p in closure.params for name in optimizer.state.get(p, {})})
        allowed = f"the name of a state with the parameters' shape; there are {keys}"
        raise bad_argument("state_vector", "key", key, allowed)
    return Vector(
        torch.zeros_like(p) if part is None else part.detach().to(p.dtype, copy=True)
        for part, p in zip(shaped, closure.params, strict=True)
    )


def window_around(coordinates: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The ranges that hold some points with a margin, none of them flat."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = _MARGIN * np.maximum(high - low, 0.2 * (high - low).max())
    return tuple((float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True))


def _doubles(vector: Vector) -> Tensor:
    return torch.cat([part.detach().reshape(-1).double() for part in vector])
