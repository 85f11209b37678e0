"""The More-Garbow-Hillstrom functions of fixed dimension: problems 1 to 10 of their paper."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor


__all__ = ["FIRST"]


def _count(x: Tensor, last: int, first: int = 1) -> Tensor:
    """The numbers first..last, of x's type and on its device."""
    return torch.arange(first, last + 1, dtype=x.dtype, device=x.device)


def rosenbrock(x: Tensor) -> Tensor:
    """A curved valley."""
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def freudenstein_roth(x: Tensor) -> Tensor:
    """Two cubics; a local minimum beside the root."""
    first = -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1]
    second = -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]
    return torch.stack([first, second])


def powell_badly_scaled(x: Tensor) -> Tensor:
    """A hyperbola 1e4 x y = 1 and a sum of exponentials."""
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x[0]) + torch.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    """A minimum at (1e6, 2e-6)."""
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: Tensor) -> Tensor:
    """Steep walls around a flat basin."""
    y = x.new_tensor([1.5, 2.25, 2.625])
    return y - x[0] * (1 - x[1] ** _count(x, 3))


def jennrich_sampson(x: Tensor) -> Tensor:
    """Exponentials that cannot fit: a large residual."""
    i = _count(x, 10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


def helical_valley(x: Tensor) -> Tensor:
    """A valley that winds around the third axis."""
    turn = torch.atan(x[1] / x[0]) / (2 * math.pi) + 0.5 * (x[0] < 0)
    radius = (x[0] ** 2 + x[1] ** 2).sqrt()
    return torch.stack([10 * (x[2] - 10 * turn), 10 * (radius - 1), x[2]])


BARD_Y: Final = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34,
                 2.10, 4.39)  # fmt: skip


def bard(x: Tensor) -> Tensor:
    """A rational curve; a second infimum at infinity, 17.4286."""
    u = _count(x, 15)
    v = 16 - u
    return x.new_tensor(BARD_Y) - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


GAUSSIAN_Y: Final = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989, 0.3521,
                     0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009)  # fmt: skip


def gaussian(x: Tensor) -> Tensor:
    """The normal density in fifteen points: the least sum of squares is 1e-8."""
    t = (8 - _count(x, 15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - x.new_tensor(GAUSSIAN_Y)


MEYER_Y: Final = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147,
                  4427, 3820, 3307, 2872)  # fmt: skip


def meyer(x: Tensor) -> Tensor:
    """The resistance of a thermistor: parameters of 6e-3 and 6e3."""
    t = 45 + 5 * _count(x, 16)
    return x[0] * torch.exp(x[1] / (t + x[2])) - x.new_tensor(MEYER_Y)


FIRST: Final = (
    ("rosenbrock", rosenbrock, (-1.2, 1.0), (0.0,)),
    ("freudenstein-roth", freudenstein_roth, (0.5, -2.0), (0.0, 48.98425367924001)),
    ("powell-badly-scaled", powell_badly_scaled, (0.0, 1.0), (0.0,)),
    ("brown-badly-scaled", brown_badly_scaled, (1.0, 1.0), (0.0,)),
    ("beale", beale, (1.0, 1.0), (0.0,)),
    ("jennrich-sampson", jennrich_sampson, (0.3, 0.4), (124.362182355615,)),
    ("helical-valley", helical_valley, (-1.0, 0.0, 0.0), (0.0,)),
    ("bard", bard, (1.0, 1.0, 1.0), (8.214877306578e-3,)),
    ("gaussian", gaussian, (0.4, 1.0, 0.0), (1.127932769619e-8,)),
    ("meyer", meyer, (0.02, 4000.0, 250.0), (87.945855170669,)),
)  # fmt: skip
"""Name, residuals, standard start and sums of squares at the minima, in the paper's order."""
