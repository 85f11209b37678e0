"""What an estimator returns: a value, how far it may be off, and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from scipy.special import stdtrit  # Student's t; scipy.stats takes a second to import
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["Estimate", "mean_estimate", "t_quantile"]


@final
@dataclass(frozen=True)
class Estimate:
    r"""An estimate :math:`\hat v` with its standard error s.

    Args:
        value: The estimate, a number or a tensor of them.
        stderr: Its standard error, of the same form: 0 where the value is exact, infinite where
            the samples say nothing of their spread.
        products: Products with the operator that were spent.
        method: How it was estimated.
        samples: The number of samples that the standard error is from.

    Example:
        >>> e = Estimate(3.2084, 0.0521, products=40, method="xtrace", samples=20)
        >>> print(e)
        3.21 ± 0.05 (40 products, xtrace)
        >>> low, high = e.interval()
        >>> round(low, 2), round(high, 2)
        (3.1, 3.32)
    """

    value: float | Tensor
    stderr: float | Tensor
    products: int
    method: str
    samples: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | tuple[Tensor, Tensor]:
        r"""The two-sided interval :math:`\hat v \pm t\, s`, t of Student with samples - 1 degrees.

        Args:
            confidence: How often such an interval holds the truth, in (0, 1).

        Returns:
            The ends, of the form of the value.

        Raises:
            ValueError: If the confidence is not in (0, 1).
        """
        t = t_quantile(confidence, self.samples - 1)
        if isinstance(self.value, Tensor):
            stderr = torch.as_tensor(self.stderr)
            half = torch.where(stderr == 0, 0.0, stderr * t)
            return self.value - half, self.value + half
        half = t * float(self.stderr) if self.stderr else 0.0
        return self.value - half, self.value + half

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        cost = f"({self.products} products, {self.method})"
        if isinstance(self.value, Tensor):
            entries = "x".join(map(str, self.value.shape)) or "1"
            size = float(torch.linalg.vector_norm(self.value.double()))
            error = float(torch.linalg.vector_norm(torch.as_tensor(self.stderr).double()))
            return f"{entries} entries, norm {_with_error(size, error)} {cost}"
        return f"{_with_error(self.value, float(self.stderr))} {cost}"


def mean_estimate(samples: Tensor, products: int, method: str) -> Estimate:
    """The mean of samples with the standard error of independent ones.

    Args:
        samples: One number a sample.
        products: What they cost.
        method: How they were made.

    Returns:
        The estimate; its standard error is infinite for a single sample.
    """
    samples = samples.double()
    count = samples.numel()
    stderr = float(samples.std()) / math.sqrt(count) if count > 1 else math.inf
    return Estimate(float(samples.mean()), stderr, products, method, count)


def t_quantile(confidence: float, degrees: int) -> float:
    """How many standard errors a two-sided interval reaches; infinite without a degree of freedom.

    Raises:
        ValueError: If the confidence is not in (0, 1).

    Example:
        >>> round(t_quantile(0.95, 9), 3)
        2.262
    """
    if not 0.0 < confidence < 1.0:
        raise bad_argument("interval", "confidence", confidence, "a number in (0, 1)")
    return float(stdtrit(degrees, 0.5 + confidence / 2)) if degrees > 0 else math.inf


def _with_error(value: float, stderr: float) -> str:
    """The value to the digits that its error leaves."""
    if stderr == 0 or not math.isfinite(stderr) or not math.isfinite(value):
        return f"{value:.6g}" if stderr == 0 else f"{value:.4g} ± {stderr:.1g}"
    digits = -math.floor(math.log10(stderr))
    if -6 < digits < 7:
        return f"{value:.{max(0, digits)}f} ± {stderr:.{max(0, digits)}f}"
    return f"{value:.4g} ± {stderr:.1g}"
