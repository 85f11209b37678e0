"""The one currency: an objective bound to a batch, or summed over many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self, final

import torch
from torch import Tensor

from thalweg.objective.graph import refuse_once_only
from thalweg.objective.ledger import Ledger
from thalweg.objective.losses import AbstractOutputLoss
from thalweg.objective.products import AbstractProducts, GradientProducts, SummedProducts
from thalweg.objective.program import Program
from thalweg.objective.still import leaves_of
from thalweg.vectors import Vector


__all__ = ["AbstractClosure", "Closure", "Risk"]


class AbstractClosure(ABC):
    """A function of parameter space that is also a closure in torch's sense."""

    params: Vector
    names: list[str]
    ledger: Ledger
    summed: bool  # whether batches add up, instead of being averaged

    @property
    @abstractmethod
    def batches(self) -> list[Closure]:
        """The closures of the single batches; of a single one, itself."""

    @abstractmethod
    def still(self, *, borrow: bool = False) -> Self:
        """The same function, held at the point where the model is now.

        Its parameters are leaves of its own, so that no later step moves them; buffers, modes
        (train or eval) and random state are those of now; half-precision parameters become
        float32. It differentiates twice where the live model's kernels do not.

        Args:
            borrow: Share the memory of the live parameters instead of copying it, where nothing
                moves them before the result is dropped.

        Raises:
            TypeError: If a parameter is complex.
        """

    @abstractmethod
    def __call__(self) -> Tensor:
        """Zero the gradients, run forward and backward, return the loss: torch's contract."""

    @abstractmethod
    def value(self, theta: Vector | Tensor | None = None) -> Tensor:
        """The loss at ``theta`` (default: the live parameters); a 0-dim tensor, no graph."""

    @abstractmethod
    def value_and_grad(self, theta: Vector | Tensor | None = None) -> tuple[Tensor, Vector]:
        """The loss and its gradient at ``theta``; ``.grad`` is left alone."""

    @abstractmethod
    def with_products(self) -> tuple[Tensor, AbstractProducts]:
        """Do what a call does, and keep what is needed for products with the Hessian.

        The graph is kept until the products are dropped; nothing may move the parameters before.

        Returns:
            The loss, and v -> H v over ``params``.

        Raises:
            RuntimeError: If some layer has no second derivative (torch's own message), or is
                marked as having none, of which torch may take no notice.
        """

    @final
    def snapshot(self) -> Vector:
        """A copy of the live parameters."""
        return self.params.clone()


