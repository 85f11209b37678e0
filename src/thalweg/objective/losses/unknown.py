"""A loss of which nothing is known but its value."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from thalweg.objective.losses.base import AbstractOutputLoss


__all__ = ["UnknownLoss"]


@final
class UnknownLoss(AbstractOutputLoss):
    """Any other mean loss: curvature through autograd, no distribution to draw labels from.

    Example:
        >>> loss = UnknownLoss(lambda z, y: (z - y).pow(4).mean())
        >>> loss.hessian_product(torch.ones(2), torch.zeros(2), torch.ones(2))
        tensor([6., 6.])
    """

    def count(self, outputs: Any, targets: Any) -> float:
        """The number of samples."""
        for value in (targets, outputs):
            if isinstance(value, Tensor):
                return float(value.shape[0]) if value.ndim else 1.0
        raise TypeError(
            "Objective(loss_fn=...): the number of samples in a batch is unknown, because neither "
            "outputs nor targets are tensors; pass Objective(..., count=batch -> number)."
        )

    def _hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(leaf, targets), leaf, create_graph=True)
            if not gradient.requires_grad:
                return torch.zeros_like(vector)
            (product,) = torch.autograd.grad(gradient, leaf, vector, materialize_grads=True)
        # The caller divides a mean by its count; this product is of the mean already.
        return product * (1.0 if self.reduction == "sum" else self.count(outputs, targets))

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Refused: there is no distribution to draw from."""
        del outputs, targets, generator
        name = getattr(self.function, "__name__", type(self.function).__name__)
        raise TypeError(
            f"Labels cannot be drawn from the loss {name!r}: it names no distribution of targets. "
            "Use mean squared error, cross-entropy or binary cross-entropy, or an empirical Fisher."
        )
