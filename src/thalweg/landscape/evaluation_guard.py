"""Look without a trace: whatever happens inside, the model is afterwards as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from thalweg.curvature.training_state import undisturbed
from thalweg.objective import AbstractClosure
from thalweg.objective.program import ModelProgram


__all__ = ["Buffers", "modules_of", "untouched"]


def modules_of(closure: AbstractClosure) -> list[nn.Module]:
    """The modules of the model behind a closure; none for a plain function."""
    program = closure.batches[0].program
    return list(program.modules()) if isinstance(program, ModelProgram) else []


@final
class Buffers:
    """The buffers of some modules, as they are now: the tensors and what is in them.

    Args:
        modules: Every module, children included.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> buffers = Buffers([norm])
        >>> _ = norm(torch.ones(3, 2))
        >>> buffers.moved()
        True
        >>> buffers.put_back()
        >>> norm.running_mean.tolist()
        [0.0, 0.0]
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self._held = [
            _Held(owner, name, tensor, tensor.detach().clone())
            for owner in modules
            for name, tensor in owner._buffers.items()
            if tensor is not None
        ]

    def moved(self) -> bool:
        """Whether any was replaced or written to."""
        return any(held.moved() for held in self._held)

    @torch.no_grad()
    def put_back(self) -> None:
        """The same tensors with the same contents; what did not move is not touched."""
        for held in self._held:
            if held.moved():
                held.put_back()

    @torch.no_grad()
    def rewind(self) -> None:
        """The same, without looking."""
        for held in self._held:
            held.put_back()


@final
@dataclass(frozen=True)
class _Held:
    owner: nn.Module
    name: str
    tensor: Tensor
    value: Tensor

    def moved(self) -> bool:
        # By value: torch's batch norm writes to its statistics without counting it as a change.
        replaced = self.owner._buffers.get(self.name) is not self.tensor
        return replaced or not torch.equal(self.tensor, self.value)

    def put_back(self) -> None:
        self.owner._buffers[self.name] = self.tensor
        self.tensor.copy_(self.value)


@contextmanager
def untouched(closure: AbstractClosure) -> Iterator[None]:
    """Put back modes, buffers, parameters, gradients and every random generator, whatever happens.

    Args:
        closure: What is evaluated inside.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout())
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> with untouched(objective.closure(torch.zeros(1, 2), torch.zeros(1, 1))):
        ...     _ = model.eval()
        >>> model.training
        True
    """
    modules = modules_of(closure)
    modes = [(m, m.training) for m in modules]
    buffers = Buffers(modules)
    owned = {id(p): p for m in modules for p in m._parameters.values() if p is not None}
    owned |= {id(p): p for p in closure.params}
    params: list[tuple[Tensor, Tensor, Tensor | None, bool]] = [
        (p, p.data, p.grad, p.requires_grad) for p in owned.values()
    ]
    with undisturbed(list(closure.params)):
        try:
            yield
        finally:
            for m, training in modes:
                m.training = training
            buffers.put_back()
            for p, data, grad, wanted in params:
                p.data = data
                p.grad = grad
                p.requires_grad_(wanted)
