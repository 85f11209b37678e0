r"""Losses that a few wild residuals do not rule, and how they enter a least-squares method.

The cost is :math:`\tfrac12 \sum_i c^2 \rho(r_i^2 / c^2)`, with :math:`\rho(z) \approx z` for small
z. Near a point it is again a sum of squares, of residuals and a Jacobian that are rescaled row by
row (Triggs et al. 2000): its gradient is exact, and its Gauss-Newton matrix has the curvature of
:math:`\rho` as far as it stays positive.

References:
    Triggs, McLauchlan, Hartley and Fitzgibbon, Bundle adjustment: a modern synthesis, 2000.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.errors import POSITIVE, one_of


__all__ = ["LOSSES", "Reweighted", "robust_cost", "robust_rows"]

_KEPT = 0.01  # share of the first derivative
LOSSES = ("linear", "soft_l1", "huber", "cauchy", "arctan")


class Reweighted(NamedTuple):
    """The sum of squares that stands in for a robust loss at a point.

    Args:
        residuals: The rescaled residuals.
        rows: What each row of the Jacobian is multiplied by.
    """

    residuals: Tensor
    rows: Tensor


def _rho(z: Tensor, loss: str) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its first two derivatives at z >= 0."""
    if loss == "soft_l1":  # 2 (sqrt(1 + z) - 1), without its cancellation
        root = (1 + z).sqrt()
        return 2 * z / (1 + root), 1 / root, -0.5 / root**3
    if loss == "huber":
        inside, root = z <= 1, z.clamp_min(1).sqrt()
        zero = torch.zeros_like(z)
        return (
            torch.where(inside, z, 2 * root - 1),
            torch.where(inside, torch.ones_like(z), 1 / root),
            torch.where(inside, zero, -0.5 / root**3),
        )
    if loss == "cauchy":
        return torch.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2
    if loss == "arctan":
        below = 1 + z**2
        return torch.atan(z), 1 / below, -2 * z / below**2
    return z, torch.ones_like(z), torch.zeros_like(z)


def robust_cost(residuals: Tensor, loss: str = "linear", scale: float = 1.0) -> float:
    r""":math:`\tfrac12 \sum_i c^2 \rho(r_i^2/c^2)`, summed in float64; NaN and infinity stay.

    Args:
        residuals: r, flat.
        loss: ``"linear"`` (squares), ``"soft_l1"``, ``"huber"``, ``"cauchy"`` or ``"arctan"``:
            scipy's, with the same meaning.
        scale: c > 0, the size up to which a residual counts as small.

    Raises:
        ValueError: If there is no such loss, or the scale is not positive.

    Example:
        >>> r = torch.tensor([3.0, 4.0])
        >>> robust_cost(r), robust_cost(r, "huber")
        (12.5, 6.0)
    """
    one_of(*LOSSES).check("robust_cost", "loss", loss)
    POSITIVE.check("robust_cost", "scale", scale)
    r = residuals.double()
    if loss == "linear":
        return 0.5 * float(r.dot(r))
    value, _, _ = _rho((r / scale) ** 2, loss)
    return 0.5 * scale**2 * float(value.sum())


def robust_rows(residuals: Tensor, loss: str, scale: float = 1.0) -> Reweighted:
    r"""Rescaled residuals and rows, :math:`\tilde r` and :math:`\tilde J = w J`.

    The gradient is exact: :math:`\tilde J^\top \tilde r = J^\top (\rho' r)`.

    Args:
        residuals: r, flat.
        loss: As in :func:`robust_cost`.
        scale: c > 0.

    Example:
        >>> made = robust_rows(torch.tensor([0.5, 4.0]), "huber")
        >>> (made.residuals * made.rows).tolist()
        [0.5, 1.0]
    """
    if loss == "linear":
        return Reweighted(residuals, torch.ones_like(residuals))
    z = (residuals / scale) ** 2
    _, first, second = _rho(z, loss)
    # A row whose second derivative is not positive keeps a little, for it still has a gradient; if
    # less, its residual would be so large that it drowned the others in rounding.
    rows = torch.maximum(first + 2 * second * z, _KEPT * first).sqrt()
    return Reweighted(first * residuals / rows, rows)
