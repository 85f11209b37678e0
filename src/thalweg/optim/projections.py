r"""Sets to stay in, each with its Euclidean projection: :math:`\arg\min_{y \in C} \|y - x\|_2`.

A set is called with a tensor and returns the nearest point of the set, of the same shape and type.
The vector that is projected is made of all entries of the tensor or, where a set has a ``dim``, of
each slice along that dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import POSITIVE, bad_argument
from thalweg.optim.nearest import onto_affine, onto_ball, onto_l1_ball, onto_simplex


__all__ = ["Affine", "Ball", "Box", "L1Ball", "NonNegative", "Projection", "Simplex"]

Projection = Callable[[Tensor], Tensor]


def sets_of(where: str, projection: Any, groups: int) -> Sequence[Any]:
    """A set for each group: one for all, or a list of them.

    Raises:
        ValueError: If there are not as many as groups.
    """
    if not isinstance(projection, (list, tuple)):
        return [projection] * groups
    if len(projection) != groups:
        allowed = f"as long as there are groups, {groups}"
        raise bad_argument(where, "projection", projection, allowed)
    return projection


def nearest_of(where: str, project: Projection, point: Tensor) -> Tensor:
    """The projected point.

    Raises:
        ValueError: If its shape is another.
    """
    nearest = project(point)
    if nearest.shape != point.shape:
        allowed = f"a function that keeps shapes; it made {tuple(nearest.shape)}"
        raise bad_argument(where, "projection", project, allowed)
    return nearest


@final
@dataclass(frozen=True, eq=False)
class Box:
    """Every entry between two bounds.

    Args:
        low: The lower bound: a number, or a tensor of the parameter's shape.
        high: The upper bound.

    Raises:
        ValueError: If a lower bound is above its upper one.

    Example:
        >>> Box(-1.0, 1.0)(torch.tensor([-3.0, 0.5]))
        tensor([-1.0000,  0.5000])
    """

    low: float | Tensor
    high: float | Tensor

    def __post_init__(self) -> None:
        if not bool(torch.as_tensor(self.low <= self.high).all()):
            raise bad_argument("Box", "low", self.low, "at most high")

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the set."""
        bounds = self.low, self.high
        low, high = (torch.as_tensor(b, dtype=x.dtype, device=x.device) for b in bounds)
        return x.clamp(low, high)


@final
@dataclass(frozen=True, eq=False)
class NonNegative:
    """No entry below zero.

    Example:
        >>> NonNegative()(torch.tensor([-3.0, 0.5]))
        tensor([0.0000, 0.5000])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the set."""
        return x.clamp_min(0)


@final
@dataclass(frozen=True, eq=False)
class Ball:
    """Euclidean distance from a centre at most a radius.

    Args:
        radius: The radius, > 0.
        centre: A number or a tensor of the parameter's shape; default the origin.
        dim: The dimension along which each slice has a ball of its own (the rows of a weight
            matrix, say); default all entries together.

    Raises:
        ValueError: If the radius is not above 0.

    Example:
        >>> Ball(1.0, dim=1)(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """

    radius: float = 1.0
    centre: float | Tensor = 0.0
    dim: int | None = None

    def __post_init__(self) -> None:
        POSITIVE.check("Ball", "radius", self.radius)

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the set."""
        centre = torch.as_tensor(self.centre, dtype=x.dtype, device=x.device)
        offset = x - centre
        nearest = _along(offset, self.dim, lambda rows: onto_ball(rows, self.radius))
        return torch.where(nearest == offset, x, centre + nearest)


@final
@dataclass(frozen=True, eq=False)
class L1Ball:
    """Sum of magnitudes at most a radius; projecting makes entries exactly zero.

    Args:
        radius: The radius, > 0.
        dim: As for :class:`Ball`.

    Raises:
        ValueError: If the radius is not above 0.

    Example:
        >>> L1Ball(1.0)(torch.tensor([[-1.0, 0.5], [0.1, 0.0]]))
        tensor([[-0.7500,  0.2500],
                [ 0.0000,  0.0000]])
    """

    radius: float = 1.0
    dim: int | None = None

    def __post_init__(self) -> None:
        POSITIVE.check("L1Ball", "radius", self.radius)

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the set."""
        return _along(x, self.dim, lambda rows: onto_l1_ball(rows, self.radius))


@final
@dataclass(frozen=True, eq=False)
class Simplex:
    """No entry below zero and a given sum: probabilities, mixture weights.

    Args:
        total: The sum, > 0.
        dim: As for :class:`Ball`.

    Raises:
        ValueError: If the sum is not above 0.

    Example:
        >>> Simplex()(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0.7500, 0.2500, 0.0000])
    """

    total: float = 1.0
    dim: int | None = None

    def __post_init__(self) -> None:
        POSITIVE.check("Simplex", "total", self.total)

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the set."""
        return _along(x, self.dim, lambda rows: onto_simplex(rows, self.total))


@final
@dataclass(frozen=True, eq=False)
class Affine:
    """The solutions of A x = b, for a parameter of n entries.

    Args:
        matrix: A, of shape (m, n), of any rank.
        target: b, of shape (m,).

    Raises:
        ValueError: If the shapes do not fit, or there is no solution.

    Example:
        >>> Affine(torch.ones(1, 3), torch.tensor([3.0]))(torch.tensor([2.0, 2.0, 2.0]))
        tensor([1., 1., 1.])
    """

    matrix: Tensor
    target: Tensor

    def __post_init__(self) -> None:
        a, b = self.matrix.detach().double(), self.target.detach().double()
        if a.ndim != 2 or b.shape != a.shape[:1]:
            shapes = tuple(self.matrix.shape), tuple(self.target.shape)
            raise bad_argument("Affine", "matrix, target", shapes, "of shapes (m, n) and (m,)")
        inverse = torch.linalg.pinv(a)
        if not torch.allclose(a @ (inverse @ b), b, rtol=1e-8, atol=1e-8):
            raise bad_argument("Affine", "target", self.target, "in the range of matrix")
        object.__setattr__(self, "_system", (a, b, inverse))

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the set."""
        a, b, inverse = (part.to(x.device) for part in vars(self)["_system"])
        return _along(x, None, lambda row: onto_affine(row, a, b, inverse))


def _along(x: Tensor, dim: int | None, project: Projection) -> Tensor:
    """Project all entries as one vector, or each slice along ``dim``."""
    if dim is None:
        return project(x.reshape(1, -1)).reshape(x.shape)
    return project(x.movedim(dim, -1)).movedim(-1, dim)
