"""Losses that torch does not have in this form; each a mean over samples."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from thalweg.objective import per_sample


__all__ = ["bernoulli_divergence", "half_square", "pixel_entropy"]


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the mean squared error, whose Hessian is the inputs' second moment.

    Example:
        >>> import torch
        >>> half_square(torch.tensor([3.0]), torch.tensor([1.0])).item()
        2.0
    """
    return 0.5 * F.mse_loss(outputs, targets)


def bernoulli_divergence(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from probabilities to the sigmoid of logits; zero if equal.

    It is the binary cross-entropy less the entropy of the targets, which no model can go below.

    Example:
        >>> import torch
        >>> bernoulli_divergence(torch.zeros(2), torch.tensor([0.5, 0.5])).item()
        0.0
    """
    entropy = F.binary_cross_entropy(targets, targets)
    return F.binary_cross_entropy_with_logits(outputs, targets) - entropy


# Binary cross-entropy of pixels in [0, 1] and logits, summed over an image: a loss of known kind.
pixel_entropy = per_sample(F.binary_cross_entropy_with_logits)
