"""Softmax cross-entropy."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from thalweg.objective.losses.base import AbstractOutputLoss, Loss


__all__ = ["CrossEntropy"]


@final
class CrossEntropy(AbstractOutputLoss):
    r"""Softmax cross-entropy with class weights, label smoothing and ignored targets.

    With coefficients :math:`q_{nc}` (the class weight at the target, smoothed), the loss of a
    position is :math:`-\sum_c q_{nc}\log p_{nc}` and its Hessian
    :math:`(\sum_c q_{nc})(\mathrm{diag}(p_n) - p_n p_n^\top)`. Classes stand in dimension 1 (0 for
    a single sample), as in torch.

    Args:
        function: The loss as the caller gave it.
        reduction: ``"mean"`` or ``"sum"``.
        weight: A weight for each class.
        ignore_index: The target that does not count.
        label_smoothing: The share of the target spread over all classes.

    Example:
        >>> import torch.nn.functional as F
        >>> loss = CrossEntropy(F.cross_entropy)
        >>> loss.count(torch.zeros(3, 5), torch.tensor([1, -100, 2]))
        2.0
    """

    def __init__(
        self,
        function: Loss,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(function, reduction)
        self.weight = weight
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def count(self, outputs: Tensor, targets: Tensor) -> float:
        """The positions that count, or the sum of their class weights."""
        if targets.is_floating_point():
            return float(outputs.numel() / outputs.shape[_class_dim(outputs)])
        kept = targets[targets != self.ignore_index]
        return float(
            kept.numel() if self.weight is None else self.weight.to(kept.device)[kept].sum()
        )

    def _hessian_product(self, outputs: Tensor, targets: Tensor, vector: Tensor) -> Tensor:
        dim = _class_dim(outputs)
        probability = outputs.detach().softmax(dim)
        centred = vector - (probability * vector).sum(dim, keepdim=True)
        return self._mass(outputs, targets).unsqueeze(dim) * probability * centred

    def _mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over classes of the coefficients q, for each position."""
        dim = _class_dim(outputs)
        classes = outputs.shape[dim]
        weight = torch.ones(classes) if self.weight is None else self.weight
        weight = weight.to(outputs)
        smooth = self.label_smoothing
        if targets.is_floating_point():
            soft = (1 - smooth) * targets + smooth / classes
            return (soft * weight.view([-1] + [1] * (outputs.ndim - dim - 1))).sum(dim)
        kept = targets != self.ignore_index
        hard = weight[torch.where(kept, targets, 0)]
        return kept * ((1 - smooth) * hard + smooth / classes * weight.sum())

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Classes drawn from the softmax; ignored positions stay ignored."""
        dim = _class_dim(outputs)
        probability = outputs.detach().softmax(dim).movedim(dim, -1)
        rows = probability.reshape(-1, probability.shape[-1])
        labels = torch.multinomial(rows, 1, generator=generator).view(probability.shape[:-1])
        if isinstance(targets, Tensor) and not targets.is_floating_point():
            labels = torch.where(targets == self.ignore_index, self.ignore_index, labels)
        return labels


def _class_dim(outputs: Tensor) -> int:
    return 0 if outputs.ndim == 1 else 1
