r"""When to stop: tests that do not depend on the units of f or x, and follow the precision.

With :math:`F = \max(|f|, \epsilon^{3/2} \Delta)`, where :math:`\Delta` is the largest change of f
seen so far and :math:`\epsilon` the precision of the numbers,

* gradient: :math:`\max_i |g_i| \max(X_i, \sqrt\epsilon \lVert X\rVert_\infty)` is at most
  :math:`\text{gtol}\, F`, with :math:`X_i` the larger of :math:`|x_i|` here and at the
  point before, and of 1 at the start: a point that happens to lie near 0 says nothing of the units;
* function: an accepted step lowers f by at most :math:`\text{ftol}\, F`, and was foreseen to;
* step: an accepted step moves no entry by more than :math:`\text{xtol}` times the size of that
  entry, :math:`\max(|x_i|, \sqrt\epsilon \lVert x\rVert_\infty)`.

The last two hold only where the gradient is not far from small (:meth:`Judge.settled`).

A difference of f counts as zero only where f itself is not: of a function whose minimum is zero,
the value goes on falling until the numbers end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import NON_NEGATIVE


__all__ = ["Judge", "Tolerances"]

_SHOWN = 8.0  # units of rounding: a smaller change of f is none


@final
@dataclass(frozen=True)
class Tolerances:
    r"""How small is small enough; None: by the precision of the numbers.

    Args:
        gtol: Of the gradient, relative to f and x; default :math:`\epsilon^{2/3}`.
        ftol: Of the change by a step, relative to f; default :math:`8\epsilon`. Below that f can
            show nothing, and the search goes on until gradient or steps are small, or stop
            shrinking.
        xtol: Of the step, relative to x; default :math:`\epsilon^{3/4}`.

    Raises:
        ValueError: If one is negative.

    Example:
        >>> Tolerances(xtol=1e-3).of(torch.float64).xtol
        0.001
    """

    gtol: float | None = None
    ftol: float | None = None
    xtol: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                NON_NEGATIVE.check("minimize", name, value)

    def of(self, dtype: torch.dtype) -> Tolerances:
        """With every default filled in."""
        eps = torch.finfo(dtype).eps
        defaults = {"gtol": eps ** (2 / 3), "ftol": _SHOWN * eps, "xtol": eps**0.75}
        return Tolerances(**{k: defaults[k] if v is None else v for k, v in vars(self).items()})


@final
class Judge:
    """The tests, and what they have seen.

    Args:
        tolerances: Complete.
        dtype: Of the numbers.
        patience: Accepted steps in a row that must change nothing before the function's or the
            step's test holds.

    Example:
        >>> judge = Judge(Tolerances().of(torch.float64), torch.float64)
        >>> judge.gradient(2.0, torch.ones(1), torch.full((1,), 1e-12)) is None
        False
    """

    def __init__(self, tolerances: Tolerances, dtype: torch.dtype, patience: int = 2) -> None:
        self.tolerances = tolerances
        self._eps = torch.finfo(dtype).eps
        self._patience = patience
        self._still = {"function": 0, "step": 0}
        self._first: float | None = None
        self._range = 0.0
        self._last: Tensor | None = None
        self._before: Tensor | None = None

    def scale(self, fun: float) -> float:
        """F, what differences of f are measured by."""
        if self._first is None:
            self._first = fun
        self._range = max(self._range, abs(self._first - fun))
        return max(abs(fun), self._eps**1.5 * self._range)

    def relative_gradient(self, fun: float, x: Tensor, grad: Tensor) -> float:
        """The gradient's test number: about the relative decrease of f that is still possible."""
        if not grad.numel():
            return 0.0
        sizes = self._seen(x)
        largest = float((grad.abs() * sizes.clamp_min(self._eps**0.5 * sizes.max())).max())
        if largest == 0.0:
            return 0.0 if not bool(grad.any()) else float(grad.abs().max())
        scale = self.scale(fun)
        return largest / scale if scale else float("inf")

    def _seen(self, x: Tensor) -> Tensor:
        """The size of each entry, here or at the point before; at the start at least 1."""
        if x is not self._last:
            self._before, self._last = self._last, x
        if self._before is None:
            return x.abs().clamp_min(1.0)
        return torch.maximum(x.abs(), self._before.abs())

    def gradient(self, fun: float, x: Tensor, grad: Tensor) -> str | None:
        """What the gradient's test says, or None where it does not hold."""
        number = self.relative_gradient(fun, x, grad)
        if number <= self.tolerances.gtol:  # type: ignore[operator]
            return f"relative gradient {number:.3g} <= gtol {self.tolerances.gtol:.3g}"
        return None

    def settled(self, fun: float, x: Tensor, grad: Tensor) -> bool:
        r"""Whether the gradient lets one believe that small changes mean a minimum.

        It does where its number is at most :math:`\epsilon^{1/3} |f|` or :math:`\epsilon^{2/3}` of
        the largest change of f. Far above both, short steps show a method that is stuck.
        """
        scale = self.scale(fun)
        if scale == 0.0:
            return True
        largest = self.relative_gradient(fun, x, grad) * scale
        return largest <= max(self._eps ** (1 / 3) * abs(fun), self._eps ** (2 / 3) * self._range)

    def foreseeable(self, fun: float) -> float:
        """A decrease that is not noticed."""
        assert self.tolerances.ftol is not None
        return self.tolerances.ftol * self.scale(fun)

    def moved(self, before: tuple[float, Tensor], after: tuple[float, Tensor]) -> dict[str, Any]:
        """Note an accepted step; the tests that it meets, by name, with their words."""
        (f0, x0), (f1, x1) = before, after
        scale = self.scale(f1)
        change, length = abs(f0 - f1), self._relative_step(x0, x1)
        numbers = {
            "function": (change / scale if scale else 0.0, self.tolerances.ftol, "ftol", "change"),
            "step": (length, self.tolerances.xtol, "xtol", "step"),
        }
        met: dict[str, Any] = {}
        for test, (number, tolerance, name, word) in numbers.items():
            assert tolerance is not None
            self._still[test] = self._still[test] + 1 if number <= tolerance else 0
            if test == "function" and tolerance < _SHOWN * self._eps:
                continue  # less than f can show: only the gradient and the steps can tell
            if self._still[test] >= self._patience:
                met[test] = f"relative {word} {number:.3g} <= {name} {tolerance:.3g}"
        return met

    def _relative_step(self, x0: Tensor, x1: Tensor) -> float:
        """Each variable by its own size: the largest would hide the others."""
        sizes = x1.abs()
        largest = float(sizes.max())
        if not largest:
            return 0.0
        return float(((x1 - x0).abs() / sizes.clamp_min(self._eps**0.5 * largest)).max())
