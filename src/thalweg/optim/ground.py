"""The function under an optimizer that asks for more than one gradient a step.

A deterministic method tries points, asks for values, gradients and products there, and keeps the
best. :class:`Ground` is what it asks: the function over one flat vector of all its parameters,
whichever closure is behind it, with every evaluation counted. The live parameters move only in
:meth:`Ground.accept`, so an exception or Ctrl-C in the middle of a search leaves them where the
optimizer last stood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from thalweg.optim.products import Guarded
from thalweg.optim.sight import Counts, Sight, Trial, sight_of, write
from thalweg.vectors import Vector


__all__ = ["Counts", "Ground", "Sight", "Trial", "sight_of"]

Product = Callable[[Tensor], Tensor]


@final
class Ground:
    r"""A function :math:`f(x)` of one flat vector, and the point where the optimizer stands on it.

    Trial values may be NaN or infinite: that is for the search to judge. Only the value at the
    standing point is finite for sure.

    Args:
        closure: What is minimised: one of ours, or any that zeroes gradients, calls backward and
            returns the loss.
        params: The parameters that move, in order.
        loss: What the closure returned here, having left the gradient in ``.grad``.
        product: v -> H v at the standing point, over ``params``, where it was asked for.
        counts: Where evaluations are counted.
        name: The method, for warnings.

    Raises:
        TypeError: If the closure returned no number.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> from thalweg.objective import Objective
        >>> closure = Objective.of(lambda x: (x**2).sum()).closure(p)
        >>> ground = Ground(closure, [p], closure(), counts=Counts())
        >>> ground.fun, ground.grad
        (25.0, tensor([6., 8.]))
        >>> ground.value(torch.zeros(2)), p.tolist()
        (0.0, [3.0, 4.0])
    """

    def __init__(
        self,
        closure: Callable[[], Any],
        params: Sequence[Tensor],
        loss: Any,
        product: Callable[[Vector], Vector] | None = None,
        *,
        counts: Counts,
        name: str = "Ground",
    ) -> None:
        self.name = name
        self.closure = closure
        self.params = list(params)
        self.loss = loss
        self.counts = counts
        self.fun = _number(loss)
        self._sight = sight_of(closure, self.params)
        self._product = product
        self._dtype = _common_type(self.params)
        self.x: Tensor = self._join(self.params)
        self.grad: Tensor = self._join(_gradients(self.params))
        self._known = True  # whether fun and grad are those of x
        self._versions = [p._version for p in self.params]

    # ---- asking ---------------------------------------------------------------------------
    def value(self, x: Tensor) -> float:
        """F at ``x``, flat; NaN or infinity where f is."""
        self.counts.nfev += 1
        return self._sight.value(self.split(x))

    def value_and_grad(self, x: Tensor) -> tuple[float, Tensor]:
        """F and its gradient at ``x``, both flat."""
        self.counts.nfev += 1
        self.counts.ngev += 1
        value, grads = self._sight.value_and_grad(self.split(x))
        return value, self._join(grads)

    def product(self, v: Tensor) -> Tensor:
        """The Hessian at the standing point times ``v``, flat.

        Raises:
            RuntimeError: If the method did not ask for products (``needs``), or has moved since.
        """
        if self._product is None:
            raise RuntimeError("Ground.product: no curvature was asked for at this point.")
        self.counts.nhvp += 1
        return self._join(self._product(Vector(self.split(v))))

    def hessian(self) -> Tensor:
        """The dense Hessian at the standing point, symmetrised, by n products.

        They are taken many in one pass where the closure is ours and torch can do that.
        """
        n = self.x.numel()
        eye = torch.eye(n, dtype=self.x.dtype, device=self.x.device)
        if not n:
            return eye
        if isinstance(self._product, Guarded):
            self.counts.nhvp += n
            parts = self._product.many(Vector(self.split(eye, n)))
            columns = torch.cat([part.reshape(n, -1).to(self._dtype) for part in parts], 1)
        else:
            columns = torch.stack([self.product(row) for row in eye])
        return (columns + columns.T) / 2

    def attempt(self, x: Tensor) -> Trial:
        """The function at ``x``, flat, evaluated once: derivatives follow if they are asked for."""
        self.counts.nfev += 1
        return Trial(x, self._sight.attempt(self.name, self.split(x)), self._join, self.counts)

    # ---- moving ---------------------------------------------------------------------------
    def accept(self, x: Tensor, fun: float | None = None, grad: Tensor | None = None) -> None:
        """Stand at ``x`` from now on: the live parameters move there, ``.grad`` with them.

        Args:
            x: The point, flat.
            fun: The value there; None where it is not known.
            grad: The gradient there; None leaves ``.grad`` None, for the next step to find.
        """
        self._product = None  # the graph behind it must not outlive the point
        here = [p.detach().clone() for p in self.params]
        try:
            write(self.params, self.split(x))
        except BaseException:
            write(self.params, here)
            raise
        self.x = x
        self.fun = math.nan if fun is None else fun
        self.loss = torch.tensor(self.fun, dtype=x.dtype, device=x.device)
        parts = [None] * len(self.params) if grad is None else self.split(grad)
        for p, part in zip(self.params, parts, strict=True):
            p.grad = None if part is None else part.clone()
        self._known = fun is not None and grad is not None
        self._versions = [p._version for p in self.params]
        if grad is not None:
            self.grad = grad

    def take(self, trial: Trial) -> None:
        """Stand at a point that was tried, with all that is known of it."""
        self.accept(trial.x, trial.fun, trial.grad())
        self._product = trial.product

    @property
    def curved(self) -> bool:
        """Whether there are products with the Hessian at the standing point."""
        return self._product is not None

    def stands(self, closure: Callable[[], Any], params: Sequence[Tensor]) -> bool:
        """Whether value and gradient here are known of this closure and nobody moved since."""
        same = len(params) == len(self.params) and all(
            p is q and p._version == version
            for p, q, version in zip(params, self.params, self._versions, strict=False)
        )
        return self._known and closure is self.closure and same

    def split(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """A flat vector as parts of the parameters' shapes and types; or ``count`` rows of them."""
        more = () if count is None else (count,)
        pieces = x.split([p.numel() for p in self.params], -1)
        return [
            piece.reshape((*more, *p.shape)).to(p.dtype)
            for piece, p in zip(pieces, self.params, strict=True)
        ]

    def _join(self, parts: Sequence[Tensor] | Vector) -> Tensor:
        flat = [part.detach().reshape(-1).to(self._dtype) for part in parts]
        if len(flat) == 1:
            return flat[0].clone()
        return torch.cat(flat) if flat else torch.zeros(0, dtype=self._dtype)


def _number(loss: Any) -> float:
    if loss is None:
        raise TypeError("step(closure): the closure must return the loss; it returned None.")
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _gradients(params: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in params]


def _common_type(params: Sequence[Tensor]) -> torch.dtype:
    """The widest type; at least single precision, in which steps are computed."""
    widest = torch.float32 if params else torch.get_default_dtype()
    for p in params:
        widest = torch.promote_types(widest, p.dtype)
    return widest
