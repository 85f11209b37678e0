r"""Residuals wherever they are asked for: what least-squares methods see of a closure.

A closure of residuals is :math:`\tfrac12\lVert r\rVert^2` as it stands. A model with a mean squared
error is one too, with :math:`r = \sqrt{2/c}\,(z - y)` for c entries: half of its sum of squares is
the loss itself. Batches of a sum stand one under the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from thalweg.curvature.dense_jacobian import dense_jacobian, jacobian_by_samples
from thalweg.curvature.tangents import Tangents
from thalweg.objective import AbstractClosure, Closure, SquaredError
from thalweg.objective.program import ModelProgram
from thalweg.objective.residuals import ResidualProgram
from thalweg.objective.still import leaves_of
from thalweg.vectors import Vector


__all__ = ["Outlook", "ResidualSight"]


@final
class ResidualSight:
    """The residuals of a closure as a function of some of its parameters.

    Args:
        name: The method, for messages.
        closure: Of residuals, or of a model with a squared error; one batch or a sum of many.
        params: The parameters that move.

    Raises:
        TypeError: If there are no residuals to see.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> closure = Objective.residuals(lambda x: x**2).closure(x)
        >>> sight = ResidualSight("LevenbergMarquardt", closure, [x])
        >>> sight.look([torch.tensor([3.0, 4.0])]).residuals
        tensor([ 9., 16.])
    """

    def __init__(self, name: str, closure: Callable[[], Any], params: Sequence[Tensor]) -> None:
        if not isinstance(closure, AbstractClosure):
            raise TypeError(
                f"{name}.step(closure): this method needs the residuals, which an ordinary closure "
                "does not tell. Pass Objective(model, torch.nn.functional.mse_loss).closure(x, y), "
                "or Objective.residuals(fn).closure(x)."
            )
        for batch in closure.batches:
            _check(name, batch)
        self._still = closure.still(borrow=True)
        place = {id(p): i for i, p in enumerate(closure.params)}
        self._where = [place.get(id(p)) for p in params]

    def look(self, parts: Sequence[Tensor]) -> Outlook:
        """The residuals at a point, evaluated once; derivatives follow if they are asked for."""
        leaves = list(leaves_of(Vector(parts), borrow=False))
        theta = [leaf.detach() for leaf in self._still.params]
        for i, leaf in zip(self._where, leaves, strict=True):
            if i is not None:
                theta[i] = leaf
        pieces = [_Piece(batch, theta, leaves) for batch in self._still.batches]
        summed = self._still.summed or len(pieces) == 1
        total = 1.0 if summed else sum(piece.weight for piece in pieces) or 1.0
        shares = [1.0 if len(pieces) == 1 else piece.weight / total for piece in pieces]
        return Outlook(pieces, shares)


@final
class Outlook:
    """Residuals at one point, and their derivatives there.

    Args:
        pieces: One for each batch.
        shares: The weight of each in the sum.
    """

    def __init__(self, pieces: Sequence[_Piece], shares: Sequence[float]) -> None:
        self._pieces = pieces
        self._factors = [
            math.sqrt(share) * piece.factor for share, piece in zip(shares, pieces, strict=True)
        ]
        self._sizes = [piece.tangents.outputs.numel() for piece in pieces]
        self.residuals: Tensor = torch.cat(
            [p.off() * factor for p, factor in zip(pieces, self._factors, strict=True)]
        )

    def jacobian(self) -> Tensor:
        """J, of shape (residuals, parameters)."""
        pairs = zip(self._pieces, self._factors, strict=True)
        return torch.cat([piece.jacobian() * factor for piece, factor in pairs])

    def forward(self, v: Sequence[Tensor]) -> Tensor:
        """J v, flat; v in parts like the parameters."""
        pairs = zip(self._pieces, self._factors, strict=True)
        return torch.cat([piece.forward(v) * factor for piece, factor in pairs])

    def adjoint(self, u: Tensor) -> list[Tensor]:
        """J'u in parts like the parameters."""
        pieces = zip(self._pieces, self._factors, u.split(self._sizes), strict=True)
        each = [piece.adjoint(part * factor) for piece, factor, part in pieces]
        return [functools.reduce(torch.add, parts) for parts in zip(*each, strict=True)]


