"""Half the sum of squares: the loss of residuals."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from thalweg.objective.losses.base import AbstractOutputLoss


__all__ = ["HalfSquares", "half_squares"]


def half_squares(outputs: Tensor, targets: Tensor | None) -> Tensor:
    """Half the sum of squares of what the outputs are off.

    Example:
        >>> half_squares(torch.tensor([3.0, 4.0]), None)
        tensor(12.5000)
    """
    off = outputs if targets is None else outputs - targets
    return 0.5 * off.square().sum()


@final
class HalfSquares(AbstractOutputLoss):
    r"""Half the sum of squares, :math:`\tfrac12 \lVert r - y \rVert^2`; no targets are zeros.

    As a negative log-likelihood of each entry it is a Gaussian around r of variance 1.

    Example:
        >>> HalfSquares()(torch.tensor([3.0, 4.0]), None).item()
        12.5
    """

    def __init__(self) -> None:
        super().__init__(half_squares, "sum")

    def count(self, outputs: Any, targets: Any) -> float:
        """One: nothing is averaged."""
        del outputs, targets
        return 1.0

    def _hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        del outputs, targets
        return vector

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Targets drawn from the Gaussian around the residuals."""
        del targets
        return outputs.detach() + torch.empty_like(outputs).normal_(generator=generator)
