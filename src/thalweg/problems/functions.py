"""Functions of two variables on which optimizers are seen and tested.

Each states its formula, the lowest points with their value, its saddles, and where it is from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.errors import POSITIVE, bad_argument
from thalweg.problems.problem import TestFunction


__all__ = [
    "BEALE",
    "BOOTH",
    "HIMMELBLAU",
    "MONKEY_SADDLE",
    "RASTRIGIN",
    "RAVINE",
    "ROSENBROCK",
    "SADDLE",
    "quadratic",
]


@final
@dataclass(frozen=True)
class _Quadratic:
    """Half the quadratic form with given eigenvalues, rotated; an object so that it pickles."""

    eigenvalues: tuple[float, float]
    angle: float
    centre: tuple[float, float]

    def __call__(self, points: Tensor) -> Tensor:
        x, y = (points - points.new_tensor(self.centre)).unbind(-1)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across = cos * x + sin * y, cos * y - sin * x
        return 0.5 * (self.eigenvalues[0] * along**2 + self.eigenvalues[1] * across**2)


def quadratic(
    eigenvalues: tuple[float, float] = (1.0, 100.0),
    angle: float = 0.0,
    centre: tuple[float, float] = (0.0, 0.0),
    start: tuple[float, float] = (-4.0, 1.0),
) -> TestFunction:
    r"""A quadratic bowl, :math:`f(p) = \frac12 (p - c)^T R\,\mathrm{diag}(\lambda)\,R^T (p - c)`.

    Its Hessian is the same everywhere; gradient descent is stable below a learning rate of
    :math:`2 / \lambda_{\max}` and fastest at :math:`2 / (\lambda_{\min} + \lambda_{\max})`.

    Args:
        eigenvalues: Curvature along each axis of the bowl, both > 0.
        angle: The turn R of the first axis against the x axis, in radians.
        centre: The minimum c.
        start: Where optimizers start.

    Raises:
        ValueError: If an eigenvalue is not positive.

    Example:
        >>> quadratic((2.0, 8.0))(torch.tensor([1.0, 1.0])).item()
        5.0

    References:
        S. Boyd, L. Vandenberghe, Convex Optimization, Cambridge University Press 2004, section 9.3.
    """
    if not all(POSITIVE.contains(value) for value in eigenvalues):
        raise bad_argument("quadratic", "eigenvalues", eigenvalues, "two numbers in (0, inf)")
    reach = 1.25 * max(1.0, *(abs(s - c) for s, c in zip(start, centre, strict=True)))
    (first, second), (x, y) = eigenvalues, centre
    return TestFunction(
        "quadratic",
        _Quadratic(eigenvalues, angle, centre),
        start,
        ((x - reach, x + reach), (y - reach, y + reach)),
        ((centre, 0.0),),
        f"({first:g} u^2 + {second:g} v^2) / 2, (u, v) = (x, y) turned by {angle:g}"
        f" about ({x:g}, {y:g})",
        "Boyd and Vandenberghe, Convex Optimization, 2004, section 9.3",
    )


def _rosenbrock(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


ROSENBROCK = TestFunction(
    "rosenbrock",
    _rosenbrock,
    (-1.2, 1.0),
    ((-2.0, 2.0), (-1.0, 3.0)),
    (((1.0, 1.0), 0.0),),
    "(1 - x)^2 + 100 (y - x^2)^2",
    "Rosenbrock, An Automatic Method for Finding the Greatest or Least Value of a Function, 1960",
)
"""A curved valley with a flat floor; condition number 2508 at the minimum."""


def _beale(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    first, second, third = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return first**2 + second**2 + third**2


BEALE = TestFunction(
    "beale",
    _beale,
    (1.0, 1.0),
    ((-4.5, 4.5), (-4.5, 4.5)),
    (((3.0, 0.5), 0.0),),
    "(1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2",
    "Beale, On an Iterative Method for Finding a Local Minimum, 1958; More, Garbow and Hillstrom, "
    "Testing Unconstrained Optimization Software, 1981, problem 5",
    saddles=((0.0, 1.0),),
)
"""Steep walls around a flat basin, and a saddle beside it."""


def _himmelblau(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


HIMMELBLAU = TestFunction(
    "himmelblau",
    _himmelblau,
    (0.0, -4.5),
    ((-5.0, 5.0), (-5.0, 5.0)),
    (
        ((3.0, 2.0), 0.0),
        ((-2.805118086952745, 3.131312518250573), 0.0),
        ((-3.779310253377747, -3.283185991286169), 0.0),
        ((3.584428340330492, -1.848126526964404), 0.0),
    ),
    "(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
    "Himmelblau, Applied Nonlinear Programming, 1972",
    saddles=(
        (-3.0730257507643897, -0.08135304428796751),
        (0.08667750455539634, 2.884254701174776),
        (3.385154183607021, 0.07385187983774928),
        (-0.12796134673068008, -1.9537149802445766),
    ),
)
"""Four minima of one depth: which is reached says more of the path than of the method."""


def _booth(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


BOOTH = TestFunction(
    "booth",
    _booth,
    (-5.0, 5.0),
    ((-10.0, 10.0), (-10.0, 10.0)),
    (((1.0, 3.0), 0.0),),
    "(x + 2 y - 7)^2 + (2 x + y - 5)^2",
    "Jamil and Yang, A Literature Survey of Benchmark Functions for Global Optimization Problems, "
    "2013, function 17",
)
"""A quadratic of condition number 9, off the axes: what every method should do well."""


def _rastrigin(points: Tensor) -> Tensor:
    wave = torch.cos(2 * math.pi * points)
    return (points**2 - 10 * wave + 10).sum(-1)


RASTRIGIN = TestFunction(
    "rastrigin",
    _rastrigin,
    (-0.4, 0.35),
    ((-5.12, 5.12), (-5.12, 5.12)),
    (((0.0, 0.0), 0.0),),
    "20 + x^2 - 10 cos(2 pi x) + y^2 - 10 cos(2 pi y)",
    "Rastrigin, Systems of Extremal Control, 1974",
    saddles=(
        (0.5025460365546747, 0.0),
        (-0.5025460365546747, 0.0),
        (0.0, 0.5025460365546747),
        (0.0, -0.5025460365546747),
    ),
)
"""One global minimum among a local one in every cell of side one, with saddles between them.

