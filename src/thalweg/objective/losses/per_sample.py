"""Losses that are summed over a sample's entries and averaged over samples."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.objective.losses.base import AbstractOutputLoss, Loss
from thalweg.objective.losses.binary_cross_entropy import BinaryCrossEntropy
from thalweg.objective.losses.recognise import output_loss
from thalweg.objective.losses.squared_error import SquaredError


__all__ = ["per_sample"]


def per_sample(function: Loss) -> AbstractOutputLoss:
    r"""A loss of entries, summed over the entries of a sample and averaged over samples.

    .. math:: L(z) = \frac1N \sum_{n=1}^N \sum_j \ell(z_{nj}, y_{nj}) .

    torch's own mean divides by the entries too: an image's pixels then count a pixel's worth
    together, and curvature, damping and learning rates are smaller by their number than where
    autoencoders are published. As minus the logarithm of a probability this is that of a whole
    sample.

    Args:
        function: Squared error or binary cross-entropy as torch has them, with its mean.

    Returns:
        The loss, of known kind: its curvature in output space is exact and labels can be drawn.

    Raises:
        ValueError: If it is another loss, or one that sums.

    Example:
        >>> import torch
        >>> loss = per_sample(torch.nn.functional.mse_loss)
        >>> loss(torch.zeros(2, 3), torch.ones(2, 3)).item()
        3.0
    """
    known = output_loss(function)
    fits = isinstance(known, SquaredError | BinaryCrossEntropy)
    if not fits or known.reduction != "mean" or known.per != "entry":
        allowed = "torch's mean squared error or binary cross-entropy"
        raise bad_argument("per_sample", "function", function, allowed)
    summed = partial(_summed_over_entries, function)
    if isinstance(known, SquaredError):
        return SquaredError(summed, per="sample")
    return BinaryCrossEntropy(
        summed,
        weight=known.weight,
        pos_weight=known.pos_weight,
        logits=known.logits,
        per="sample",
    )


def _summed_over_entries(function: Loss, outputs: Tensor, targets: Any) -> Tensor:
    samples = outputs.shape[0] if outputs.ndim else 1
    return function(outputs, targets) * (outputs.numel() / max(1, samples))
