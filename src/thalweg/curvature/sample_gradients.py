"""Gradients of single samples, many at a time where the model allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.errors import UNTRANSFORMABLE
from thalweg.objective import AbstractClosure, Closure
from thalweg.objective.program import ModelProgram
from thalweg.objective.rows import row_count, rows_of
from thalweg.vectors import Vector


__all__ = ["SampleGradients", "seeded"]

_BYTES = 2**28  # of gradients at a time
_MOST = 256


@final
class SampleGradients:
    """The samples of a closure, and the gradients of their losses.

    Each sample is the batch of itself alone. They are checked: their weighted mean has to be the
    gradient of the batch, which it is not where samples see each other or are not rows.

    Args:
        closure: A closure over one batch, or a sum over a loader; it is held still.
        samples: How many samples, drawn without replacement; None takes all.
        seed: Of the draw, and of dropout.

    Raises:
        TypeError: If the objective is a plain function, or samples cannot be told apart.
        ValueError: If the model holds a BatchNorm layer that normalises by the batch.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.ones(3, 1), torch.zeros(3, 1))
        >>> [(w.tolist(), tuple(g.shape)) for w, g in SampleGradients(closure)]
        [([1.0, 1.0, 1.0], (3, 1))]
    """

    def __init__(self, closure: AbstractClosure, samples: int | None = None, seed: int = 0) -> None:
        self.closure = closure.still(borrow=True)
        self._seed = seed
        self._programs = [_program(batch) for batch in self.closure.batches]
        lengths = [row_count(program.batch) for program in self._programs]
        total = sum(lengths)
        if samples is not None and samples < total:
            order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
            chosen = order[:samples].sort().values
            starts = [sum(lengths[:i]) for i in range(len(lengths))]
            inside = [
                (chosen >= a) & (chosen < a + n) for a, n in zip(starts, lengths, strict=True)
            ]
            self._rows = [chosen[kept] - a for kept, a in zip(inside, starts, strict=True)]
        else:
            self._rows = [torch.arange(length) for length in lengths]
        self._fast = True

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights (on the CPU) and gradients, a row each, of as many samples as fit in memory."""
        n = self.closure.params.numel()
        wide = self.closure.params[0].element_size()
        most = max(1, min(_MOST, _BYTES // max(1, n * wide)))
        device = self.closure.params[0].device
        for program, rows in zip(self._programs, self._rows, strict=True):
            for index in rows.split(most):
                if len(index):
                    part = program.bound(rows_of(program.batch, index))
                    with seeded(self._seed + int(index[0]), device):
                        yield self._part(part, len(index))

    def _part(self, program: ModelProgram, count: int) -> tuple[Tensor, Tensor]:
        weights, gradients = self._gradients(program, count)
        # A sample in which nothing counts has a loss of 0/0, and no part.
        gradients[weights == 0] = 0.0
        if not self._agree(program, weights, gradients):
            if not self._fast:
                raise TypeError(
                    "The mean of the samples' gradients is not the gradient of the batch: samples "
                    "see each other in this model, or do not stand in the tensors' first "
                    "dimension. Use method='batches'."
                )
            self._fast = False
            return self._part(program, count)
        return weights, gradients

    def _gradients(self, program: ModelProgram, count: int) -> tuple[Tensor, Tensor]:
        if self._fast:
            try:
                with self.closure.ledger.charge(forward=1, backward=1):
                    return _weights(program, count), _at_once(program, self.closure.params, count)
            except UNTRANSFORMABLE:
                self._fast = False
        weights: list[float] = []
        gradients: list[Tensor] = []
        for i in range(count):
            one = Closure(_row(program, i), self.closure.ledger)
            _, gradient, weight = one.weighted_value_and_grad()
            gradients.append(torch.cat([g.reshape(-1) for g in gradient]))
            weights.append(weight)
        return torch.tensor(weights, dtype=torch.float64), torch.stack(gradients)

    def _agree(self, program: ModelProgram, weights: Tensor, gradients: Tensor) -> bool:
        """Whether the samples' gradients add up to the batch's."""
        if not bool((weights > 0).any()):
            return True
        before = torch.get_rng_state()
        closure = Closure(program.bound(program.batch), self.closure.ledger)
        whole = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
        drawn = not torch.equal(before, torch.get_rng_state())
        whole = whole if closure.summed else whole * float(weights.sum())
        weighted = weights.to(gradients)[:, None] * gradients
        gap = float((weighted.sum(0) - whole).square().sum(dtype=torch.float64))
        size = float(weighted.square().sum(dtype=torch.float64))
        # Dropout's masks differ between the two, which then agree as two draws do.
        allowed = 9.0 if drawn else 1e-6 * len(weights)
        return gap <= allowed * size


def _program(batch: Closure) -> ModelProgram:
    program = batch.program
    if not isinstance(program, ModelProgram):
        raise TypeError("A plain function has no samples, so its gradient has no noise.")
    for module in program.modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                "The model holds a BatchNorm layer in train mode, which makes each sample's loss "
                "depend on the whole batch: call model.eval() first, or use method='batches'."
            )
    return program


def _row(program: ModelProgram, i: int) -> ModelProgram:
    return program.bound(rows_of(program.batch, slice(i, i + 1)))


def _weights(program: ModelProgram, count: int) -> Tensor:
    """Each sample's weight in the mean, without running it alone."""
    result: Any = None
    if program.loss_fn is not None:
        with torch.no_grad():
            result = program.bound(program.batch).outputs(None)
    found = [_row(program, i).weigh(rows_of(result, slice(i, i + 1))) for i in range(count)]
    return torch.tensor(found, dtype=torch.float64)


def _at_once(program: ModelProgram, params: Vector, count: int) -> Tensor:
    """The gradients of all samples, a row each."""
    leaves = [p.detach() for p in params]

    def loss(parts: Sequence[Tensor], index: Tensor) -> Tensor:
        return program.bound(rows_of(program.batch, index[None])).loss(parts)

    each = vmap(grad(loss), in_dims=(None, 0), randomness="different")
    gradients = each(leaves, torch.arange(count, device=leaves[0].device))
    return torch.cat([g.reshape(count, -1) for g in gradients], dim=1).detach()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random state from a seed inside, and as it was outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
