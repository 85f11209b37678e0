"""One forward and backward pass, with one clear message for each thing that can be wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter


__all__ = ["check_gradient", "check_loss", "check_model", "check_outputs", "check_same"]


def check_model(where: str, model: object) -> nn.Module:
    """The model, if it is a module with something to train and shapes that are known.

    Raises:
        ValueError: If it is not.

    Example:
        >>> check_model("Problem 'mine'", "net")
        Traceback (most recent call last):
        ValueError: Problem 'mine': model() must return a torch.nn.Module; it returned a str.
    """
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ValueError(f"{where}: model() must return a torch.nn.Module; it returned a {kind}.")
    if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        raise ValueError(
            f"{where}: the model has a lazy layer, whose shape is unknown before its first batch; "
            "give its sizes."
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{where}: the model has no trainable parameter.")
    return model


def check_same(where: str, first: nn.Module, second: nn.Module) -> None:
    """Two models built from one seed must be two objects with the same numbers.

    Raises:
        ValueError: If they are not.
    """
    if first is second:
        raise ValueError(
            f"{where}: model() must build a new module at each call; it returned the same one "
            "twice. Build it inside: model=lambda: Net()."
        )
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor)):
        raise ValueError(
            f"{where}: two models built from one seed differ; draw initial weights from torch's "
            "global generator, which the problem seeds."
        )


def check_outputs(where: str, model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's outputs on a batch.

    Raises:
        ValueError: If the model refuses the batch or returns no tensor.
    """
    try:
        outputs = model(inputs)
    except Exception as error:
        raise ValueError(
            f"{where}: the model cannot read inputs of shape {tuple(inputs.shape)} and "
            f"{inputs.dtype}: {error}"
        ) from error
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"{where}: the model must return one tensor; it returned a {type(outputs).__name__}."
        )
    return outputs


def check_loss(
    where: str, name: str, fn: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor
) -> Tensor:
    """The loss, or the metric, of a batch.

    Raises:
        ValueError: If shapes do not fit (or only by broadcasting, of which torch warns), or the
            value is no scalar tensor or not finite.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Using a target size")
            value = fn(outputs, targets)
    except Exception as error:
        raise ValueError(
            f"{where}: the {name} cannot compare outputs of shape {tuple(outputs.shape)} with "
            f"targets of shape {tuple(targets.shape)} and {targets.dtype}: {error}"
        ) from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{where}: the {name} must return a scalar tensor; it returned {value!r}.")
    if value.dim() != 0:
        raise ValueError(
            f"{where}: the {name} must be a scalar, the mean over the batch; it has shape "
            f"{tuple(value.shape)}."
        )
    if not torch.isfinite(value):
        raise ValueError(
            f"{where}: the {name} is {value.item()} at the initial weights; scale the inputs or "
            "look for a log or a division by zero."
        )
    return value


def check_gradient(where: str, model: nn.Module, loss: Tensor) -> None:
    """Backward through the loss.

    Raises:
        ValueError: If the loss does not depend on the parameters, or a gradient is not finite.
    """
    if not loss.requires_grad:
        raise ValueError(
            f"{where}: the loss does not depend on the model's parameters; look for a detach() or "
            "an argmax() between them."
        )
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    if all(grad is None for grad in grads):
        raise ValueError(f"{where}: the loss does not depend on the model's parameters.")
    for name, grad in zip(named, grads, strict=True):
        if grad is not None and not torch.isfinite(grad).all():
            raise ValueError(
                f"{where}: the gradient of {name!r} is not finite at the initial weights."
            )