@final
class Closure(AbstractClosure):
    """An objective bound to one batch; made by :meth:`Objective.closure`.

    Called, it does what torch's closures do. The first call moves running statistics (BatchNorm)
    as a training step does; later calls, and every evaluation elsewhere, leave the model's buffers
    alone and draw the same random numbers (dropout) again: one closure is one function.

    Args:
        program: What computes the loss.
        ledger: Where the cost is counted.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> from thalweg.objective import Objective
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.ones(4, 2), torch.ones(4, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> bool(optimizer.step(closure) > closure.value())
        True
        >>> closure.ledger.forward, closure.ledger.backward
        (2, 1)
    """

    def __init__(self, program: Program, ledger: Ledger) -> None:
        self.program = program
        self.params = program.params
        self.names = program.names
        self.ledger = ledger
        self._called = False
        self.summed = self.loss_fn is not None and self.loss_fn.reduction == "sum"

    @property
    def batches(self) -> list[Closure]:
        """Itself alone."""
        return [self]

    def still(self, *, borrow: bool = False) -> Closure:
        """The same function, held at the point where the model is now."""
        return Closure(self.program.still(leaves_of(self.params, borrow)), self.ledger)

    def __call__(self) -> Tensor:
        """Zero the gradients, run forward and backward, return the loss (without graph)."""
        return self.accumulate(first=True)[0]

    def accumulate(self, *, first: bool, weighted: bool = False) -> tuple[Tensor, float]:
        """One live forward and backward into ``.grad``.

        Args:
            first: Whether the gradients are zeroed before.
            weighted: Whether the loss is multiplied by this batch's weight in a sum over batches.

        Returns:
            The loss, not multiplied, and the weight.
        """
        settle, self._called = not self._called, True
        with torch.enable_grad(), self.ledger.charge(forward=1, backward=1):
            loss, weight = self.program.weighted(None, settle=settle)
            _check_depends(loss)
            if first:
                for p in self.params:
                    p.grad = None
            if not weighted:
                loss.backward()
            elif weight > 0:
                (loss * weight).backward()
        return loss.detach(), weight

    def with_products(self) -> tuple[Tensor, AbstractProducts]:
        """Do what a call does, and keep what is needed for products with the Hessian."""
        loss, gradient, _ = self.with_gradient()
        for p, g in zip(self.params, gradient, strict=True):
            p.grad = None if g is None else g.detach().clone()
        return loss, self.products_of(gradient)

    def with_gradient(self) -> tuple[Tensor, tuple[Tensor | None, ...], float]:
        """One live forward and backward whose gradient has a graph, and the weight in a sum.

        Parameters that the loss does not use have no gradient, as after ``backward()``.
        """
        refuse_once_only(self.program.origin)
        settle, self._called = not self._called, True
        with torch.enable_grad(), self.ledger.charge(forward=1, backward=1):
            loss, weight = self.program.twice(settle=settle)
            _check_depends(loss)
            refuse_once_only(self.program.origin, loss)
            leaves = list(self.params)
            gradient = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        return loss.detach(), gradient, weight

    def products_of(self, gradient: Sequence[Tensor | None]) -> GradientProducts:
        """Products with the Hessian through a gradient that has a graph."""
        return GradientProducts(gradient, self.params, self.ledger)

    def value(self, theta: Vector | Tensor | None = None) -> Tensor:
        """The loss at ``theta`` (default: the live parameters); a 0-dim tensor, no graph."""
        return self.weighted_value(theta)[0]

    def weighted_value(self, theta: Vector | Tensor | None = None) -> tuple[Tensor, float]:
        """The loss at ``theta`` and the weight of this batch in a sum over batches."""
        with torch.no_grad(), self.ledger.charge(forward=1):
            loss, weight = self.program.weighted(self._parts(theta), settle=False)
        return loss.detach(), weight

    def value_and_grad(self, theta: Vector | Tensor | None = None) -> tuple[Tensor, Vector]:
        """The loss and its gradient at ``theta``; ``.grad`` is left alone."""
        loss, grads, _ = self.weighted_value_and_grad(theta)
        return loss, grads

    def weighted_value_and_grad(
        self, theta: Vector | Tensor | None = None
    ) -> tuple[Tensor, Vector, float]:
        """The loss and gradient at ``theta``, and the weight of this batch in a sum."""
        leaves = [t.detach().requires_grad_() for t in self._parts(theta) or self.params]
        charged = self.ledger.charge(forward=1, backward=1)
        with torch.enable_grad(), charged, self.program.standing(leaves):
            loss, weight = self.program.weighted(leaves, settle=False)
            _check_depends(loss)
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
        return loss.detach(), Vector(grads), weight

    @property
    def loss_fn(self) -> AbstractOutputLoss | None:
        """The loss as a function of outputs, where the objective has one."""
        return getattr(self.program, "loss_fn", None)

    def outputs(self, theta: Vector | Tensor | None = None) -> tuple[Any, Any]:
        """The model's outputs at ``theta`` and the targets, with a graph where autograd is on.

        Raises:
            TypeError: If the objective is a plain function, or the model computes its own loss.
        """
        outputs = getattr(self.program, "outputs", None)
        if outputs is None:
            raise TypeError("Closure.outputs: a plain function has a value but no outputs.")
        with self.ledger.charge(forward=1):
            return outputs(self._parts(theta))

    def _parts(self, theta: Vector | Tensor | None) -> Sequence[Tensor] | None:
        if isinstance(theta, Tensor):
            if len(self.params) == 1 and theta.shape == self.params[0].shape:
                return [theta]
            return self.params.like(theta)
        return theta


