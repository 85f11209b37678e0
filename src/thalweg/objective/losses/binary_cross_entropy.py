"""Cross-entropy of independent yes/no targets."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from thalweg.objective.losses.base import AbstractOutputLoss, Loss


__all__ = ["BinaryCrossEntropy"]


@final
class BinaryCrossEntropy(AbstractOutputLoss):
    r"""Cross-entropy of independent yes/no targets, from logits or from probabilities.

    From logits with weight w and positive weight a, an entry's second derivative is
    :math:`w\,(1 + (a - 1) y)\,p(1-p)`; from probabilities :math:`w\,(y/p^2 + (1-y)/(1-p)^2)`.

    Args:
        function: The loss as the caller gave it.
        reduction: ``"mean"`` or ``"sum"``.
        weight: A weight for each entry, broadcast.
        pos_weight: A weight for the positive targets, broadcast (from logits only).
        logits: Whether the outputs are logits or probabilities.
        per: ``"entry"`` for a mean over entries, ``"sample"`` for one over samples.

    Example:
        >>> import torch.nn.functional as F
        >>> loss = BinaryCrossEntropy(F.binary_cross_entropy_with_logits)
        >>> loss.hessian_product(torch.zeros(1), torch.ones(1), torch.ones(1))
        tensor([0.2500])
    """

    def __init__(
        self,
        function: Loss,
        reduction: str = "mean",
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
        logits: bool = True,
        per: str = "entry",
    ) -> None:
        super().__init__(function, reduction, per)
        self.weight = weight
        self.pos_weight = pos_weight
        self.logits = logits

    def count(self, outputs: Tensor, targets: Tensor) -> float:
        """The number of entries, or of samples."""
        del targets
        return self.samples(outputs) if self.per == "sample" else float(outputs.numel())

    def _hessian_product(self, outputs: Tensor, targets: Tensor, vector: Tensor) -> Tensor:
        outputs = outputs.detach()
        if self.logits:
            probability = outputs.sigmoid()
            second = probability * (1 - probability)
            if self.pos_weight is not None:
                second = second * (1 + (self.pos_weight.to(outputs) - 1) * targets)
        else:
            second = targets / outputs**2 + (1 - targets) / (1 - outputs) ** 2
        if self.weight is not None:
            second = second * self.weight.to(outputs)
        return second * vector

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Yes and no drawn for each entry."""
        del targets
        probability = outputs.detach().sigmoid() if self.logits else outputs.detach()
        return torch.bernoulli(probability, generator=generator)
