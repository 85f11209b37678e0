"""Classical symmetric positive definite matrices, in float64."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor


__all__ = [
    "geometric",
    "hilbert",
    "kac_murdock_szego",
    "laplacian",
    "laplacian_2d",
    "lehmer",
    "moler",
    "pascal",
]

DOUBLE: Final = torch.float64


def _count(n: int) -> Tensor:
    return torch.arange(1, n + 1, dtype=DOUBLE)


def hilbert(n: int) -> Tensor:
    """One over i + j - 1: condition number about exp(3.5 n)."""
    i = _count(n)
    return 1 / (i[:, None] + i - 1)


def pascal(n: int) -> Tensor:
    """Binomial coefficients: determinant one, integer inverse."""
    rows = [[math.comb(i + j, i) for j in range(n)] for i in range(n)]
    return torch.tensor(rows, dtype=DOUBLE)


def moler(n: int) -> Tensor:
    """L L' of the unit triangle with -1 below: one tiny eigenvalue."""
    lower = torch.eye(n, dtype=DOUBLE) - torch.ones(n, n, dtype=DOUBLE).tril(-1)
    return lower @ lower.T


def laplacian(n: int) -> Tensor:
    """Second differences on a line."""
    ones = torch.ones(n - 1, dtype=DOUBLE)
    return 2 * torch.eye(n, dtype=DOUBLE) - torch.diag(ones, 1) - torch.diag(ones, -1)


def laplacian_2d(side: int) -> Tensor:
    """The five-point Laplacian on a square."""
    line, identity = laplacian(side), torch.eye(side, dtype=DOUBLE)
    return torch.kron(line, identity) + torch.kron(identity, line)


def lehmer(n: int) -> Tensor:
    """min(i, j) / max(i, j)."""
    i = _count(n)
    return torch.minimum(i[:, None], i) / torch.maximum(i[:, None], i)


def kac_murdock_szego(n: int) -> Tensor:
    """0.9 to the power of the distance: correlation in time."""
    i = _count(n)
    return 0.9 ** (i[:, None] - i).abs()


def geometric(n: int, condition: float) -> Tensor:
    """Eigenvalues in geometric progression, behind a reflection that mixes all coordinates."""
    values = condition ** -torch.linspace(0, 1, n, dtype=DOUBLE)
    normal = _count(n).sqrt()
    mirror = torch.eye(n, dtype=DOUBLE) - 2 * torch.outer(normal, normal) / normal.dot(normal)
    made = mirror @ (values[:, None] * mirror)
    return (made + made.T) / 2
