"""Mean squared error."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from thalweg.objective.losses.base import AbstractOutputLoss


__all__ = ["SquaredError"]


@final
class SquaredError(AbstractOutputLoss):
    r"""The mean over all entries of :math:`(z - y)^2`.

    As a negative log-likelihood of each entry it is a Gaussian around z of variance 1/2.

    Example:
        >>> import torch.nn.functional as F
        >>> loss = SquaredError(F.mse_loss)
        >>> loss.hessian_product(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def count(self, outputs: Tensor, targets: Tensor) -> float:
        """The number of entries, or of samples."""
        return self.samples(outputs) if self.per == "sample" else _entries(outputs, targets)

    def _hessian_product(self, outputs: Tensor, targets: Tensor, vector: Tensor) -> Tensor:
        repeats = _entries(outputs, targets) / max(1, outputs.numel())  # where z is broadcast
        return 2.0 * repeats * vector

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Targets drawn from the Gaussian around the outputs."""
        del targets
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return outputs.detach() + 0.5**0.5 * noise


def _entries(outputs: Tensor, targets: Tensor) -> float:
    return float(torch.broadcast_shapes(outputs.shape, targets.shape).numel())