@final
class _Piece:
    """One batch at one point, with the graph of its outputs."""

    def __init__(self, batch: Closure, theta: list[Tensor], leaves: list[Tensor]) -> None:
        self._ledger = batch.ledger
        program: Any = batch.program
        self._program = program
        self._theta, self._leaves = theta, leaves
        place = {id(leaf): i for i, leaf in enumerate(leaves)}
        held: dict[str, Any] = {}

        def function(parts: Sequence[Tensor]) -> Tensor:
            full = [parts[place[id(p)]] if id(p) in place else p for p in theta]
            outputs, targets = program.outputs(full)
            held.setdefault("targets", targets)
            return outputs

        with self._ledger.charge(forward=1):
            self.tangents = Tangents(function, leaves)
        outputs, self._targets = self.tangents.outputs, held["targets"]
        self.weight = float(program.weigh((outputs, self._targets)))
        self.factor = 1.0
        if self._targets is not None and outputs.shape != self._targets.shape:
            raise ValueError(
                "Residuals of a squared error: outputs and targets must have the same shape, got "
                f"{tuple(outputs.shape)} and {tuple(self._targets.shape)}."
            )
        loss_fn = batch.loss_fn
        if isinstance(loss_fn, SquaredError):
            entries = outputs.numel() if loss_fn.reduction == "mean" else 1
            self.factor = math.sqrt(2.0 / max(entries, 1))

    def off(self) -> Tensor:
        """Outputs minus targets, flat."""
        outputs = self.tangents.outputs.detach()
        return (outputs if self._targets is None else outputs - self._targets).reshape(-1)

    def jacobian(self) -> Tensor:
        outputs = self.tangents.outputs
        if isinstance(self._program, ModelProgram):
            place = {id(p): i for i, p in enumerate(self._theta)}
            kept = [place.get(id(leaf)) for leaf in self._leaves]
            used = [i for i in kept if i is not None]
            with self._ledger.charge(backward=outputs.numel() // max(1, len(outputs))):
                made = jacobian_by_samples(self._program, self._theta, used, outputs)
            if made is not None:
                return self._with_unused(made, kept)
        m, n = outputs.numel(), sum(leaf.numel() for leaf in self._leaves)
        with self._ledger.charge(backward=min(m, n)):
            return dense_jacobian(self.tangents, self._leaves)

    def _with_unused(self, made: Tensor, kept: Sequence[int | None]) -> Tensor:
        """Zeros for parameters that the closure does not have."""
        if None not in kept:
            return made
        pairs = list(zip(kept, self._leaves, strict=True))
        parts = iter(made.split([p.numel() for i, p in pairs if i is not None], 1))
        zeros = (made.new_zeros(len(made), p.numel()) for i, p in pairs)
        both = zip(kept, zeros, strict=True)
        return torch.cat([zero if i is None else next(parts) for i, zero in both], 1)

    def forward(self, v: Sequence[Tensor]) -> Tensor:
        with self._ledger.charge(forward=2):
            return self.tangents.forward(list(v)).detach().reshape(-1)

    def adjoint(self, u: Tensor) -> list[Tensor]:
        with self._ledger.charge(backward=1):
            return self.tangents.backward(u.view(self.tangents.outputs.shape))


def _check(name: str, batch: Closure) -> None:
    known = isinstance(batch.program, ResidualProgram) or isinstance(batch.loss_fn, SquaredError)
    if not known:
        kind = "a plain function" if batch.loss_fn is None else type(batch.loss_fn).__name__
        raise TypeError(
            f"{name}.step(closure): this method needs residuals, and the objective is {kind}. Use "
            "torch.nn.functional.mse_loss as the loss, or Objective.residuals(fn)."
        )
