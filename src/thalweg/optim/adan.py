"""Adan: Adam on Nesterov's gradient, estimated from the difference of two gradients."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack, final

from torch import Tensor

from thalweg.errors import FRACTION, NON_NEGATIVE, Domain
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group, Quotient


__all__ = ["Adan"]


def _betas(value: Any) -> bool:
    first, difference, second = value
    return all(FRACTION.contains(beta) for beta in (first, difference, second))


@final
class Adan(AbstractFirstOrder):
    r"""Adaptive Nesterov momentum.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2)\,(g_t - g_{t-1}), \\
        n_t &= \beta_3 n_{t-1} + (1 - \beta_3)\,\bigl(g_t + \beta_2 (g_t - g_{t-1})\bigr)^2, \\
        \theta_{t+1} &= \frac{1}{1 + \eta\lambda} \left(\theta_t - \eta\,
            \frac{\hat m_t + \beta_2 \hat v_t}{\sqrt{\hat n_t} + \epsilon}\right)

    with :math:`g_0 = g_1`; hats divide by :math:`1 - \beta^t`. Differences save evaluating at
    Nesterov's look-ahead point. As in the authors' code, :math:`\beta` are memories (the paper's
    are one minus these), the start is corrected and :math:`\epsilon` is outside the root. The
    paper's restart is ``optimizer.state.clear()``.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate :math:`\eta`, >= 0; default 1e-3. It may be 5 to 10 times Adam's.
        betas: :math:`(\beta_1, \beta_2, \beta_3)`, each in [0, 1); default (0.98, 0.92, 0.99).
        eps: :math:`\epsilon` >= 0; default 1e-8, as all defaults here the authors' code's.
        weight_decay: :math:`\lambda` >= 0, a proximal step as above; an L2 penalty with
            ``decoupled_weight_decay=False``. Default 0; the paper trains with 0.02.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Adan([p], lr=0.1, weight_decay=2.0)
        >>> p.grad = torch.tensor([5.0])
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.75

    References:
        Xie, Zhou, Li, Lin and Yan, Adan: adaptive Nesterov momentum algorithm for faster
        optimizing deep models, 2022.
    """

    reference: ClassVar[Reference] = Reference(
        "Xie et al.", "Adan: adaptive Nesterov momentum for faster optimizing deep models", 2022
    )
    counts: ClassVar[bool] = True
    slots: ClassVar[tuple[Slot, ...]] = (
        Slot("exp_avg"),
        Slot("exp_avg_diff"),
        Slot("exp_avg_sq"),
        Slot("previous_grad"),
    )
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 1e-1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "betas": Domain("three numbers, each in [0, 1)", _betas),
        "eps": NON_NEGATIVE,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": True,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        beta1, beta2, beta3 = group["betas"]
        bias1, bias2, bias3 = (1 - beta**state.step for beta in group["betas"])
        if state.fresh:
            state.previous_grad.copy_(grad)
        change = grad.add(state.previous_grad, alpha=-1)
        state.previous_grad.copy_(grad)
        mean = state.exp_avg.lerp_(grad, 1 - beta1)  # m
        difference = state.exp_avg_diff.lerp_(change, 1 - beta2)  # v
        ahead = change.mul_(beta2).add_(grad)
        second = state.exp_avg_sq.mul_(beta3).addcmul_(ahead, ahead, value=1 - beta3)  # n
        root = second.sqrt().mul_(bias1 / math.sqrt(bias3)).add_(bias1 * group["eps"])
        direction = Quotient(mean.add(difference, alpha=beta2 * bias1 / bias2), root)
        if not (group["decoupled_weight_decay"] and group["weight_decay"]):
            return direction
        # The lifecycle shrinks by 1 - lr decay; this makes of it the division by 1 + lr decay.
        rate, decay = group["lr"], group["weight_decay"]
        rate = float(rate) if isinstance(rate, Tensor) else rate
        return direction.value().add_(param, alpha=-rate * decay**2).div_(1 + rate * decay)
