"""What a least-squares fit found, how sure it is, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from thalweg.minimization.result import Status
from thalweg.numerics.covariance import covariance


__all__ = ["LeastSquaresResult"]


@final
@dataclass(frozen=True)
class LeastSquaresResult:
    r"""A least-squares fit, what it cost, and why the search ended.

    Args:
        x: The best point, of the kind and shape of ``x0``.
        cost: :math:`\tfrac12 \sum_i r_i^2` there; with a robust loss
            :math:`\tfrac12 \sum_i c^2\rho(r_i^2/c^2)`.
        residuals: r there, flat.
        jacobian: J there, a row for each residual, a column for each entry of x in order; None
            where the method took products alone.
        grad: The gradient of the cost, like ``x``.
        optimality: The largest entry of the gradient in absolute value.
        angle: The cosine of the angle between the residuals and the space that J spans: what the
            test on the gradient looks at, free of units; 1 while a full step would remove them all.
        nit: Accepted steps.
        nfev: Residuals evaluated.
        njev: Jacobians.
        nhvp: Products with the Jacobian or its transpose.
        status: Why it stopped.
        success: Whether a test of convergence was met; at the limit of precision, whether the
            gradient is as small as that precision lets it be.
        message: The status in words, with the number that triggered it.
        seconds: Wall time.
        robust: Whether the loss is another one than squares.
        allvecs: The start and each accepted point, where they were asked for.

    Example:
        >>> import torch, thalweg as tw
        >>> t = torch.linspace(0, 1, 5, dtype=torch.float64)
        >>> result = tw.least_squares(lambda x: x[0] + x[1] * t - t**2, torch.zeros(2).double())
        >>> result.x.round(decimals=4).tolist(), result.deviations.round(decimals=4).tolist()
        ([-0.125, 1.0], [0.1046, 0.1708])
    """

    x: Any
    cost: float
    residuals: Any
    jacobian: Any
    grad: Any
    optimality: float
    angle: float
    nit: int
    nfev: int
    njev: int
    nhvp: int
    status: Status
    success: bool
    message: str
    seconds: float
    robust: bool = False
    allvecs: list[Any] = field(default_factory=list, repr=False)

    @property
    def fun(self) -> float:
        """The cost, under the name it has for ``minimize``."""
        return self.cost

    @cached_property
    def covariance(self) -> Any:
        r"""The covariance of the parameters, :math:`s^2 (J^\top J)^{-1}`, of shape (n, n).

        With :math:`s^2 = \sum r_i^2/(m - n)`: for residuals that are errors of one unknown
        variance. Parameters that the data do not determine have infinite variance. None where there
        is no Jacobian, or another loss than squares.
        """
        if self.jacobian is None or self.robust:
            return None
        made = covariance(torch.as_tensor(self.jacobian), 2.0 * self.cost)
        return made.numpy() if isinstance(self.jacobian, np.ndarray) else made

    @property
    def deviations(self) -> Any:
        """The standard deviations of the parameters: roots of the covariance's diagonal."""
        if self.covariance is None:
            return None
        diagonal = self.covariance.diagonal()
        return diagonal.sqrt() if isinstance(diagonal, Tensor) else np.sqrt(diagonal)

    def __str__(self) -> str:
        """The facts, one a line."""
        spent = f"{self.nfev} residuals, {self.njev} Jacobians"
        rows = {
            "message": self.message,
            "success": self.success,
            "cost": f"{self.cost:.10g}",
            "angle": f"{self.angle:.3g}",
            "iterations": self.nit,
            "evaluations": f"{spent}, {self.nhvp} products" if self.nhvp else spent,
            "x": self.x,
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:>{width}}: {value}" for name, value in rows.items())
