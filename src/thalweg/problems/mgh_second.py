"""The More-Garbow-Hillstrom functions of fixed dimension: problems 11 to 19 of their paper.

The exponent of problem 11 is that of its authors' program: the printed formula is not zero at the
printed minimum.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor


__all__ = ["SECOND"]


def _count(x: Tensor, last: int, first: int = 1) -> Tensor:
    """The numbers first..last, of x's type and on its device."""
    return torch.arange(first, last + 1, dtype=x.dtype, device=x.device)


def gulf(x: Tensor) -> Tensor:
    """Gulf research and development: a stretched exponential, 99 terms."""
    t = _count(x, 99) / 100
    y = 25 + (-50 * t.log()) ** (2 / 3)
    return torch.exp(-((y - x[1]).abs() ** x[2]) / x[0]) - t


def box(x: Tensor) -> Tensor:
    """Box in three dimensions: exponentials with a line of minima."""
    t = _count(x, 10) / 10
    differences = torch.exp(-t) - torch.exp(-10 * t)
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * differences


def powell_singular(x: Tensor) -> Tensor:
    """A singular Hessian at the minimum."""
    return torch.stack([
        x[0] + 10 * x[1],
        math.sqrt(5) * (x[2] - x[3]),
        (x[1] - 2 * x[2]) ** 2,
        math.sqrt(10) * (x[0] - x[3]) ** 2,
    ])  # fmt: skip


def wood(x: Tensor) -> Tensor:
    """Two Rosenbrock valleys, coupled."""
    return torch.stack([
        10 * (x[1] - x[0] ** 2),
        1 - x[0],
        math.sqrt(90) * (x[3] - x[2] ** 2),
        1 - x[2],
        math.sqrt(10) * (x[1] + x[3] - 2),
        (x[1] - x[3]) / math.sqrt(10),
    ])  # fmt: skip


KOWALIK_Y: Final = (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235,
                    0.0246)  # fmt: skip
KOWALIK_U: Final = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x: Tensor) -> Tensor:
    """A rational curve; a second infimum at infinity, 1.02734e-3."""
    u = x.new_tensor(KOWALIK_U)
    return x.new_tensor(KOWALIK_Y) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    """A sum of squares of sums of squares: a residual of 86 thousand."""
    t = _count(x, 20) / 5
    line = x[0] + t * x[1] - torch.exp(t)
    wave = x[2] + x[3] * torch.sin(t) - torch.cos(t)
    return line**2 + wave**2


OSBORNE_1_Y: Final = (
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685,
    0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448,
    0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406,
)  # fmt: skip


def osborne_1(x: Tensor) -> Tensor:
    """Two exponentials and a constant; NIST's MGH17 from a nearer start."""
    t = 10 * (_count(x, 33) - 1)
    return x.new_tensor(OSBORNE_1_Y) - (
        x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4])
    )


def biggs(x: Tensor) -> Tensor:
    """Biggs EXP6, 13 terms: three exponentials, and a local minimum beside the root."""
    t = _count(x, 13) / 10
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    first = x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1])
    return first + x[5] * torch.exp(-t * x[4]) - y


OSBORNE_2_Y: Final = (
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608,
    0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661,
    0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428,
    0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559,
    0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054,
)  # fmt: skip


def osborne_2(x: Tensor) -> Tensor:
    """An exponential and three Gaussian peaks."""
    t = (_count(x, 65) - 1) / 10
    decay = x[0] * torch.exp(-t * x[4])
    peaks = (x[1:4] * torch.exp(-((t[:, None] - x[8:11]) ** 2) * x[5:8])).sum(-1)
    return x.new_tensor(OSBORNE_2_Y) - (decay + peaks)


SECOND: Final = (
    ("gulf", gulf, (5.0, 2.5, 0.15), (0.0,)),
    ("box", box, (0.0, 10.0, 20.0), (0.0,)),
    ("powell-singular", powell_singular, (3.0, -1.0, 0.0, 1.0), (0.0,)),
    ("wood", wood, (-3.0, -1.0, -3.0, -1.0), (0.0,)),
    ("kowalik-osborne", kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.075056038492e-4,)),
    ("brown-dennis", brown_dennis, (25.0, 5.0, -5.0, -1.0), (85822.201626356,)),
    ("osborne-1", osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), (5.464894697483e-5,)),
    ("biggs", biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0.0, 5.655649925507e-3)),
    ("osborne-2", osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
     (4.013773629355e-2,)),
)  # fmt: skip
"""Name, residuals, standard start and sums of squares at the minima, in the paper's order."""
