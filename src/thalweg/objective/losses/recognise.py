"""From a loss as torch has it to one that knows itself."""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import nn

from thalweg.objective.losses.base import AbstractOutputLoss, Loss
from thalweg.objective.losses.binary_cross_entropy import BinaryCrossEntropy
from thalweg.objective.losses.cross_entropy import CrossEntropy
from thalweg.objective.losses.squared_error import SquaredError
from thalweg.objective.losses.unknown import UnknownLoss


__all__ = ["output_loss"]

_KINDS: dict[Any, tuple[type[AbstractOutputLoss], dict[str, Any]]] = {
    nn.MSELoss: (SquaredError, {}),
    F.mse_loss: (SquaredError, {}),
    nn.CrossEntropyLoss: (CrossEntropy, {}),
    F.cross_entropy: (CrossEntropy, {}),
    nn.BCEWithLogitsLoss: (BinaryCrossEntropy, {}),
    F.binary_cross_entropy_with_logits: (BinaryCrossEntropy, {}),
    nn.BCELoss: (BinaryCrossEntropy, {"logits": False}),
    F.binary_cross_entropy: (BinaryCrossEntropy, {"logits": False}),
}
_OPTIONS: dict[type[AbstractOutputLoss], tuple[str, ...]] = {
    SquaredError: ("reduction",),
    CrossEntropy: ("reduction", "weight", "ignore_index", "label_smoothing"),
    BinaryCrossEntropy: ("reduction", "weight", "pos_weight"),
}


def output_loss(function: Loss) -> AbstractOutputLoss:
    """Recognise a loss of torch's, as a module, a function or a ``functools.partial`` of one.

    Args:
        function: (outputs, targets) -> scalar.

    Returns:
        The loss with what is known of it; :class:`UnknownLoss` for any other callable.

    Raises:
        ValueError: If the loss does not reduce to a scalar.

    Example:
        >>> output_loss(nn.CrossEntropyLoss(label_smoothing=0.1)).label_smoothing
        0.1
    """
    if isinstance(function, AbstractOutputLoss):
        return function
    given: dict[str, Any] = {}
    base: Any = function
    if isinstance(function, functools.partial) and not function.args:
        base, given = function.func, function.keywords
    elif isinstance(function, nn.Module):
        base, given = type(function), vars(function) | function._buffers
    if base not in _KINDS:
        return UnknownLoss(function)
    kind, fixed = _KINDS[base]
    if base is not type(function) and not set(given) <= set(_OPTIONS[kind]):
        return UnknownLoss(function)  # with an option that its curvature here knows nothing of
    options: dict[str, Any] = {name: given[name] for name in _OPTIONS[kind] if name in given}
    return kind(function, **options, **fixed)