Only the global one and the four saddles around it are listed. Local methods keep to the cell they
start in, which is that of the global minimum; large steps leave it.
"""


def _ravine(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return x**2 / 20 + 5 * (y - torch.sin(x)) ** 2


RAVINE = TestFunction(
    "ravine",
    _ravine,
    (-6.0, 2.0),
    ((-8.0, 8.0), (-4.0, 4.0)),
    (((0.0, 0.0), 0.0),),
    "x^2 / 20 + 5 (y - sin x)^2",
    "made for this package: Rosenbrock's valley with several bends",
)
"""A winding valley that falls gently to its only stationary point; condition number 402 there."""


def _saddle(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return x**2 - y**2


SADDLE = TestFunction(
    "saddle",
    _saddle,
    (1.5, 1e-3),
    ((-2.0, 2.0), (-2.0, 2.0)),
    (),
    "x^2 - y^2 (unbounded below: no minimum)",
    "Dauphin et al., Identifying and Attacking the Saddle Point Problem in High-Dimensional "
    "Non-Convex Optimization, 2014",
    saddles=((0.0, 0.0),),
)
"""The start lies a thousandth off the line that leads into the saddle: how long until it leaves?"""


def _monkey_saddle(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return x**3 - 3 * x * y**2


MONKEY_SADDLE = TestFunction(
    "monkey-saddle",
    _monkey_saddle,
    (0.9, 0.01),
    ((-1.5, 1.5), (-1.5, 1.5)),
    (),
    "x^3 - 3 x y^2 (unbounded below: no minimum)",
    "Hilbert and Cohn-Vossen, Geometry and the Imagination, 1952, section 29; Dauphin et al., 2014",
    saddles=((0.0, 0.0),),
)
"""A degenerate saddle: at the origin the gradient and the whole Hessian are zero."""
