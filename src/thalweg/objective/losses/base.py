"""What a loss knows of itself in output space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["AbstractOutputLoss", "Loss"]

Loss = Callable[[Any, Any], Tensor]


class AbstractOutputLoss(ABC):
    """A loss as a function of a model's outputs.

    Args:
        function: The loss as the caller gave it: (outputs, targets) -> scalar.
        reduction: ``"mean"`` or ``"sum"``.
        per: What a mean over entries is over: each ``"entry"``, or each ``"sample"``, whose entries
            are then summed.
    """

    def __init__(self, function: Loss, reduction: str = "mean", per: str = "entry") -> None:
        if reduction not in {"mean", "sum"}:
            allowed = "'mean' or 'sum', so that the loss is a scalar"
            raise bad_argument("Objective", "loss_fn.reduction", reduction, allowed)
        self.function = function
        self.reduction = reduction
        self.per = per

    @final
    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss, a scalar."""
        return self.function(outputs, targets)

    @final
    def hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        r"""The product :math:`\nabla^2_z L\, v` in output space, of the shape of the outputs."""
        product = self._hessian_product(outputs, targets, vector)
        return product if self.reduction == "sum" else product / self.count(outputs, targets)

    @final
    def samples(self, outputs: Tensor) -> float:
        """The length of the first dimension."""
        return float(outputs.shape[0]) if outputs.ndim else 1.0

    @abstractmethod
    def count(self, outputs: Any, targets: Any) -> float:
        """The normaliser c of the mean."""

    @abstractmethod
    def _hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        """The product for the sum over samples."""

    @abstractmethod
    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Targets drawn from the distribution that the outputs predict.

        With g the gradient in output space at drawn targets and c the :meth:`count`,
        :math:`c\,\mathbb E[g g^\top]` is the Hessian of a mean loss, :math:`\mathbb E[g g^\top]`
        that of a sum: the Fisher matrix, for losses without weights and smoothing.
        """
