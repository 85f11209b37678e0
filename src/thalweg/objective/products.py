r"""Products with the Hessian through a gradient that has a graph: one vector, or many in one pass.

A product is the backward pass :math:`v \mapsto \nabla_\theta (\nabla_\theta L^\top v)`. Many
vectors go through the graph together where torch has a rule for every operation on the way: the
time of a pass is then mostly not spent in setting up small operations, once for each vector. Where
it has none they go one after the other, with the same result.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from thalweg.errors import UNTRANSFORMABLE
from thalweg.objective.graph import graph_nodes
from thalweg.objective.ledger import Ledger
from thalweg.vectors import Vector


__all__ = ["AbstractProducts", "GradientProducts", "SummedProducts"]

_MEMORY = 2**27  # bytes that the vectors of one pass may take


class AbstractProducts(ABC):
    """v -> H v."""

    @abstractmethod
    def __call__(self, v: Vector) -> Vector:
        """H v."""

    @abstractmethod
    def many(self, rows: Vector) -> Vector:
        """H v for several v.

        Args:
            rows: Parts of the parameters' shapes with one more dimension in front, over which the
                vectors differ.

        Returns:
            The products, likewise.
        """


@final
class GradientProducts(AbstractProducts):
    """Through the graph of one batch's gradient.

    Args:
        gradient: With a graph; None, or without one, where it does not move.
        leaves: The parameters.
        ledger: Where products are counted.

    Example:
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> gradient = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        >>> products = GradientProducts(gradient, [x], Ledger())
        >>> products(Vector([torch.ones(2)]))[0].tolist()
        [18.0, 24.0]
        >>> products.many(Vector([torch.eye(2)]))[0].tolist()
        [[18.0, 0.0], [0.0, 24.0]]
    """

    def __init__(
        self, gradient: Sequence[Tensor | None], leaves: Sequence[Tensor], ledger: Ledger
    ) -> None:
        moving = [(i, g) for i, g in enumerate(gradient) if g is not None and g.requires_grad]
        self._places = [i for i, _ in moving]
        self._gradient = [g for _, g in moving]
        self._leaves, self._ledger = list(leaves), ledger
        self._batched = True  # until a pass has failed

    def __call__(self, v: Vector) -> Vector:
        """H v."""
        if not self._places:
            return v.zeros_like()
        with self._ledger.charge(product=1):
            return Vector(self._back([v[i] for i in self._places]))

    def many(self, rows: Vector) -> Vector:
        """H v for several v, as many in one pass as the memory of that pass allows."""
        if not self._places or not len(rows[0]):
            return rows.zeros_like()
        picked = [rows[i] for i in self._places]
        count, at_once = len(rows[0]), self._at_once()
        with self._ledger.charge(product=count):
            made = [
                self._pass([part[first : first + at_once] for part in picked])
                for first in range(0, count, at_once)
            ]
        return Vector(torch.cat(parts) for parts in zip(*made, strict=True))

    def _pass(self, rows: list[Tensor]) -> Sequence[Tensor]:
        if self._batched and len(rows[0]) > 1:
            try:
                parts = self._back(rows, batched=True)
            except UNTRANSFORMABLE:  # what is truly wrong is wrong for a single vector too
                self._batched = False
            else:  # torch fills in zeros of the leaf's own shape for one that is not used
                every = zip(parts, self._leaves, strict=True)
                count = len(rows[0])
                return [p.expand(count, *p.shape) if p.ndim == q.ndim else p for p, q in every]
        single = [self._back(list(row)) for row in zip(*rows, strict=True)]
        return [torch.stack(parts) for parts in zip(*single, strict=True)]

    def _back(self, v: list[Tensor], *, batched: bool = False) -> Sequence[Tensor]:
        return torch.autograd.grad(
            self._gradient,
            self._leaves,
            v,
            retain_graph=True,
            is_grads_batched=batched,
            materialize_grads=True,
        )

    def _at_once(self) -> int:
        """How many vectors fit: a pass holds at most one number for each of the graph's outputs."""
        entries = sum(leaf.numel() for leaf in self._leaves)
        for node in graph_nodes(self._gradient):
            entries += sum(math.prod(m.shape) for m in getattr(node, "_input_metadata", ()))
        return max(1, _MEMORY // (entries * self._leaves[0].element_size() or 1))


@final
class SummedProducts(AbstractProducts):
    """A weighted sum of products: of the Hessian over many batches.

    Args:
        terms: Products, and their shares.

    Example:
        >>> x = torch.tensor([2.0], requires_grad=True)
        >>> gradient = torch.autograd.grad((x**2).sum(), x, create_graph=True)
        >>> one = GradientProducts(gradient, [x], Ledger())
        >>> SummedProducts([(one, 0.5), (one, 0.25)])(Vector([torch.ones(1)]))[0].item()
        1.5
    """

    def __init__(self, terms: Sequence[tuple[AbstractProducts, float]]) -> None:
        self._terms = list(terms)

    def __call__(self, v: Vector) -> Vector:
        """H v."""
        total = v.zeros_like()
        for products, share in self._terms:
            total.add_(products(v), alpha=share)
        return total

    def many(self, rows: Vector) -> Vector:
        """H v for several v."""
        total = rows.zeros_like()
        for products, share in self._terms:
            total.add_(products.many(rows), alpha=share)
        return total
