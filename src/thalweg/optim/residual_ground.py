r"""The function under a least-squares method: residuals, their Jacobian, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from thalweg.optim.ground import Counts, Ground
from thalweg.optim.residual_sight import ResidualSight
from thalweg.optim.residual_view import View


__all__ = ["ResidualGround"]


@final
class ResidualGround:
    """Where a least-squares method stands, and what it sees from there.

    It has what a :class:`~thalweg.optim.ground.Ground` has: the point, its value and gradient, the
    counts. Live parameters move in :meth:`take` alone.

    Args:
        name: The method, for messages.
        closure: One that tells its residuals.
        params: The parameters that move, in order.
        robust: The loss and its scale.
        counts: Where evaluations are counted.
        check: Refuses a loss that is not finite, by raising.

    Raises:
        TypeError: If there are no residuals to see.
    """

    def __init__(
        self,
        name: str,
        closure: Callable[[], Any],
        params: Sequence[Tensor],
        robust: tuple[str, float],
        counts: Counts,
        check: Callable[[Callable[[], float]], Any],
    ) -> None:
        self._sight = ResidualSight(name, closure, params)
        self._robust = robust
        self.counts = counts
        grads = [p.grad for p in params]
        for p in params:
            p.grad = None
        self._ground = Ground(closure, params, 0.0, counts=counts)
        try:
            self.view = self.look(self._ground.x)
            check(lambda: self.view.fun)
        except BaseException:
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            raise
        self._ground.fun = self.view.fun
        self._ground.loss = torch.tensor(self.view.fun, dtype=self.x.dtype, device=self.x.device)
        self._known = False

    # ---- what a ground has ------------------------------------------------------------------
    @property
    def x(self) -> Tensor:
        """The point, flat."""
        return self._ground.x

    @property
    def fun(self) -> float:
        """The cost there."""
        return self._ground.fun

    @property
    def loss(self) -> Any:
        """The cost as a tensor: what a step returns."""
        return self._ground.loss

    @property
    def grad(self) -> Tensor:
        """The gradient there, flat; ``.grad`` of the parameters holds it too."""
        if not self._known:
            gradient = self.view.gradient()
            self._ground.accept(self.x, self.fun, gradient)
            self._known = True
        return self._ground.grad

    def stands(self, closure: Callable[[], Any], params: Sequence[Tensor]) -> bool:
        """Whether all is known here of this closure and nobody moved since."""
        return self._known and self._ground.stands(closure, params)

    def split(self, x: Tensor) -> list[Tensor]:
        """A flat vector as parts of the parameters' shapes."""
        return self._ground.split(x)

    # ---- looking and moving -----------------------------------------------------------------
    def look(self, x: Tensor) -> View:
        """The residuals at ``x``, flat, evaluated once."""
        self.counts.nfev += 1
        return View(x, self._sight.look(self.split(x)), self._robust, self.counts)

    def take(self, view: View) -> None:
        """Stand at a point that was looked at, with all that is known of it."""
        self._ground.accept(view.x, view.fun, view.gradient())
        self.view, self._known = view, True

    def rounding(self, view: View, magnitudes: Tensor) -> float:
        r"""How far the cost may be off by rounding, to first order.

        A residual is off by :math:`\epsilon(|r_i| + \sum_j |J_{ij}||x_j|)` at least: a rounding of
        itself, and what a rounding of each parameter does to it.

        Args:
            view: The point.
            magnitudes: :math:`\sum_j |J_{ij}||x_j|`, or what stands for it.
        """
        r = view.residuals.double().abs()
        eps = torch.finfo(self.x.dtype).eps
        return eps * float(r @ (r + magnitudes.double()))
