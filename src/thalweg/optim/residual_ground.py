r"""The function under a least-squares method: residuals, their Jacobian, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from thalweg.numerics.robust import robust_cost, robust_rows
from thalweg.optim.ground import Counts, Ground
from thalweg.optim.residual_sight import Outlook, ResidualSight


__all__ = ["ResidualGround", "View"]


@final
class View:
    r"""Residuals and cost at a point, and the linear model there.

    With a robust loss the cost is :math:`\tfrac12 \sum c^2\rho(r_i^2/c^2)`, and ``residuals`` and
    ``jacobian`` are those of the sum of squares that stands in for it.

    Args:
        x: The point, flat.
        outlook: The residuals there.
        robust: The loss and its scale.
        counts: Where evaluations are counted.
    """

    def __init__(
        self, x: Tensor, outlook: Outlook, robust: tuple[str, float], counts: Counts
    ) -> None:
        self.x = x
        self.plain: Tensor = outlook.residuals
        self.fun = robust_cost(self.plain, *robust) if self.plain.numel() else 0.0
        self._outlook, self._robust, self._counts = outlook, robust, counts
        self._jacobian: Tensor | None = None
        self._rows: Tensor | None = None
        self.residuals: Tensor = self.plain
        if robust[0] != "linear" and math.isfinite(self.fun):
            self.residuals, self._rows = robust_rows(self.plain, *robust)

    @property
    def finite(self) -> bool:
        """Whether the cost is a number."""
        return math.isfinite(self.fun)

    def plain_jacobian(self) -> Tensor:
        """J of the residuals as they are, once."""
        if self._jacobian is None:
            self._counts.ngev += 1
            self._jacobian = self._outlook.jacobian().to(self.x.dtype)
        return self._jacobian

    def jacobian(self) -> Tensor:
        """J of the residuals of the sum of squares."""
        made = self.plain_jacobian()
        return made if self._rows is None else made * self._rows[:, None].to(made)

    def weighted(self, u: Tensor) -> Tensor:
        """A vector of the residuals' space as the sum of squares has it: its rows rescaled."""
        return u if self._rows is None else u * self._rows.to(u)

    def gradient(self) -> Tensor:
        """The gradient of the cost, flat."""
        if self._jacobian is not None:
            return self.jacobian().T @ self.residuals.to(self.x)
        return self.adjoint(self.residuals)

    def forward(self, v: Sequence[Tensor]) -> Tensor:
        """J v, flat."""
        self._counts.nhvp += 1
        made = self._outlook.forward(v)
        return made if self._rows is None else made * self._rows

    def adjoint(self, u: Tensor) -> Tensor:
        """J'u, flat."""
        self._counts.nhvp += 1
        parts = self._outlook.adjoint(u if self._rows is None else u * self._rows)
        return torch.cat([part.reshape(-1).to(self.x.dtype) for part in parts])


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
