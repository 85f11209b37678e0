r"""How far a least-squares method trusts its linear model: scales, damping and radius.

The damping :math:`\mu` of Levenberg and Marquardt and the radius of More's trust region are two
views of one family of steps, from the gradient's direction to the undamped step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thalweg.errors import one_of


__all__ = ["column_scale", "first_radius", "nielsen"]

_SCALINGS = ("levenberg", "marquardt", "more")


def column_scale(norms: Tensor, before: Tensor | None, rule: str) -> Tensor:
    r"""The diagonal of D from the lengths of the Jacobian's columns.

    Args:
        norms: :math:`\lVert J_j \rVert`.
        before: The scale one step earlier, or None.
        rule: ``"levenberg"``: ones, which keeps the units of the parameters. ``"marquardt"``: the
            present lengths. ``"more"``: the largest so far, which forgets no scale; both of these
            make the method free of units. A column of zeros has scale 1.

    Returns:
        Positive numbers.

    Raises:
        ValueError: If there is no such rule.

    Example:
        >>> norms, before = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 5.0])
        >>> column_scale(norms, before, "more"), column_scale(norms, before, "marquardt")
        (tensor([1., 5.]), tensor([1., 2.]))

    References:
        Levenberg 1944; Marquardt 1963; More, The Levenberg-Marquardt algorithm, 1978, section 6.
    """
    one_of(*_SCALINGS).check("column_scale", "rule", rule)
    if rule == "levenberg":
        return torch.ones_like(norms)
    now = torch.where(norms > 0, norms, torch.ones_like(norms))
    if rule == "marquardt" or before is None:
        return now
    return torch.maximum(now, before)


def first_radius(size: float, factor: float = 100.0) -> float:
    r"""The first radius: ``factor`` times :math:`\lVert D x\rVert`, or ``factor`` where that is 0.

    Example:
        >>> first_radius(2.0), first_radius(0.0)
        (200.0, 100.0)
    """
    return factor * size if size > 0 else factor


def nielsen(damping: float, growth: float, ratio: float) -> tuple[float, float]:
    r"""The next damping: lower the better the model was, without jumps; up ever faster if refused.

    .. math::
        \mu \leftarrow \mu \max\bigl(\tfrac13, 1 - (2\rho - 1)^3\bigr) \text{ where } \rho > 0,
        \quad \mu \leftarrow \nu\mu,\ \nu \leftarrow 2\nu \text{ otherwise.}

    Args:
        damping: :math:`\mu`.
        growth: :math:`\nu`, 2 at first.
        ratio: The gain over the predicted gain.

    Returns:
        :math:`\mu` and :math:`\nu` for the next trial.

    Example:
        >>> nielsen(3.0, 4.0, 1.0), nielsen(3.0, 4.0, -1.0)
        ((1.0, 2.0), (12.0, 8.0))

    References:
        Nielsen, Damping parameter in Marquardt's method, 1999; Madsen, Nielsen and Tingleff,
        Methods for non-linear least squares problems, 2004.
    """
    if ratio > 0.0:
        return damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
    return damping * growth, 2.0 * growth
