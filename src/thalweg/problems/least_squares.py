"""A classical least-squares problem: residuals, starts, and what is known of the minimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["Certified", "LeastSquaresProblem"]

MOST_DIGITS: Final = 11.0  # certified values are given to eleven


@final
@dataclass(frozen=True)
class Certified:
    r"""What an authority vouches for at the minimum.

    Args:
        parameters: The minimiser, to the digits given.
        deviations: Standard deviations of the parameters, :math:`s \sqrt{((J^T J)^{-1})_{jj}}`.
        residual_deviation: :math:`s`, the root of the sum of squares over the degrees of freedom.
        difficulty: ``"lower"``, ``"average"`` or ``"higher"``.

    Example:
        >>> Certified((2.0,), (0.1,), 0.3, "lower").parameters
        (2.0,)
    """

    parameters: tuple[float, ...]
    deviations: tuple[float, ...]
    residual_deviation: float
    difficulty: str


@final
@dataclass(frozen=True)
class LeastSquaresProblem:
    r"""Residuals :math:`r: \mathbb{R}^n \to \mathbb{R}^m` whose sum of squares is minimised.

    Called, it gives the sum of squares (not half of it, as the tables of the literature do), so
    that it is also a problem for methods that know of no residuals.

    Args:
        name: What tables call it.
        residuals: From a tensor of shape ``(n,)`` to one of shape ``(m,)``, of the same type.
        starts: Where methods start; the first is the standard one.
        minima: Sums of squares at the known local minima that are attained, the lowest first.
        title: The model or the function, in few words.
        reference: Where the problem is from.
        certified: Parameters and standard deviations, where an authority vouches for them.

    Example:
        >>> problem = least_squares_problem_of_one_line()
        >>> problem(problem.start()).item(), problem.n, problem.m, problem.solved(1e-15)
        (4.0, 1, 2, True)
    """

    name: str
    residuals: Callable[[Tensor], Tensor]
    starts: tuple[tuple[float, ...], ...]
    minima: tuple[float, ...]
    title: str
    reference: str
    certified: Certified | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The sum of squares at ``x``; a 0-dim tensor."""
        return self.residuals(x).square().sum()

    @property
    def n(self) -> int:
        """The number of variables."""
        return len(self.starts[0])

    @property
    def m(self) -> int:
        """The number of residuals."""
        return self.residuals(self.start()).numel()

    def start(self, index: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """A starting point as a new tensor.

        Args:
            index: Which of ``starts``.
            dtype: Of the tensor. Default float64: the minima are known to more digits than float32
                has.

        Raises:
            ValueError: If there is no such start.
        """
        if not 0 <= index < len(self.starts):
            allowed = f"an integer in [0, {len(self.starts)})"
            raise bad_argument(f"LeastSquaresProblem {self.name!r}", "index", index, allowed)
        return torch.tensor(self.starts[index], dtype=dtype)

    def solved(self, value: float, tolerance: float = 1e-8, floor: float = 1e-6) -> bool:
        r"""Whether a sum of squares is that of a known minimum.

        Args:
            value: The sum of squares :math:`f` at the point that a method returned.
            tolerance: :math:`\tau` in
                :math:`|f - f^*| \le \tau \max(|f^*|, \text{floor})`.
            floor: Below it the error is absolute.
        """
        return any(abs(value - low) <= tolerance * max(abs(low), floor) for low in self.minima)

    def digits(self, x: Tensor) -> float:
        r"""The least number of correct digits over the parameters, in [0, 11].

        .. math:: \min_j -\log_{10} \frac{|x_j - c_j|}{|c_j|}

        with the certified parameters :math:`c`, clipped to what they are given to.

        Args:
            x: A point of shape ``(n,)``.

        Raises:
            ValueError: If nothing is certified.
        """
        if self.certified is None:
            where = f"LeastSquaresProblem {self.name!r}.digits"
            raise bad_argument(where, "certified", None, "given: only the minimum's value is known")
        true = torch.tensor(self.certified.parameters, dtype=torch.float64)
        error = ((x.detach().to(true) - true) / true).abs()
        if not bool(error.isfinite().all()):
            return 0.0
        return min(max(-math.log10(max(float(error.max()), 1e-300)), 0.0), MOST_DIGITS)


def least_squares_problem_of_one_line() -> LeastSquaresProblem:
    """The smallest example: residuals :math:`x` and :math:`x` once more, from 2/sqrt(2).

    Example:
        >>> least_squares_problem_of_one_line().name
        'two-lines'
    """
    return LeastSquaresProblem(
        "two-lines", lambda x: torch.cat([x, x]), ((2.0**0.5,),), (0.0,), "x, x", "an example"
    )
