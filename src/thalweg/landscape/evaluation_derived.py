r"""Slope and curvature at a point of a surface: what takes derivatives, not outputs alone.

The *convexity map* of Li et al. is :math:`|\lambda_{\min} / \lambda_{\max}|` of the full Hessian at
every point of a plane: near 0 the loss is locally convex in every direction of parameter space, not
only in the two that are drawn.
"""

from __future__ import annotations

import math
from typing import final

import torch

from thalweg.curvature import Hessian, How, eigsh
from thalweg.errors import NonFiniteError
from thalweg.objective import AbstractClosure


__all__ = ["Derived"]

_RESIDUAL = 0.02  # of the eigenvalue; the value's own error is of second order in it


@final
class Derived:
    """Gradient norm and extreme eigenvalues at the live parameters.

    Args:
        closure: A closure or a risk.
        names: Any name to one of :data:`~thalweg.landscape.evaluation_metrics.DERIVED`.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x[0] ** 2 - x[1] ** 2 / 2).closure(x)
        >>> Derived(closure, {"slope": "gradient_norm", "convexity": "convexity"})()
        [2.0, 0.5]

    References:
        Li, Xu, Taylor, Studer and Goldstein, Visualizing the loss landscape of neural nets, 2018.
    """

    def __init__(self, closure: AbstractClosure, names: dict[str, str]) -> None:
        self._closure = closure
        self._kinds = list(names.values())

    def __call__(self) -> list[float]:
        """The values, in the order of the names; NaN where the loss is not finite."""
        found: dict[str, float] = {}
        if "gradient_norm" in self._kinds:
            _, gradient = self._closure.value_and_grad()
            found["gradient_norm"] = float(gradient.norm())
        if any(kind != "gradient_norm" for kind in self._kinds):
            low, high = self._ends()
            found |= {"lambda_min": low, "lambda_max": high}
            found["convexity"] = abs(low / high) if high else math.nan
        return [found[kind] for kind in self._kinds]

    def _ends(self) -> tuple[float, float]:
        # Every start is the same, so that a value does not depend on which points came before.
        try:
            with torch.enable_grad():
                hessian = Hessian(self._closure, how=How(check=False, borrow=True))
                pairs = eigsh(hessian, min(2, hessian.shape[0]), "BE", tol=_RESIDUAL, copies=False)
        except NonFiniteError:
            return math.nan, math.nan
        return float(pairs.values.min()), float(pairs.values.max())
