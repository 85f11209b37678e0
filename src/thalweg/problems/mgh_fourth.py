"""The More-Garbow-Hillstrom functions of variable dimension: problems 28 to 35 of their paper."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad


__all__ = ["FOURTH"]


def _count(x: Tensor, last: int, first: int = 1) -> Tensor:
    """The numbers first..last, of x's type and on its device."""
    return torch.arange(first, last + 1, dtype=x.dtype, device=x.device)


def discrete_boundary_value(x: Tensor) -> Tensor:
    """A boundary value problem by differences."""
    h = 1 / (len(x) + 1)
    t = h * _count(x, len(x))
    return 2 * x - pad(x, (1, 0))[:-1] - pad(x, (0, 1))[1:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral_equation(x: Tensor) -> Tensor:
    """The same problem as an integral equation."""
    h = 1 / (len(x) + 1)
    t = h * _count(x, len(x))
    cubes = (x + t + 1) ** 3
    below = torch.cumsum(t * cubes, 0)
    above = ((1 - t) * cubes).sum() - torch.cumsum((1 - t) * cubes, 0)
    return x + h * ((1 - t) * below + t * above) / 2


def broyden_tridiagonal(x: Tensor) -> Tensor:
    """Each variable with its neighbours."""
    return (3 - 2 * x) * x - pad(x, (1, 0))[:-1] - 2 * pad(x, (0, 1))[1:] + 1


def broyden_banded(x: Tensor) -> Tensor:
    """Each variable with five before it and one after."""
    i = _count(x, len(x))
    away = i[None, :] - i[:, None]  # column minus row
    band = ((away >= -5) & (away <= 1) & (away != 0)).to(x.dtype)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


def linear_full_rank(m: int, x: Tensor) -> Tensor:
    """A linear problem with orthogonal columns."""
    return pad(x, (0, m - len(x))) - 2 / m * x.sum() - 1


def linear_rank_1(m: int, x: Tensor) -> Tensor:
    """A linear problem of rank one: a plane of minima."""
    return _count(x, m) * (_count(x, len(x)) * x).sum() - 1


def linear_rank_1_zeros(m: int, x: Tensor) -> Tensor:
    """The same with zero columns and rows."""
    inner = (_count(x, len(x) - 1, 2) * x[1:-1]).sum()
    return pad(_count(x, m - 2) * inner, (1, 1)) - 1


def chebyquad(x: Tensor) -> Tensor:
    """Means of Chebyshev polynomials on [0, 1] against their integrals."""
    n = len(x)
    shifted = 2 * x - 1
    polynomials = [torch.ones_like(x), shifted]
    for _ in range(n - 1):
        polynomials.append(2 * shifted * polynomials[-1] - polynomials[-2])
    integrals = x.new_tensor([0 if i % 2 else -1 / (i**2 - 1) for i in range(1, n + 1)])
    return torch.stack(polynomials[1:]).mean(1) - integrals


def _ramp(n: int) -> tuple[float, ...]:
    h = 1 / (n + 1)
    return tuple(i * h * (i * h - 1) for i in range(1, n + 1))


def _even(n: int) -> tuple[float, ...]:
    return tuple(i / (n + 1) for i in range(1, n + 1))


FOURTH: Final = (
    ("discrete-boundary-value", discrete_boundary_value, _ramp(10), (0.0,)),
    ("discrete-integral-equation", discrete_integral_equation, _ramp(10), (0.0,)),
    ("broyden-tridiagonal", broyden_tridiagonal, (-1.0,) * 10, (0.0,)),
    # The second is a local minimum, which line searches reach from the standard start.
    ("broyden-banded", broyden_banded, (-1.0,) * 10, (0.0, 3.057278432425819)),
    ("linear-full-rank", partial(linear_full_rank, 20), (1.0,) * 10, (10.0,)),
    ("linear-rank-1", partial(linear_rank_1, 20), (1.0,) * 10, (20 * 19 / 82,)),
    ("linear-rank-1-zeros", partial(linear_rank_1_zeros, 20), (1.0,) * 10, (454 / 74,)),
    ("chebyquad-8", chebyquad, _even(8), (3.516873725678e-3,)),
    ("chebyquad-9", chebyquad, _even(9), (0.0,)),
    ("chebyquad-10", chebyquad, _even(10),
     (4.772713696375e-3, 6.5039548008823e-3, 9.500628850222e-3)),
)  # fmt: skip
"""Name, residuals, standard start and sums of squares at the minima, in the paper's order."""
