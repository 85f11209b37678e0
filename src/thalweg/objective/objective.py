"""A model with a loss, or a plain function: what is to be made small."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

from torch import Tensor, nn

from thalweg.errors import bad_argument
from thalweg.objective.closure import Closure, Risk
from thalweg.objective.ledger import Ledger
from thalweg.objective.losses import Loss, output_loss
from thalweg.objective.program import BatchForward, Forward, FunctionProgram, ModelProgram
from thalweg.objective.residuals import ResidualObjective
from thalweg.vectors import Vector


__all__ = ["FunctionObjective", "Objective"]


@final
class Objective:
    r"""A model and a loss, :math:`L(\theta; x, y) = \ell(f_\theta(x), y)`.

    Batches are pairs ``(x, y)``; or dicts as Hugging Face models take them (with a ``loss_fn`` it
    gets the output's ``logits`` and ``batch[labels]``, without one the model's own ``loss`` is
    used); or anything at all with a ``forward`` of the caller's.

    Args:
        model: The module; its parameters that require a gradient are the point theta.
        loss_fn: (outputs, targets) -> scalar, the mean over the batch. None: ``forward``, or the
            model itself, returns the loss.
        forward: (model, batch) -> (outputs, targets), or the loss where ``loss_fn`` is None.
        count: batch -> its weight in a sum over batches. Default: what the loss averages over
            (samples, entries, counted tokens), else the length of the batch.
        labels: The key of the targets in dict batches.

    Raises:
        TypeError: If the model is not a module or the loss not callable.
        ValueError: If the model has no trainable parameter.

    Example:
        >>> import torch
        >>> objective = Objective(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy)
        >>> closure = objective.closure(torch.zeros(4, 3), torch.tensor([0, 1, 1, 0]))
        >>> loss, gradient = closure.value_and_grad()
        >>> gradient
        Vector(8 entries in 2 tensors: (2, 3), (2,))
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss | None,
        *,
        forward: Forward | None = None,
        count: Callable[[Any], float] | None = None,
        labels: str = "labels",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"Objective(model=...): a torch.nn.Module is needed, got {model!r}.")
        if loss_fn is not None and not callable(loss_fn):
            raise TypeError(f"Objective(loss_fn=...): a callable is needed, got {loss_fn!r}.")
        self.model = model
        self.loss_fn = None if loss_fn is None else output_loss(loss_fn)
        self.ledger = Ledger()
        self._forward = forward or BatchForward(labels, loss_fn is not None)
        self._count = count
        if not self.params.tensors:
            allowed = "a module with at least one parameter that requires a gradient"
            raise bad_argument("Objective", "model", type(model).__name__, allowed)

    @staticmethod
    def of(fn: Callable[[Tensor], Tensor]) -> FunctionObjective:
        """The objective that is a plain function of one tensor (:class:`FunctionObjective`)."""
        return FunctionObjective(fn)

    @staticmethod
    def residuals(fn: Callable[[Tensor], Tensor]) -> ResidualObjective:
        r"""The objective :math:`\tfrac12 \lVert r(x)\rVert^2` of a function that returns residuals.

        Its closures also suit methods that need the residuals (:class:`ResidualObjective`).
        """
        return ResidualObjective(fn)

    @property
    def params(self) -> Vector:
        """The live trainable parameters, each once even where layers share them."""
        return Vector(p for p in self.model.parameters() if p.requires_grad)

    def closure(self, *batch: Any) -> Closure:
        """Bind the objective to one batch; nothing is computed yet.

        Args:
            *batch: ``x, y``, or one object that the forward function understands.

        Returns:
            The closure.

        Raises:
            ValueError: If no batch is given.
        """
        if not batch:
            raise bad_argument("Objective.closure", "batch", batch, "x, y or one batch")
        bound = batch[0] if len(batch) == 1 else batch
        program = ModelProgram(self.model, self._forward, self.loss_fn, bound, self._count)
        return Closure(program, self.ledger)

    def over(self, loader: Iterable[Any]) -> Risk:
        """The empirical risk over the batches of a loader, which are read once and kept.

        Args:
            loader: Batches, as :meth:`closure` takes them.

        Returns:
            The sum, weighted by samples; a closure too.

        Raises:
            ValueError: If the loader gives no batch.
        """
        closures = [self.closure(batch) for batch in loader]
        if not closures:
            raise ValueError("Objective.over(loader=...): the loader gave no batch.")
        return Risk(closures)


@final
class FunctionObjective:
    """A plain function of one tensor: test functions, physics, anything differentiable.

    Args:
        fn: tensor -> scalar tensor.

    Raises:
        TypeError: If ``fn`` is not callable.

    Example:
        >>> import torch
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: (x**2).sum()).closure(x)
        >>> loss, gradient = closure.value_and_grad()
        >>> loss.item(), gradient[0].tolist()
        (25.0, [6.0, 8.0])
    """

    def __init__(self, fn: Callable[[Tensor], Tensor]) -> None:
        if not callable(fn):
            raise TypeError(f"Objective.of(fn=...): a callable is needed, got {fn!r}.")
        self.fn = fn
        self.ledger = Ledger()

    def closure(self, x: Tensor) -> Closure:
        """Bind the function to the live tensor that an optimizer moves.

        Args:
            x: A leaf tensor that requires a gradient.

        Returns:
            The closure.

        Raises:
            ValueError: If ``x`` is not a leaf that requires a gradient.
        """
        if not (isinstance(x, Tensor) and x.requires_grad and x.is_leaf):
            raise bad_argument("Objective.of", "x", x, "a leaf tensor that requires a gradient")
        return Closure(FunctionProgram(self.fn, x), self.ledger)
