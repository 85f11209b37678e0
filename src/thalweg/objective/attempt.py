"""A point that is tried: its value now; its gradient and curvature later, if it is taken.

A method that judges its steps by the value alone would evaluate an accepted point twice: once for
the value, once for the graph of its derivatives. An attempt keeps the graph of the one evaluation,
and goes back through it only if it is asked to.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from thalweg.objective.closure import AbstractClosure, Closure
from thalweg.objective.products import AbstractProducts, SummedProducts
from thalweg.objective.still import leaves_of
from thalweg.vectors import Vector


__all__ = ["Attempt"]


@final
class Attempt:
    """The function of a closure at one point, which the live model never sees.

    Args:
        closure: What is evaluated: one batch, or the sum over many.
        theta: The point, over the closure's parameters; copied.

    Raises:
        TypeError: If a parameter is complex.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> attempt = Attempt(Objective.of(lambda x: (x**3).sum()).closure(x), Vector([2 * x]))
        >>> attempt.value.item(), attempt.gradient()[0].tolist()
        (728.0, [108.0, 192.0])
        >>> attempt.product(Vector([torch.ones(2)]))[0]
        tensor([36., 48.])
    """

    def __init__(self, closure: AbstractClosure, theta: Vector) -> None:
        self._leaves = leaves_of(theta, borrow=False)
        self._parts: list[tuple[Closure, Tensor, float]] = []
        for place, batch in enumerate(closure.batches):
            still = Closure(batch.program.still(self._leaves, place), batch.ledger)
            with torch.enable_grad(), batch.ledger.charge(forward=1):
                loss, weight = still.program.weighted(None, settle=False)
            self._parts.append((still, loss, weight if len(closure.batches) > 1 else 1.0))
        total = 1.0 if closure.summed else sum(weight for _, _, weight in self._parts)
        self._shares = [weight / total for _, _, weight in self._parts]
        terms = [loss.detach() * share for (_, loss, _), share in self._counted()]
        self.value: Tensor = torch.stack(terms).sum()
        self._terms: list[tuple[AbstractProducts, float]] = []

    def gradient(self) -> Vector:
        """The gradient here; its graph is kept for products. To be called once."""
        total = Vector([torch.zeros_like(leaf) for leaf in self._leaves]).detach()
        for (still, loss, _), share in self._counted():
            with torch.enable_grad(), still.ledger.charge(backward=1):
                parts = torch.autograd.grad(
                    loss, list(self._leaves), create_graph=True, allow_unused=True
                )
            self._terms.append((still.products_of(parts), share))
            for sum_, part in zip(total, parts, strict=True):
                if part is not None:
                    sum_.add_(part.detach(), alpha=share)
        return total

    def product(self, v: Vector) -> Vector:
        """The Hessian here times v; only after :meth:`gradient`."""
        return self.products(v)

    @property
    def products(self) -> AbstractProducts:
        """Products with the Hessian here; only after :meth:`gradient`."""
        return SummedProducts(self._terms)

    def _counted(self) -> list[tuple[tuple[Closure, Tensor, float], float]]:
        """The batches in which something counts."""
        pairs = zip(self._parts, self._shares, strict=True)
        return [(part, share) for part, share in pairs if share > 0]
