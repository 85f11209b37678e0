r"""The condition number of the positive part of a spectrum.

Gradient descent with a fixed rate needs about :math:`\kappa` steps to reduce the error by e along
the slowest direction that still curves upwards. A network's Hessian has eigenvalues at and around
zero, so :math:`\kappa` is a statement about a tolerance as much as about the network, and comes
with the share of eigenvalues that the tolerance sets aside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from thalweg.curvature.eigen import eigsh
from thalweg.curvature.index import negative_eigenvalues
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.symmetric import (
    check_symmetric,
    dense_matrix,
    symmetric_product,
    working_dtype,
)
from thalweg.errors import bad_argument, integer_from, one_of
from thalweg.numerics.lanczos import ROUNDING
from thalweg.numerics.probes import Probes
from thalweg.numerics.thick_restart import Search, eigenpairs


__all__ = ["ConditionNumber", "condition_number"]

_DENSE = 1500  # rows up to which "auto" forms the matrix
_PROBES = 4  # random vectors that tell how much the tolerance sets aside
_BASIS = 80


@final
@dataclass(frozen=True)
class ConditionNumber:
    r""":math:`\kappa = \lambda_{\max} / \lambda_{+}`.

    Here :math:`\lambda_{+}` is the smallest eigenvalue above ``tolerance`` times
    :math:`\lambda_{\max}`.

    Args:
        value: The estimate; NaN if no eigenvalue is positive.
        low: At least this, by the residuals.
        high: At most this: ``1 / tolerance`` unless the whole spectrum lies above the tolerance.
        largest: :math:`\lambda_{\max}`.
        smallest: :math:`\lambda_{+}`.
        tolerance: As it was asked for.
        inside: The share of eigenvalues within plus and minus tolerance times the largest.
        below: The share of eigenvalues below that.
        products: Products spent.
        method: ``"dense"`` or ``"lanczos"``.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> k = condition_number(Dense(torch.diag(torch.tensor([-1.0, 0.0, 2.0, 8.0]))), 1e-3)
        >>> k.value, k.inside, k.below
        (4.0, 0.25, 0.25)
    """

    value: float
    low: float
    high: float
    largest: float
    smallest: float
    tolerance: float
    inside: float
    below: float
    products: int
    method: str

    def __str__(self) -> str:
        shares = f"{self.inside:.1%} of eigenvalues inside the tolerance, {self.below:.1%} below"
        between = f"{self.value:.4g} in [{self.low:.4g}, {self.high:.4g}]"
        return f"{between} above {self.tolerance:g} ({shares}; {self.products} products)"


def condition_number(
    A: AbstractOperator,
    tolerance: float,
    *,
    method: str = "auto",
    tol: float = 0.01,
    max_products: int = 400,
    seed: int = 0,
    progress: bool = False,
) -> ConditionNumber:
    r"""The condition number of the part of the spectrum above a tolerance.

    If the smallest eigenvalue lies above the tolerance, both ends come from Lanczos with residual
    bounds. If not, the smallest eigenvalue above it lies inside the spectrum. Lanczos looks for it
    from within; what it finds bounds :math:`\kappa` from below, and the tolerance bounds it from
    above.

    Args:
        A: A symmetric operator.
        tolerance: What counts as zero, as a share of the largest eigenvalue, in (0, 1).
        method: ``"dense"`` (n products and LAPACK), ``"lanczos"``, or ``"auto"``: the first up to
            1500 rows.
        tol: Relative residual of the eigenvalues, > 0.
        max_products: At most so many products for the ends, and as many for the inner eigenvalue,
            >= 100. The shares take 320 more.
        seed: An integer.
        progress: Show progress bars.

    Returns:
        The condition number with bounds, and the shares that were set aside.

    Raises:
        ValueError: If A is not symmetric, or an argument is outside its range.
        NonFiniteError: If a product has a NaN or an infinite entry.
    """
    one_of("auto", "dense", "lanczos").check("condition_number", "method", method)
    if not 0.0 < tolerance < 1.0:
        raise bad_argument("condition_number", "tolerance", tolerance, "a number in (0, 1)")
    integer_from(100).check("condition_number", "max_products", max_products)
    check_symmetric("condition_number", A)
    if method == "dense" or (method == "auto" and A.shape[0] <= _DENSE):
        return _dense(A, tolerance)
    options = {"tol": tol, "seed": seed, "progress": progress}
    ends = eigsh(A, 2, "BE", copies=False, max_products=max_products, **options)
    top, bottom = ends.values.tolist()
    above, under = ends.residuals.tolist()
    spent = ends.products
    rounding = ROUNDING * torch.finfo(working_dtype(A)).eps * max(map(abs, ends.ends))
    if top <= rounding:
        return _none(top, tolerance, spent)
    cut = tolerance * top
    shown = {"seed": seed, "progress": progress}
    zero = negative_eigenvalues(A, tolerance, scale=top, method="lanczos", probes=_PROBES, **shown)
    n, spent = A.shape[0], spent + zero.products
    if bottom - under > cut:
        low, high = top / (bottom + under), (top + above) / (bottom - under)
        smallest = bottom
    else:
        smallest, low, more = _above(A, cut, top, max_products, options)
        high, spent = 1 / tolerance, spent + more
    inside, below = zero.inside / n, zero.count / n
    return ConditionNumber(
        top / smallest, low, high, top, smallest, tolerance, inside, below, spent, "lanczos"
    )


def _above(
    A: AbstractOperator, cut: float, top: float, most: int, options: dict[str, Any]
) -> tuple[float, float, int]:
    """The smallest eigenvalue found above the cut, a lower bound on kappa, and the cost."""

    def order(values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        # A value counts if its residual shows that an eigenvalue is above the cut.
        sure = values - residuals > cut
        return np.lexsort((values + residuals, ~sure))

    # To the end of the budget: each product may show an eigenvalue nearer to the cut.
    size = min(_BASIS, A.shape[0])
    search = Search(1, order, options["tol"], 1e-3, size, most, False, least=most)
    probes = Probes(A.shape[0], "gaussian", options["seed"], working_dtype(A), A.device)
    with symmetric_product("condition_number", A, options["progress"], most) as product:
        pairs = eigenpairs(product, probes.draw(1), search, probes, "condition_number")
    value, residual = float(pairs.values[0]), float(pairs.residuals[0])
    if value - residual <= cut:
        return top, 1.0, pairs.products
    return value, top / (value + residual), pairs.products


def _dense(A: AbstractOperator, tolerance: float) -> ConditionNumber:
    n = A.shape[0]
    values = np.linalg.eigvalsh(dense_matrix("condition_number", A))
    top = float(values[-1])
    if top <= ROUNDING * torch.finfo(working_dtype(A)).eps * float(np.abs(values).max()):
        return _none(top, tolerance, n, "dense")
    cut = tolerance * top
    smallest = float(values[values > cut].min())
    kappa = top / smallest
    inside, below = float(np.mean(np.abs(values) <= cut)), float(np.mean(values < -cut))
    return ConditionNumber(kappa, kappa, kappa, top, smallest, tolerance, inside, below, n, "dense")


def _none(top: float, tolerance: float, spent: int, method: str = "lanczos") -> ConditionNumber:
    """The answer where no eigenvalue is positive."""
    nan = math.nan
    return ConditionNumber(nan, nan, nan, top, nan, tolerance, nan, nan, spent, method)
