"""What a minimisation found, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, final


__all__ = ["MinimizeResult", "Status"]


@final
class Status(Enum):
    """Why a minimisation stopped; the value says it in words.

    Example:
        >>> Status.GRADIENT.value
        'the gradient is small enough'
    """

    GRADIENT = "the gradient is small enough"
    FUNCTION = "the function no longer decreases noticeably"
    STEP = "the steps are small enough"
    PRECISION = "no further progress is possible in this precision"
    SEARCH_FAILED = "the search found no better point"
    ITERATIONS = "the limit of iterations is reached"
    EVALUATIONS = "the limit of evaluations is reached"
    TIME = "the time budget is spent"
    NON_FINITE_START = "the function is not finite at the start"
    CALLBACK = "the callback asked to stop"

    @property
    def converged(self) -> bool:
        """Whether a test of convergence was met (PRECISION says itself how near it came)."""
        return self in {Status.GRADIENT, Status.FUNCTION, Status.STEP}


@final
@dataclass(frozen=True)
class MinimizeResult:
    """A minimum, what it cost, and why the search ended.

    Args:
        x: The best point, of the kind and shape of ``x0``.
        fun: The value there.
        grad: The gradient there, like ``x``.
        optimality: The largest entry of the gradient in absolute value; with bounds or a
            projection, of the projected gradient step.
        nit: Accepted steps.
        nfev: Values of the function asked for, those with a gradient included.
        ngev: Gradients.
        nhvp: Products with the Hessian.
        status: Why it stopped.
        success: Whether a test of convergence was met; at the limit of precision, whether the
            gradient is as small as that precision lets it be.
        message: The status in words, with the number that triggered it.
        seconds: Wall time.
        allvecs: The start and each accepted point, where they were asked for.

    Example:
        >>> import torch, thalweg as tw
        >>> result = tw.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(3), method="bfgs")
        >>> result.success, result.x.tolist()
        (True, [1.0, 1.0, 1.0])
    """

    x: Any
    fun: float
    grad: Any
    optimality: float
    nit: int
    nfev: int
    ngev: int
    nhvp: int
    status: Status
    success: bool
    message: str
    seconds: float
    allvecs: list[Any] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        """The facts, one a line."""
        rows = {
            "message": self.message,
            "success": self.success,
            "fun": f"{self.fun:.10g}",
            "optimality": f"{self.optimality:.3g}",
            "iterations": self.nit,
            "evaluations": f"{self.nfev} values, {self.ngev} gradients, {self.nhvp} products",
            "x": self.x,
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:>{width}}: {value}" for name, value in rows.items())
