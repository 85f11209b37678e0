"""Stochastic gradient descent, with momentum, as torch has it."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from thalweg.errors import FLAG, FRACTION, PROBABILITY, Domain, bad_argument
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group


__all__ = ["SGD"]


@final
class SGD(AbstractFirstOrder):
    r"""Gradient descent on mini-batches, with heavy-ball momentum and torch's Nesterov form.

    .. math::
        v_t &= \mu\, v_{t-1} + (1 - \tau)\, g_t, \qquad v_1 = g_1, \\
        \theta_{t+1} &= \theta_t - \eta\, v_t

    with the learning rate :math:`\eta` (``lr``), momentum :math:`\mu` and dampening :math:`\tau`.
    ``nesterov=True`` steps along :math:`g_t + \mu v_t`, which needs no second evaluation; for the
    gradient really taken at the look-ahead point see :class:`~thalweg.optim.Nesterov`.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate, >= 0; default 1e-3, torch's.
        momentum: In [0, 1); 0 keeps no state.
        dampening: In [0, 1].
        weight_decay: L2 penalty, >= 0.
        nesterov: Whether to step along the look-ahead direction; needs momentum and no dampening.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = SGD([p], lr=0.1)
        >>> p.grad = torch.tensor([2.0])
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.8

    References:
        Robbins and Monro, A stochastic approximation method, 1951; Polyak, Some methods of speeding
        up the convergence of iteration methods, 1964; Sutskever et al., On the importance of
        initialization and momentum in deep learning, 2013.
    """

    reference: ClassVar[Reference] = Reference(
        "Robbins, Monro; Polyak (momentum)", "A stochastic approximation method", 1951
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("momentum_buffer", when="momentum"),)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 10.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "momentum": FRACTION,
        "dampening": PROBABILITY,
        "nesterov": FLAG,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        if nesterov and (not momentum or dampening):
            allowed = "False, or used with momentum > 0 and dampening 0"
            raise bad_argument("SGD", "nesterov", nesterov, allowed)
        own = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        momentum = group["momentum"]
        if not momentum:
            return grad
        velocity = state.momentum_buffer
        if state.fresh:
            velocity.copy_(grad)
        else:
            velocity.mul_(momentum).add_(grad, alpha=1 - group["dampening"])
        return grad.add(velocity, alpha=momentum) if group["nesterov"] else velocity