@final
class Risk(AbstractClosure):
    r"""The empirical risk over many batches; made by :meth:`Objective.over`.

    .. math:: R(\theta) = \sum_b \frac{c_b}{\sum_j c_j} L_b(\theta),

    with each batch's own normaliser c (samples, entries, counted tokens): exactly the mean loss of
    the concatenated data, ragged last batch included. Losses that sum are summed. A step on it is
    gradient accumulation: ``optimizer.step(objective.over([first, second]))``.

    Args:
        closures: One closure for each batch.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(1, 1)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> x, y = torch.arange(3.0).reshape(3, 1), torch.ones(3, 1)
        >>> risk = objective.over([(x[:2], y[:2]), (x[2:], y[2:])])
        >>> bool((risk.value() - objective.closure(x, y).value()).abs() < 1e-6)
        True
    """

    def __init__(self, closures: Sequence[Closure]) -> None:
        self.closures = list(closures)
        self.params = self.closures[0].params
        self.names = self.closures[0].names
        self.ledger = self.closures[0].ledger
        self.summed = self.closures[0].summed

    @property
    def batches(self) -> list[Closure]:
        """One closure for each batch."""
        return self.closures

    def still(self, *, borrow: bool = False) -> Risk:
        """The same function, held at the point where the model is now."""
        leaves = leaves_of(self.params, borrow)
        return Risk(
            [Closure(c.program.still(leaves, i), c.ledger) for i, c in enumerate(self.closures)]
        )

    def __call__(self) -> Tensor:
        """Zero the gradients, accumulate over all batches, return the loss."""
        terms = [c.accumulate(first=i == 0, weighted=True) for i, c in enumerate(self.closures)]
        value, total = self._mean(terms)
        Vector(p.grad for p in self.params if p.grad is not None).div_(total)
        return value

    def with_products(self) -> tuple[Tensor, AbstractProducts]:
        """Do what a call does, and keep what is needed for products with the Hessian."""
        looks = [c.with_gradient() for c in self.closures]
        value, total = self._mean([(loss, weight) for loss, _, weight in looks])
        shares = [weight / total for _, _, weight in looks]
        made = [c.products_of(g) for c, (_, g, _) in zip(self.closures, looks, strict=True)]
        for i, p in enumerate(self.params):
            parts = [(g[i], share) for (_, g, _), share in zip(looks, shares, strict=True)]
            used = [(part, share) for part, share in parts if part is not None and share > 0]
            total_gradient = torch.zeros_like(p)
            for part, share in used:
                total_gradient.add_(part.detach(), alpha=share)
            p.grad = total_gradient if used else None

        terms = [(within, share) for within, share in zip(made, shares, strict=True) if share > 0]
        return value, SummedProducts(terms)

    def value(self, theta: Vector | Tensor | None = None) -> Tensor:
        """The loss at ``theta`` (default: the live parameters); a 0-dim tensor, no graph."""
        return self._mean([closure.weighted_value(theta) for closure in self.closures])[0]

    def value_and_grad(self, theta: Vector | Tensor | None = None) -> tuple[Tensor, Vector]:
        """The loss and its gradient at ``theta``; ``.grad`` is left alone."""
        gradient = self.params.zeros_like().detach()
        terms: list[tuple[Tensor, float]] = []
        for closure in self.closures:
            loss, part, weight = closure.weighted_value_and_grad(theta)
            terms.append((loss, weight))
            if weight > 0:
                gradient.add_(part, alpha=weight)
        value, total = self._mean(terms)
        return value, gradient.div_(total)

    def _mean(self, terms: list[tuple[Tensor, float]]) -> tuple[Tensor, float]:
        """The weighted mean and what to divide by; a batch in which nothing counts has no part."""
        counted = [(loss, weight) for loss, weight in terms if weight > 0]
        if not counted:
            raise ValueError("Objective.over(loader=...): no target in any batch counts.")
        total = 1.0 if self.summed else sum(weight for _, weight in counted)
        return torch.stack([loss * weight for loss, weight in counted]).sum() / total, total


def _check_depends(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ValueError(
            "Objective: the loss does not depend on any trainable parameter of the model; "
            "look for a detach(), a no_grad() or frozen parameters."
        )
