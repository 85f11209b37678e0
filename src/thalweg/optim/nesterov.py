"""Nesterov's accelerated gradient with the gradient really taken at the look-ahead point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack, final

import torch

from thalweg.errors import FRACTION, Domain
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Needs, Range, Reference, Slot
from thalweg.optim.seams import Group, Point


__all__ = ["Nesterov"]


@final
class Nesterov(AbstractFirstOrder):
    r"""Look ahead along the momentum, take the gradient there, then correct.

    .. math::
        g_t &= \nabla L(\theta_t - \eta\,\mu\,v_{t-1}), \\
        v_t &= \mu\, v_{t-1} + g_t, \qquad \theta_{t+1} = \theta_t - \eta\, v_t .

    At a constant learning rate this is Nesterov's :math:`y_t = x_t + \mu(x_t - x_{t-1})`,
    :math:`x_{t+1} = y_t - \eta \nabla L(y_t)`. The loss that ``step`` returns is the one at the
    look-ahead point, where the gradient is taken. torch's form (``SGD(nesterov=True)``) moves the
    look-ahead point itself and evaluates there.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate :math:`\eta`, >= 0; default 1e-3, as SGD's.
        momentum: :math:`\mu` in [0, 1); default 0.9.
        weight_decay: L2 penalty, >= 0, on :math:`\theta_t`.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Nesterov([p], lr=0.1, momentum=0.5)
        >>> from thalweg.objective import Objective
        >>> closure = Objective.of(lambda x: (x**2).sum()).closure(p)
        >>> [round(optimizer.step(closure).item(), 4) for _ in range(3)]
        [1.0, 0.49, 0.1936]

    References:
        Nesterov, A method for solving the convex programming problem with convergence rate
        O(1/k^2), 1983; Sutskever et al., On the importance of initialization and momentum in deep
        learning, 2013.
    """

    needs: ClassVar[Needs] = Needs.LOSS
    reference: ClassVar[Reference] = Reference(
        "Nesterov",
        "A method for solving the convex programming problem with convergence rate O(1/k^2)",
        1983,
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("momentum_buffer", when="momentum"),)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 1.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {"momentum": FRACTION}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, own, common)

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Call the closure at the look-ahead point, and come back also when it raises."""
        moved: list[tuple[torch.Tensor, torch.Tensor]] = []
        for group in self.param_groups:
            for p in group["params"]:
                velocity = self.state[p].get("momentum_buffer") if p in self.state else None
                if velocity is not None and p.requires_grad:
                    moved.append((p, p.clone()))
                    p.sub_(velocity, alpha=float(group["lr"]) * group["momentum"])
        try:
            loss = self.call(closure)
        finally:
            for p, start in moved:
                p.copy_(start)
        return Point(loss, closure, self.param_groups)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        if not group["momentum"]:
            return grad
        return state.momentum_buffer.mul_(group["momentum"]).add_(grad)
