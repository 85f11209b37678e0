"""Small problems with bounds on the variables, for projected methods.

Eight of the collection of Hock and Schittkowski; two quadratics with a hundred variables and many
active bounds; a non-negative least-squares problem; a badly scaled function in a box.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from thalweg.problems.box import BoundedProblem
from thalweg.problems.hock_schittkowski import hock_schittkowski
from thalweg.problems.mgh_first import powell_badly_scaled


__all__ = ["bounded"]


def _obstacle(x: Tensor) -> Tensor:
    """A string under a uniform load that hangs over an obstacle."""
    ends = x.new_zeros(1)
    stretched = torch.cat([ends, x, ends]).diff()
    n = len(x)
    return 0.5 * (n + 1) * stretched.square().sum() + 8 * x.sum() / (n + 1)


def _torsion(x: Tensor) -> Tensor:
    """A bar under torsion that yields: the slope is at most one."""
    ends = x.new_zeros(1)
    stretched = torch.cat([ends, x, ends]).diff()
    n = len(x)
    return 0.5 * (n + 1) * stretched.square().sum() - 5 * x.sum() / (n + 1)


def _fit(x: Tensor) -> Tensor:
    """A wave fitted by non-negative amounts of bumps."""
    t = torch.linspace(0, 1, 60, dtype=x.dtype, device=x.device)
    centres = torch.linspace(0, 1, len(x), dtype=x.dtype, device=x.device)
    columns = torch.exp(-(((t[:, None] - centres) / 0.08) ** 2))
    return (columns @ x - torch.sin(9 * t)).square().sum()


def _powell(x: Tensor) -> Tensor:
    return powell_badly_scaled(x).square().sum()


@cache
def bounded() -> tuple[BoundedProblem, ...]:
    """Twelve problems.

    Example:
        >>> [problem.name for problem in bounded()][-2:]
        ['non-negative-fit', 'powell-in-a-box']
    """
    n, made = 100, "made for this package"
    middle = [abs(2 * i / (n + 1) - 1) for i in range(1, n + 1)]
    floor = tuple(-0.5 - 2 * (place - 0.4) ** 2 for place in middle)
    wall = tuple(1 - place for place in middle)
    none = math.inf
    return (
        *hock_schittkowski(),
        BoundedProblem("obstacle", _obstacle, (0.0,) * n, floor, (none,) * n,
                       (-2.225761433297162,), made),
        BoundedProblem("torsion", _torsion, (0.0,) * n, tuple(-w for w in wall), wall,
                       (-1.033251447877853,),
                       "Glowinski, Numerical Methods for Nonlinear Variational Problems, 1984"),
        BoundedProblem("non-negative-fit", _fit, (1.0,) * 20, (0.0,) * 20, (none,) * 20,
                       (10.477355171147045,), made),
        BoundedProblem("powell-in-a-box", _powell, (0.0, 1.0), (0.0, 1.0),
                       (1.0, 9.0), (1.5125936724396787e-10,),
                       "Gay, A Trust-Region Approach to Linearly Constrained Optimization, 1984"),
    )  # fmt: skip
