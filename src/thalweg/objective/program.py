"""How a loss is computed at a point of parameter space, on one batch.

A program is either a model with a loss or a plain function. It computes at the live parameters, or
at any others without touching the model: buffers are copied, and whatever the first evaluation
drew from torch's random generators is drawn again, so that a network with dropout is one function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.stateless import _reparametrize_module

from thalweg.objective.losses import AbstractOutputLoss
from thalweg.objective.replay import Replay
from thalweg.objective.still import Still, single, twice_differentiable
from thalweg.vectors import Vector


__all__ = ["BatchForward", "FunctionProgram", "ModelProgram", "Program"]

Forward = Callable[[nn.Module, Any], Any]


class Program(Protocol):
    """What a closure runs."""

    params: Vector
    names: list[str]

    @property
    def origin(self) -> Any:
        """The model or the function: what its batches have in common."""
        ...

    def loss(self, theta: Sequence[Tensor] | None, *, settle: bool = False) -> Tensor:
        """The loss at ``theta``, or at the live parameters; ``settle`` lets buffers move."""
        ...

    def weighted(self, theta: Sequence[Tensor] | None, *, settle: bool) -> tuple[Tensor, float]:
        """The loss and the weight of this batch in a sum over batches."""
        ...

    def twice(self, *, settle: bool) -> tuple[Tensor, float]:
        """The same at the live parameters, differentiable twice."""
        ...

    def standing(self, theta: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Stand at ``theta`` until the backward pass is over."""
        ...

    def still(self, leaves: Vector, place: int = 0) -> Program:
        """The same at ``leaves``, which nobody else moves, with buffers and modes as they are."""
        ...


