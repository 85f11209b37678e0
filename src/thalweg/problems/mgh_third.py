"""The More-Garbow-Hillstrom functions of variable dimension: problems 20 to 27 of their paper."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor


__all__ = ["THIRD"]

PENALTY: Final = math.sqrt(1e-5)


def _count(x: Tensor, last: int, first: int = 1) -> Tensor:
    """The numbers first..last, of x's type and on its device."""
    return torch.arange(first, last + 1, dtype=x.dtype, device=x.device)


def watson(x: Tensor) -> Tensor:
    """A polynomial that solves a differential equation: ever worse conditioned with n."""
    t = _count(x, 29)[:, None] / 29
    j = _count(x, len(x) - 1)
    slope = (t ** (j - 1) * j) @ x[1:]
    value = (t ** _count(x, len(x) - 1, 0)) @ x
    return torch.cat([slope - value**2 - 1, x[:1], (x[1] - x[0] ** 2 - 1)[None]])


def extended_rosenbrock(x: Tensor) -> Tensor:
    """Rosenbrock's valley in each pair of variables."""
    first, second = x[0::2], x[1::2]
    return torch.stack([10 * (second - first**2), 1 - first], 1).reshape(-1)


def extended_powell_singular(x: Tensor) -> Tensor:
    """Powell's singular function in each four variables."""
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    lines = [a + 10 * b, math.sqrt(5) * (c - d)]
    squares = [(b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2]
    return torch.stack(lines + squares, 1).reshape(-1)


def penalty_1(x: Tensor) -> Tensor:
    """Near (1, ..., 1) and on a sphere of radius one half: not both."""
    return torch.cat([PENALTY * (x - 1), (x.dot(x) - 0.25)[None]])


def penalty_2(x: Tensor) -> Tensor:
    """Sums of neighbouring exponentials and a weighted sphere."""
    n = len(x)
    i = _count(x, n)
    neighbours = torch.exp(x[1:] / 10) + torch.exp(x[:-1] / 10)
    wanted = torch.exp(i[1:] / 10) + torch.exp(i[:-1] / 10)
    rest = torch.exp(x[1:] / 10) - math.exp(-0.1)
    sphere = ((n + 1 - i) * x**2).sum() - 1
    pieces = [(x[0] - 0.2)[None], PENALTY * (neighbours - wanted), PENALTY * rest, sphere[None]]
    return torch.cat(pieces)


def variably_dimensioned(x: Tensor) -> Tensor:
    """A quartic along one direction, a bowl across it."""
    s = (_count(x, len(x)) * (x - 1)).sum()
    return torch.cat([x - 1, torch.stack([s, s**2])])


def trigonometric(x: Tensor) -> Tensor:
    """Cosines and sines: more than one minimum."""
    return len(x) - x.cos().sum() + _count(x, len(x)) * (1 - x.cos()) - x.sin()


def brown_almost_linear(x: Tensor) -> Tensor:
    """Linear but for one product."""
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1), (x.prod() - 1)[None]])


THIRD: Final = (
    ("watson-6", watson, (0.0,) * 6, (2.287670053552e-3,)),
    ("watson-9", watson, (0.0,) * 9, (1.399760138093e-6,)),
    ("watson-12", watson, (0.0,) * 12, (4.72238110468e-10,)),
    ("extended-rosenbrock", extended_rosenbrock, (-1.2, 1.0) * 5, (0.0,)),
    ("extended-powell-singular", extended_powell_singular, (3.0, -1.0, 0.0, 1.0) * 3, (0.0,)),
    ("penalty-1-4", penalty_1, (1.0, 2.0, 3.0, 4.0), (2.249977500899937e-5,)),
    ("penalty-1-10", penalty_1, tuple(map(float, range(1, 11))), (7.087651467090e-5,)),
    ("penalty-2-4", penalty_2, (0.5,) * 4, (9.376293007355447e-6,)),
    ("penalty-2-10", penalty_2, (0.5,) * 10, (2.936605374567459e-4,)),
    ("variably-dimensioned", variably_dimensioned, tuple(1 - i / 10 for i in range(1, 11)), (0.0,)),
    ("trigonometric", trigonometric, (0.1,) * 10, (0.0, 2.7950561218779e-5)),
    ("brown-almost-linear", brown_almost_linear, (0.5,) * 10, (0.0, 1.0)),
)  # fmt: skip
"""Name, residuals, standard start and sums of squares at the minima, in the paper's order."""
