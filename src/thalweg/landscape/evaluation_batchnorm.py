"""What is done about BatchNorm at weights that were never trained, in words.

A network with BatchNorm in evaluation mode normalises by statistics that belong to the weights it
was trained with. Either they are kept at every point of a picture, or gathered anew at each
(:func:`~thalweg.landscape.recalibrated`); the two pictures differ, so a picture says which it is.
"""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.errors import one_of
from thalweg.landscape.batch_norm import averaging_layers
from thalweg.landscape.evaluation_guard import modules_of
from thalweg.objective import AbstractClosure


__all__ = ["TREATMENTS", "batchnorm_words"]

TREATMENTS = one_of("kept", "recalibrated")


def batchnorm_words(closure: AbstractClosure, treatment: str) -> str:
    """What is done about BatchNorm, for a caption.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(1, 1), torch.nn.functional.mse_loss)
        >>> batchnorm_words(objective.closure(torch.zeros(1, 1), torch.zeros(1, 1)), "kept")
        'the model has none'
    """
    norms = [m for m in modules_of(closure) if isinstance(m, _BatchNorm)]
    if not norms:
        return "the model has none"
    if treatment == "recalibrated" and averaging_layers(closure):
        return "running statistics gathered anew at each point"
    if all(m.training or m.running_mean is None for m in norms):
        return "statistics of each batch (training mode)"
    return "running statistics of the model, kept"
