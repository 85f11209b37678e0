r"""Curvature of a loss over batches: what the operators of this room share.

An operator takes a snapshot of its closure when it is made. For each batch it prepares a product
(usually by building a graph once) and keeps what was prepared while memory lasts; batches beyond
the budget are prepared again for each product. Batches are summed by their own weights (samples,
entries, counted tokens),

.. math:: A = \frac{\sum_b c_b A_b}{\sum_b c_b},

which is the curvature of the mean loss over all data, ragged last batch included.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.distributed as dist
from rich.progress import track
from torch import Tensor

from thalweg.curvature.graphs import free_memory, graph_bytes
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.selection import selected
from thalweg.curvature.self_check import SelfCheck, check_operator
from thalweg.errors import NonFiniteError, bad_argument
from thalweg.objective import AbstractClosure, Closure
from thalweg.vectors import Vector


__all__ = ["AbstractBatchOperator", "How", "Prepared"]


@final
@dataclass(frozen=True)
class How:
    """How an operator computes; every field has a default that is right for most.

    Args:
        scheme: The scheme of products, by the names that the operator lists; None picks.
        memory: Bytes that kept graphs may take; 0 recomputes them for each product, None allows a
            quarter of what is free.
        check: Whether the operator checks itself at its first product (three products' cost).
        group: A ``torch.distributed`` process group whose members each hold a part of the data.
        borrow: Share the live parameters' memory instead of copying it.
        progress: Show a progress bar over batches.

    Raises:
        ValueError: If ``memory`` is negative.

    Example:
        >>> How(scheme="finite-difference", check=False).memory is None
        True
    """

    scheme: str | None = None
    memory: int | None = None
    check: bool = True
    group: Any = None
    borrow: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        if self.memory is not None and not self.memory >= 0:
            raise bad_argument("How", "memory", self.memory, "a number of bytes >= 0, or None")


@final
@dataclass
class Prepared:
    """One batch, ready for products.

    Args:
        product: Parts of v -> parts of the product with the batch's own matrix.
        loss: The batch's loss.
        gradient: What gives its gradient, parts.
        weight: The batch's weight in the sum.
        samples: The number of samples.
        held: The tensors whose graph is kept; its memory is counted.
        once: The product for a batch that is not kept, and whether it is the last one, so that its
            graph can be freed on the way.
    """

    product: Callable[[list[Tensor]], Sequence[Tensor]]
    loss: Tensor
    gradient: Callable[[], Sequence[Tensor]]
    weight: float
    samples: int = 0
    held: Sequence[Tensor] = ()
    once: Callable[[list[Tensor], bool], Sequence[Tensor]] | None = None


class AbstractBatchOperator(AbstractOperator):
    """A symmetric operator over the parameters of a closure.

    Args:
        closure: A closure over one batch, or a sum over a loader.
        params: Patterns of parameter names to restrict to; None takes all.
        how: How it is computed.

    Raises:
        ValueError: If a pattern matches nothing, or the scheme is unknown.
        TypeError: If ``closure`` is not a closure, or a parameter is complex.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    derivative: ClassVar[bool] = False  # whether products can be compared with finite differences

    def __init__(
        self, closure: AbstractClosure, params: Sequence[str] | str | None, how: How | None
    ) -> None:
        name = type(self).__name__
        if not isinstance(closure, AbstractClosure):
            raise TypeError(
                f"{name}(closure={type(closure).__name__}): pass objective.closure(x, y) or "
                "objective.over(loader)."
            )
        self.how = how or How()
        if self.how.scheme is not None and self.how.scheme not in self.schemes:
            allowed = f"None or one of {', '.join(map(repr, self.schemes))}"
            raise bad_argument(name, "scheme", self.how.scheme, allowed)
        self.still = closure.still(borrow=self.how.borrow)
        every = range(len(self.still.names))
        kept = list(every) if params is None else selected(self.still.names, params, name)
        self.leaves = [self.still.params[i] for i in kept]
        domain = Vector([leaf.detach() for leaf in self.leaves])
        n = domain.numel()
        first = self.leaves[0]
        super().__init__(
            (n, n),
            first.dtype,
            first.device,
            domain=domain,
            names=[self.still.names[i] for i in kept],
        )
        self.check: SelfCheck | None = None
        self._checking = self.how.check
        self._kept: dict[int, Prepared] = {}
        self._budget = (
            free_memory(first.device) // 4 if self.how.memory is None else self.how.memory
        )
        self._first: tuple[float, Tensor] | None = None

    # ---- what a matrix is made of -----------------------------------------------------------
    @abstractmethod
    def prepare(self, batch: Closure, index: int) -> Prepared:
        """Make one batch ready for products.

        Args:
            batch: The batch, held still.
            index: Its place in the sum.

        Returns:
            What is needed for products.
        """

    @abstractmethod
    def normaliser(self, weight: float, samples: int) -> float:
        """What the weighted sum over batches is multiplied by."""

    # ---- what comes with it -----------------------------------------------------------------
    @property
    @final
    def loss(self) -> float:
        """The loss at the operator's point."""
        return self._look()[0]

    @property
    @final
    def gradient(self) -> Tensor:
        """The gradient of the loss at the operator's point, flat."""
        return self._look()[1]

    @final
    def _apply(self, columns: Tensor) -> Tensor:
        if self._checking:
            self._checking = False
            self._self_check()
        return self._sum(columns)

    @final
    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        return self._apply(columns)

    @final
    def _sum(self, columns: Tensor) -> Tensor:
        rows = columns.T.contiguous()
        total: Tensor | None = None
        weight, samples = 0.0, 0
        for prepared in self._each_batch():
            if not prepared.weight > 0:
                continue
            weight, samples = weight + prepared.weight, samples + prepared.samples
            part = self._product(prepared, rows)
            if self._alone:
                return _scaled(part, prepared.weight * self.normaliser(weight, samples)).T
            part = _scaled(part, prepared.weight)
            total = part if total is None else total.add_(part)
        total = torch.zeros_like(rows) if total is None else total
        weight, samples = self._over_processes(total, weight, samples)
        return total.mul_(self.normaliser(weight, samples)).T

    @final
    def _product(self, prepared: Prepared, rows: Tensor) -> Tensor:
        """One batch's product with each row, as rows."""
        out = torch.empty_like(rows)
        for i, row in enumerate(rows):
            v = self._parts(row)
            with self.still.ledger.charge(product=1):
                once = prepared.once
                parts = once(v, i + 1 == len(rows)) if once else prepared.product(v)
            torch.cat([part.detach().reshape(-1) for part in parts], out=out[i])
        return out

    @property
    @final
    def _alone(self) -> bool:
        """Whether there is nothing to add up."""
        return len(self.still.batches) == 1 and self.how.group is None

    @final
    def _each_batch(self) -> Iterable[Prepared]:
        batches = self.still.batches
        order = range(len(batches))
        if self.how.progress and len(batches) > 1:
            order = track(order, description=type(self).__name__, transient=True)
        for i in order:
            if i in self._kept:
                yield self._kept[i]
                continue
            with torch.enable_grad(), self.still.ledger.charge(forward=1, backward=1):
                prepared = self.prepare(batches[i], i)
            self._keep(i, prepared)
            yield prepared

    @final
    def _keep(self, index: int, prepared: Prepared) -> None:
        """Keep what was prepared while the budget lasts; a single batch's graph exists anyway."""
        if self._budget <= 0:
            return
        self._budget -= graph_bytes(prepared.held)
        if self._budget >= 0 or (self.how.memory is None and len(self.still.batches) == 1):
            prepared.once = None
            self._kept[index] = prepared

    @final
    def _look(self) -> tuple[float, Tensor]:
        """The loss and the gradient over all batches, computed once."""
        if self._first is None:
            value, weight, samples = torch.zeros(1, dtype=torch.float64), 0.0, 0
            gradient = torch.zeros(self.shape[1], dtype=self.dtype, device=self.device)
            for prepared in self._each_batch():
                if prepared.weight > 0:
                    value += prepared.weight * prepared.loss.detach().double().cpu()
                    gradient.add_(_flat(prepared.gradient()).detach(), alpha=prepared.weight)
                    weight, samples = weight + prepared.weight, samples + prepared.samples
            self._over_processes(value, 0.0, 0)
            weight, _ = self._over_processes(gradient, weight, samples)
            if not weight > 0:
                raise ValueError(f"{type(self).__name__}: no target in any batch counts.")
            scale = 1.0 if self.still.summed else 1.0 / weight
            if not bool(value.isfinite()):
                raise NonFiniteError(
                    f"{type(self).__name__}: the loss is {float(value)} at this point, so it has "
                    "no curvature."
                )
            self._first = float(value) * scale, gradient.mul_(scale)
        return self._first

    @final
    def _over_processes(self, total: Tensor, weight: float, samples: int) -> tuple[float, int]:
        """Sum over the processes of the group, in place."""
        if self.how.group is None:
            return weight, samples
        dist.all_reduce(total, group=self.how.group)
        counts = torch.tensor([weight, samples], dtype=torch.float64, device=total.device)
        dist.all_reduce(counts, group=self.how.group)
        return float(counts[0]), int(counts[1])

    @final
    def _parts(self, row: Tensor) -> list[Tensor]:
        sizes = [leaf.numel() for leaf in self.leaves]
        pieces = zip(row.split(sizes), self.leaves, strict=True)
        return [piece.view(leaf.shape).to(leaf.dtype) for piece, leaf in pieces]

    @final
    def _self_check(self) -> None:
        flat = _flat([leaf.detach().to(self.dtype) for leaf in self.leaves])
        loss, moving = self.loss, self.gradient != 0
        again = self._loss_again()
        at = self._gradient_at if self.derivative and self.how.group is None else None
        self.check = check_operator(
            type(self).__name__,
            lambda v: self._sum(v[:, None])[:, 0],
            at,
            (loss, again),
            flat,
            moving,
        )

    @final
    def _loss_again(self) -> float:
        total, weight = torch.zeros(2, dtype=torch.float64), 0.0
        for batch in self.still.batches:
            value, share = batch.weighted_value()
            if share > 0:
                total[0] += share * value.double().cpu()
                weight += share
        self._over_processes(total, 0.0, 0)
        weight, _ = self._over_processes(torch.zeros(1), weight, 0)
        return float(total[0]) / (1.0 if self.still.summed else weight)

    @final
    def _gradient_at(self, direction: Tensor, step: float) -> Tensor:
        """The gradient at the point moved by ``step`` along ``direction``."""
        moved = dict(zip(map(id, self.leaves), self._parts(direction), strict=True))
        theta = [
            p.detach() + step * moved[id(p)] if id(p) in moved else p.detach()
            for p in self.still.params
        ]
        _, gradient = self.still.value_and_grad(Vector(theta))
        return _flat(
            [g for g, p in zip(gradient, self.still.params, strict=True) if id(p) in moved]
        )


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1.0 else tensor.mul_(factor)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])
