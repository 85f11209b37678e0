r"""A limited memory of steps and changes of the gradient, and its inverse Hessian's products.

From m pairs :math:`s_i, y_i` (the newest last) and :math:`H_0 = \gamma I`, BFGS updates make a
matrix H. Its product with a vector is the compact form of Byrd, Nocedal and Schnabel,

.. math::
    H g = \gamma g + \begin{bmatrix} S & \gamma Y \end{bmatrix}
    \begin{bmatrix} R^{-\top} (D + \gamma Y^\top Y) R^{-1} & -R^{-\top} \\ -R^{-1} & 0
    \end{bmatrix}
    \begin{bmatrix} S^\top g \\ \gamma Y^\top g \end{bmatrix},

where R is the upper triangle of :math:`S^\top Y` and D its diagonal: two matrix-vector products
with the pairs, two triangular solves of size m in float64, and two products back, where the
two-loop recursion takes 4m steps one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

from thalweg.numerics.lanczos import inner, project


__all__ = ["Pairs", "curved"]


@final
@dataclass
class Pairs:
    """The last m pairs.

    Args:
        size: m, the most that are kept.
        rows: The pairs, 2 x m x n: steps and changes, each in the order of their slots.
        order: The slots in use, the oldest first.
        cross: s_i'y_j by slots, m x m.
        gram: y_i'y_j by slots.

    Example:
        >>> pairs = Pairs(2)
        >>> pairs.add(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 0.0]))
        >>> pairs.product(torch.tensor([4.0, 4.0]), 0.5)
        tensor([1., 2.])
    """

    size: int
    rows: Tensor | None = None
    order: list[int] = field(default_factory=list)
    cross: list[list[float]] = field(default_factory=list)
    gram: list[list[float]] = field(default_factory=list)

    def add(self, step: Tensor, change: Tensor) -> None:
        """Keep a pair; the oldest goes where there are m."""
        if self.rows is None:
            self.rows = step.new_zeros(2, self.size, step.numel())
            self.cross = [[0.0] * self.size for _ in range(self.size)]
            self.gram = [[0.0] * self.size for _ in range(self.size)]
        full = len(self.order) == self.size
        slot = self.order.pop(0) if full else len(self.order)
        self.rows[0, slot], self.rows[1, slot] = step, change
        self.order.append(slot)
        used = len(self.order)
        steps, changes = self.rows[0, :used], self.rows[1, :used]
        with_change = torch.stack([project(change, rows, exact=True) for rows in (steps, changes)])
        across, along = with_change.double().tolist()
        for other in range(used):
            # s_i'y_j is needed where i is older than j; the new pair is the youngest.
            self.cross[other][slot] = across[other]
            self.gram[other][slot] = self.gram[slot][other] = along[other]

    def product(self, vector: Tensor, gamma: float) -> Tensor:
        """H times a vector."""
        if self.rows is None or not self.order:
            return gamma * vector
        used, order = len(self.order), np.array(self.order)
        steps, changes = self.rows[0, :used], self.rows[1, :used]
        found = torch.stack([project(vector, rows, exact=True) for rows in (steps, changes)])
        along, across = found.double().cpu().numpy()[:, order]
        among = order[:, None], order
        cross, gram = np.array(self.cross)[among], np.array(self.gram)[among]
        # LAPACK itself: scipy's checks around it would take longer than the step.
        solve: Any = lapack.dtrtrs  # type: ignore[attr-defined]
        first = solve(cross, along)[0]
        inside = np.diag(cross) * first - gamma * (across - gram @ first)
        second = solve(cross, inside, trans=1)[0]
        weights = np.empty((2, used))
        weights[0, order], weights[1, order] = second, -gamma * first
        of_steps, of_changes = torch.from_numpy(weights).to(vector)
        return (gamma * vector).addmv_(steps.T, of_steps).addmv_(changes.T, of_changes)

    def scale(self, slot: int) -> float:
        """The length gamma = s'y / y'y of a pair."""
        return self.cross[slot][slot] / self.gram[slot][slot]

    def plain(self) -> dict[str, Any]:
        """As plain data that a checkpoint can hold."""
        return dict(vars(self))


def curved(step: Tensor, change: Tensor, slope: float, eps: float) -> float:
    r"""The curvature s'y of a pair where it is above rounding; else 0.

    Args:
        step: s.
        change: y.
        slope: What s'y is a part of, :math:`-g^\top s` at the start of the step.
        eps: The rounding of their type.

    Returns:
        s'y; 0 where it is no more than rounding of its own terms or of the slope.

    Example:
        >>> curved(torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0]), 1.0, 1e-7)
        0.0
    """
    product = inner(step, change)
    size = max(inner(step.abs(), change.abs()), abs(slope))
    return product if product > eps * size else 0.0
