"""Eight problems with bounds of the collection of Hock and Schittkowski."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from thalweg.problems.box import BoundedProblem
from thalweg.problems.mgh_first import rosenbrock
from thalweg.problems.mgh_second import wood


__all__ = ["hock_schittkowski"]

REFERENCE: Final = (
    "Hock and Schittkowski, Test Examples for Nonlinear Programming Codes, 1981, problem {}"
)


def _squares(residuals: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: residuals(x).square().sum()


def _nearly_linear(x: Tensor) -> Tensor:
    return x[1] + 1e-5 * (x[1] - x[0]) ** 2


def _cubic(x: Tensor) -> Tensor:
    return (x[0] + 1) ** 3 / 3 + x[1]


def _mccormick(x: Tensor) -> Tensor:
    return torch.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1


def _product(x: Tensor) -> Tensor:
    return 2 - x.prod() / 120


def _logarithms(x: Tensor) -> Tensor:
    return ((x - 2).log() ** 2 + (10 - x).log() ** 2).sum() - x.prod() ** 0.2


def hock_schittkowski() -> list[BoundedProblem]:
    """Problems 1 to 5, 38, 45 and 110 of the collection.

    Example:
        >>> hock_schittkowski()[3].minima
        (2.66...,)
    """
    none = math.inf
    rows: list[tuple[int, Callable[[Tensor], Tensor], tuple[float, ...], tuple[float, ...],
                     tuple[float, ...], tuple[float, ...]]] = [
        (1, _squares(rosenbrock), (-2.0, 1.0), (-none, -1.5), (none, none), (0.0,)),
        (2, _squares(rosenbrock), (-2.0, 1.0), (-none, 1.5), (none, none),
         (0.05042618789360708, 4.941229317989)),
        (3, _nearly_linear, (10.0, 1.0), (-none, 0.0), (none, none), (0.0,)),
        (4, _cubic, (1.125, 0.125), (1.0, 0.0), (none, none), (8 / 3,)),
        (5, _mccormick, (0.0, 0.0), (-1.5, -3.0), (4.0, 3.0), (-math.sqrt(3) / 2 - math.pi / 3,)),
        (38, _squares(wood), (-3.0, -1.0, -3.0, -1.0), (-10.0,) * 4, (10.0,) * 4, (0.0,)),
        (45, _product, (2.0,) * 5, (0.0,) * 5, (1.0, 2.0, 3.0, 4.0, 5.0), (1.0,)),
        (110, _logarithms, (9.0,) * 10, (2.001,) * 10, (9.999,) * 10, (-45.7784697074463,)),
    ]  # fmt: skip
    return [
        BoundedProblem(f"hock-{number}", fn, start, lower, upper, value, REFERENCE.format(number))
        for number, fn, start, lower, upper, value in rows
    ]
