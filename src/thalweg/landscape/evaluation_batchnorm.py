r"""BatchNorm's running statistics at weights that were never trained.

A network with BatchNorm in evaluation mode normalises by statistics that belong to the weights it
was trained with. At other weights they are wrong: often a picture shows no more than that. Either
they are kept, and the picture says so, or they are estimated anew at each point,

.. math:: \mu = \frac{1}{n}\sum_b n_b \mu_b, \qquad \sigma^2 = \frac{1}{n}\sum_b n_b \sigma_b^2,

from batches of :math:`n_b` samples: the exact average, a ragged last batch included.
"""

from __future__ import annotations

from typing import final

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.errors import one_of
from thalweg.landscape.evaluation_guard import modules_of
from thalweg.objective import AbstractClosure
from thalweg.objective.program import ModelProgram
from thalweg.objective.rows import row_count


__all__ = ["Recalibration", "batchnorm_words"]

TREATMENTS = one_of("kept", "recalibrated")


def batchnorm_words(closure: AbstractClosure, treatment: str) -> str:
    """What is done about BatchNorm, as a sentence for a caption.

    Example:
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(1, 1), torch.nn.functional.mse_loss)
        >>> batchnorm_words(objective.closure(torch.zeros(1, 1), torch.zeros(1, 1)), "kept")
        'the model has none'
    """
    norms = [m for m in modules_of(closure) if isinstance(m, _BatchNorm)]
    if not norms:
        return "the model has none"
    tracking = [m for m in norms if m.running_mean is not None]
    if treatment == "recalibrated" and tracking:
        rows = sum(row_count(program.batch) for program in _programs(closure))
        return f"running statistics estimated anew at each point from {rows} samples"
    if all(m.training or m.running_mean is None for m in norms):
        return "statistics of each batch (training mode)"
    return "running statistics of the trained weights, kept"


@final
class Recalibration:
    """Estimates the running statistics of the live model at the weights that it has.

    Args:
        closure: Whose model, and the batches that are run through it.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.BatchNorm1d(1)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> recalibration = Recalibration(objective.closure(torch.tensor([[1.0], [3.0]]), None))
        >>> recalibration()
        >>> model.running_mean.item(), model.running_var.item()
        (2.0, 2.0)
    """

    def __init__(self, closure: AbstractClosure) -> None:
        norms = [m for m in modules_of(closure) if isinstance(m, _BatchNorm)]
        self._norms = [m for m in norms if m.running_mean is not None]
        self._programs = _programs(closure) if self._norms else []
        self._rows = [row_count(program.batch) for program in self._programs]

    def __bool__(self) -> bool:
        return bool(self._norms)

    @torch.no_grad()
    def __call__(self) -> None:
        """Leave the BatchNorm layers in evaluation mode, with new statistics."""
        momenta = [m.momentum for m in self._norms]
        for m in self._norms:
            m.reset_running_stats()
            m.training = True
        seen = 0
        try:
            for program, rows in zip(self._programs, self._rows, strict=True):
                seen += rows
                for m in self._norms:
                    m.momentum = rows / seen
                program.bare()
        finally:
            for m, momentum in zip(self._norms, momenta, strict=True):
                m.momentum = momentum
                m.training = False


def _programs(closure: AbstractClosure) -> list[ModelProgram]:
    programs = [batch.program for batch in closure.batches]
    return [program for program in programs if isinstance(program, ModelProgram)]
