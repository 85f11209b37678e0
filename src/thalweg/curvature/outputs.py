r"""Matrices of the form :math:`J^\top B J`, with B in the space of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from thalweg.curvature.batches import Prepared
from thalweg.curvature.tangents import Tangents
from thalweg.objective import AbstractOutputLoss, Closure
from thalweg.objective.program import ModelProgram
from thalweg.objective.residuals import ResidualProgram


__all__ = [
    "OutputCurvature",
    "loss_hessian",
    "model_program",
    "output_gradient",
    "prepare_sandwich",
    "tangents_of",
]

# (outputs, targets) -> the product with B.
OutputCurvature = Callable[[Tensor, Any], Callable[[Tensor], Tensor]]

# What was found about a batch's tangents, for when its graph is built again.
_found: WeakKeyDictionary[Closure, dict[str, str]] = WeakKeyDictionary()


def prepare_sandwich(
    batch: Closure, leaves: list[Tensor], scheme: str | None, curvature: OutputCurvature
) -> Prepared:
    r"""One batch's :math:`J^\top B J`.

    Args:
        batch: The batch, held still.
        leaves: The parameters.
        scheme: Of the tangents.
        curvature: What gives B.

    Returns:
        The batch, ready for products.

    Raises:
        TypeError: If the objective has no outputs, or they are no tensor.
    """
    tangents, targets, loss_fn = tangents_of(batch, leaves, scheme)
    outputs = tangents.outputs
    between = curvature(outputs, targets)
    loss, slope = output_gradient(loss_fn, outputs, targets)

    def product(v: list[Tensor]) -> Sequence[Tensor]:
        return tangents.backward(between(tangents.forward(v)))

    def once(v: list[Tensor], last: bool) -> Sequence[Tensor]:
        return tangents.backward(between(tangents.forward(v, record=False)), keep=not last)

    return Prepared(
        product,
        loss,
        lambda: tangents.backward(slope),
        model_program(batch).weigh((outputs, targets)),
        samples=len(outputs) if outputs.ndim else 1,
        held=[outputs],
        once=once,
    )


def tangents_of(
    batch: Closure, leaves: list[Tensor], scheme: str | None, found: dict[str, str] | None = None
) -> tuple[Tangents, Any, AbstractOutputLoss]:
    """The outputs as a function of the leaves, the targets and the loss of outputs.

    What was ``found`` about the tangents of one batch of a model holds for the next.

    Raises:
        TypeError: If the objective has no outputs, or they are no tensor.
    """
    program = model_program(batch)
    place = {id(leaf): i for i, leaf in enumerate(leaves)}
    kept: dict[str, Any] = {}

    def function(theta: Sequence[Tensor]) -> Tensor:
        full = [theta[place[id(p)]] if id(p) in place else p for p in batch.params]
        outputs, targets = program.outputs(full)
        kept.setdefault("targets", targets)
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"Curvature of outputs: the model's outputs must be one tensor, got "
                f"{type(outputs).__name__}; pass Objective(..., forward=...) that returns it."
            )
        return outputs

    if batch.loss_fn is None:
        batch.outputs()  # raises, and says why
        raise TypeError("Curvature of outputs: the objective has no loss of outputs.")
    known = _found.setdefault(batch, {}) if found is None else found
    tangents = Tangents(function, leaves, scheme, known)
    return tangents, kept["targets"], batch.loss_fn


def model_program(batch: Closure) -> ModelProgram | ResidualProgram:
    """The program of a model with outputs, or of a function of residuals.

    Raises:
        TypeError: If the objective is a plain function.
    """
    if not isinstance(batch.program, (ModelProgram, ResidualProgram)):
        raise TypeError(
            "Curvature of outputs: a plain function has a value but no outputs; use Hessian, or "
            "GaussNewton for a function of residuals."
        )
    return batch.program


def output_gradient(
    loss_fn: AbstractOutputLoss, outputs: Tensor, targets: Any
) -> tuple[Tensor, Tensor]:
    """The loss and its gradient in output space."""
    with torch.enable_grad():
        z = outputs.detach().requires_grad_()
        loss = loss_fn(z, targets)
        if not loss.requires_grad:
            return loss, torch.zeros_like(z)
        (slope,) = torch.autograd.grad(loss, z, materialize_grads=True)
    return loss.detach(), slope


def loss_hessian(batch: Closure) -> OutputCurvature:
    """The Hessian of the batch's loss in output space."""
    loss = batch.loss_fn

    def curvature(outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        assert loss is not None  # outputs are known only where there is a loss
        fixed = outputs.detach()
        return lambda u: loss.hessian_product(fixed, targets, u)

    return curvature