class _Wrapped(nn.Module):
    """A model and what turns a batch into outputs, as one module for ``functional_call``."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self._forward = forward
        self.training = model.training

    def forward(self, batch: Any) -> Any:
        return self._forward(self.model, batch)


@final
class ModelProgram:
    """A model, a loss and one batch."""

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        loss_fn: AbstractOutputLoss | None,
        batch: Any,
        count: Callable[[Any], float] | None,
    ) -> None:
        self._module = _Wrapped(model, forward)
        named = {n: p for n, p in self._module.named_parameters() if p.requires_grad}
        self._names = list(named)
        self.names = [name.removeprefix("model.") for name in named]
        self.params = Vector(named.values())
        self.loss_fn = loss_fn
        self.batch = batch
        self._count = count
        self._replay = Replay(self.params[0].device if len(self.params) else torch.device("cpu"))
        self._still: Still | None = None
        self._stands = False

    def still(self, leaves: Vector, place: int = 0) -> ModelProgram:
        """The same at ``leaves``, with buffers and modes as they are now; twice differentiable."""
        fixed = copy.copy(self)
        fixed.params = leaves
        fixed._replay = self._replay.fixed(place)
        fixed._still = Still(self._module, self._names)
        fixed.batch = single(self.batch) if fixed._still.reduced else self.batch
        return fixed

    def bound(self, batch: Any) -> ModelProgram:
        """The same on another batch, with random draws of its own."""
        other = copy.copy(self)
        other.batch = batch
        other._replay = Replay(self.params[0].device)
        return other

    @property
    def origin(self) -> nn.Module:
        """The model."""
        return self._module.model

    def modules(self) -> Iterator[nn.Module]:
        """The modules of the model."""
        return self._module.model.modules()

    def forward(self, theta: Sequence[Tensor] | None, *, settle: bool = False) -> Any:
        """What the forward function returns: (outputs, targets), or the loss itself."""
        with self._replay():
            if self._still is not None:
                return self._still.call(self.params if theta is None else theta, self.batch)
            if self._stands or (theta is None and settle):
                return self._module(self.batch)
            return functional_call(self._module, self._values(theta), (self.batch,))

    def bare(self) -> Any:
        """What the forward function returns at the live parameters, nothing copied or replayed."""
        return self._module.forward(self.batch)

    @contextmanager
    def standing(self, theta: Sequence[Tensor]) -> Iterator[None]:
        """Stand at ``theta`` until the backward pass is over.

        Checkpointed layers run forward again in the backward pass, with the parameters that the
        model has then.
        """
        if self._still is not None:
            yield
            return
        with _reparametrize_module(self._module, self._values(theta), tie_weights=True):
            self._stands = True
            try:
                yield
            finally:
                self._stands = False

    def _values(self, theta: Sequence[Tensor] | None) -> dict[str, Tensor]:
        """Copies of the buffers, and the parameters where they are not the live ones."""
        values: dict[str, Tensor] = {n: b.clone() for n, b in self._module.named_buffers()}
        if theta is not None:
            values |= dict(zip(self._names, theta, strict=True))
        return values

    def outputs(self, theta: Sequence[Tensor] | None) -> tuple[Any, Any]:
        """The model's outputs and the targets.

        Raises:
            TypeError: If the forward function returns the loss alone.
        """
        result = self.forward(theta)
        if self.loss_fn is None:
            raise TypeError(
                "Objective(loss_fn=None): the model computes its own loss, so its outputs and the "
                "loss's curvature are not known apart. Pass a loss_fn(outputs, targets)."
            )
        return result

    def loss(self, theta: Sequence[Tensor] | None, *, settle: bool = False) -> Tensor:
        """The loss at ``theta``, or at the live parameters."""
        return self.loss_of(self.forward(theta, settle=settle))

    def weighted(self, theta: Sequence[Tensor] | None, *, settle: bool) -> tuple[Tensor, float]:
        """The loss and the weight of this batch in a sum over batches."""
        result = self.forward(theta, settle=settle)
        return self.loss_of(result), self.weigh(result)

    def twice(self, *, settle: bool) -> tuple[Tensor, float]:
        """The loss and the weight at the live parameters, differentiable twice."""
        recurrent = self.params[0].is_cuda and any(
            isinstance(m, nn.RNNBase) for m in self._module.modules()
        )
        with twice_differentiable(recurrent):
            return self.weighted(None, settle=settle)

    def loss_of(self, result: Any) -> Tensor:
        """The loss, from what the forward function returned."""
        loss = result if self.loss_fn is None else self.loss_fn(*result)
        return checked_scalar(loss, "Objective", "loss_fn" if self.loss_fn else "forward")

    def weigh(self, result: Any) -> float:
        """The weight of this batch in a sum over batches, from what the forward pass returned."""
        if self._count is not None:
            return float(self._count(self.batch))
        if self.loss_fn is None:
            return float(_first_tensor(self.batch).shape[0])
        return 1.0 if self.loss_fn.reduction == "sum" else self.loss_fn.count(*result)


@final
class FunctionProgram:
    """A plain function of one tensor."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self._function = function
        self.params = Vector([x])
        self.names = ["x"]
        self._replay = Replay(x.device)

    @property
    def origin(self) -> Callable[[Tensor], Tensor]:
        """The function."""
        return self._function

    def loss(self, theta: Sequence[Tensor] | None, *, settle: bool = False) -> Tensor:
        """The loss at ``theta``, or at the live parameters."""
        del settle  # a function has no buffers
        (x,) = self.params if theta is None else theta
        value = checked_scalar(self.replayed(self._function, x), "Objective.of", "fn")
        # A constant function has gradient zero, which autograd would refuse to compute.
        return value if value.requires_grad or not x.requires_grad else value + 0.0 * x.sum()

    def replayed(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        """What a function returns at x, with the random numbers of the first evaluation."""
        with self._replay():
            return function(x)

    def weighted(self, theta: Sequence[Tensor] | None, *, settle: bool) -> tuple[Tensor, float]:
        """The loss and the weight of this batch in a sum over batches."""
        return self.loss(theta, settle=settle), 1.0

    def twice(self, *, settle: bool) -> tuple[Tensor, float]:
        """The same at the live parameter."""
        return self.weighted(None, settle=settle)

    def standing(self, theta: Sequence[Tensor]) -> AbstractContextManager[None]:
        """A function is evaluated once."""
        del theta
        return nullcontext()

    def still(self, leaves: Vector, place: int = 0) -> FunctionProgram:
        """The same at ``leaves``."""
        fixed = copy.copy(self)
        fixed.params = leaves
        fixed._replay = self._replay.fixed(place)
        return fixed


@final
@dataclass(frozen=True)
class BatchForward:
    """The default forward function: pairs (x, y), and mappings as Hugging Face models take them."""

    labels: str
    has_loss: bool

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """The outputs and the targets; for a mapping and no loss function, the model's loss."""
        if isinstance(batch, Mapping):
            if not self.has_loss:
                return _field(model(**batch), "loss")
            inputs = {name: value for name, value in batch.items() if name != self.labels}
            if self.labels not in batch:
                raise KeyError(
                    f"Objective(labels={self.labels!r}): the batch has no such key; it has "
                    f"{', '.join(map(repr, batch))}."
                )
            return _field(model(**inputs), "logits"), batch[self.labels]
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            x, y = batch
            outputs = model(*x) if isinstance(x, (tuple, list)) else model(x)
            return outputs, y
        raise TypeError(
            f"Objective.closure: a batch must be (x, y) or a dict, got {type(batch).__name__}; "
            "for any other form pass Objective(..., forward=lambda model, batch: ...)."
        )


def checked_scalar(loss: Any, where: str, name: str) -> Tensor:
    """The loss as a 0-dim tensor.

    Raises:
        TypeError: If it is not a tensor.
        ValueError: If it is not a scalar.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss
    if not isinstance(loss, Tensor):
        raise TypeError(f"{where}({name}=...): the loss must be a tensor, got {loss!r}.")
    if loss.numel() != 1:
        raise ValueError(
            f"{where}({name}=...): the loss must be a scalar, got shape {tuple(loss.shape)}. "
            "Take its mean over the batch."
        )
    return loss.reshape(())


def _field(output: Any, name: str) -> Any:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return output[name]
    return getattr(output, name) if hasattr(output, name) else output[0]


def _first_tensor(batch: Any) -> Tensor:
    if isinstance(batch, Tensor):
        return batch
    values = batch.values() if isinstance(batch, Mapping) else batch
    for value in values if isinstance(values, Iterable) else ():
        if isinstance(value, Tensor) and value.ndim:
            return value
    raise TypeError(
        "Objective.over: the number of samples in a batch is unknown; "
        "pass Objective(..., count=batch -> number)."
    )
