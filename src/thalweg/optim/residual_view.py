r"""Residuals and cost at one point, and what the linear model there is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from thalweg.numerics.robust import robust_cost, robust_rows
from thalweg.optim.residual_sight import Outlook
from thalweg.optim.sight import Counts


__all__ = ["View"]


@final
class View:
    r"""Residuals and cost at a point, and the linear model there.

    With a robust loss the cost is :math:`\tfrac12 \sum c^2\rho(r_i^2/c^2)`, and ``residuals`` and
    ``jacobian`` are those of the sum of squares that stands in for it.

    Args:
        x: The point, flat.
        outlook: The residuals there.
        robust: The loss and its scale.
        counts: Where evaluations are counted.
    """

    def __init__(
        self, x: Tensor, outlook: Outlook, robust: tuple[str, float], counts: Counts
    ) -> None:
        self.x = x
        self.plain: Tensor = outlook.residuals
        self.fun = robust_cost(self.plain, *robust) if self.plain.numel() else 0.0
        self._outlook, self._robust, self._counts = outlook, robust, counts
        self._jacobian: Tensor | None = None
        self._rows: Tensor | None = None
        self.residuals: Tensor = self.plain
        if robust[0] != "linear" and math.isfinite(self.fun):
            self.residuals, self._rows = robust_rows(self.plain, *robust)

    @property
    def finite(self) -> bool:
        """Whether the cost is a number."""
        return math.isfinite(self.fun)

    def plain_jacobian(self) -> Tensor:
        """J of the residuals as they are, once."""
        if self._jacobian is None:
            self._counts.ngev += 1
            self._jacobian = self._outlook.jacobian().to(self.x.dtype)
        return self._jacobian

    def jacobian(self) -> Tensor:
        """J of the residuals of the sum of squares."""
        made = self.plain_jacobian()
        return made if self._rows is None else made * self._rows[:, None].to(made)

    def weighted(self, u: Tensor) -> Tensor:
        """A vector of the residuals' space as the sum of squares has it: its rows rescaled."""
        return u if self._rows is None else u * self._rows.to(u)

    def gradient(self) -> Tensor:
        """The gradient of the cost, flat."""
        if self._jacobian is not None:
            return self.jacobian().T @ self.residuals.to(self.x)
        return self.adjoint(self.residuals)

    def forward(self, v: Sequence[Tensor]) -> Tensor:
        """J v, flat."""
        self._counts.nhvp += 1
        made = self._outlook.forward(v)
        return made if self._rows is None else made * self._rows

    def adjoint(self, u: Tensor) -> Tensor:
        """J'u, flat."""
        self._counts.nhvp += 1
        parts = self._outlook.adjoint(u if self._rows is None else u * self._rows)
        return torch.cat([part.reshape(-1).to(self.x.dtype) for part in parts])
