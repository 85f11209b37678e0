"""Adam: running mean over running root mean square, both corrected for their start."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack, final

from thalweg.errors import FLAG, FRACTION, NON_NEGATIVE, Domain, pair_of
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group, Quotient


__all__ = ["Adam", "adam_direction"]

SLOTS = (Slot("exp_avg"), Slot("exp_avg_sq"), Slot("max_exp_avg_sq", when="amsgrad"))
HYPERPARAMETERS = {"betas": pair_of(FRACTION), "eps": NON_NEGATIVE, "amsgrad": FLAG}


def adam_direction(grad: Any, state: Any, group: Group) -> Any:
    """The direction of Adam's step; AdamW decays weights beside it."""
    beta1, beta2 = group["betas"]
    mean = state.exp_avg.lerp_(grad, 1 - beta1)  # m
    second = state.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)  # v
    if group["amsgrad"]:
        second = state.max_exp_avg_sq.clamp_min_(second)
    first_bias, second_bias = 1 - beta1**state.step, 1 - beta2**state.step
    # With c the root of v's correction, m / (sqrt(v) / c + eps) = c m / (sqrt(v) + c eps): both
    # corrections are a factor of the step, which costs no pass over the entries.
    correction = math.sqrt(second_bias)
    root = second.sqrt().add_(correction * group["eps"])
    return Quotient(mean, root, correction / first_bias)


@final
class Adam(AbstractFirstOrder):
    r"""Adaptive moment estimation.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, &
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2)\, g_t^2, \\
        \theta_{t+1} &= \theta_t - \eta\,
            \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} .

    The count t is each parameter's own: one that is unfrozen late starts with its bias corrected.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate :math:`\eta`, >= 0; default 1e-3, the paper's.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1); default (0.9, 0.999), the paper's.
        eps: :math:`\epsilon` >= 0; default 1e-8, the paper's.
        weight_decay: L2 penalty, >= 0 (decoupled: see :class:`AdamW`).
        amsgrad: Whether to divide by the largest :math:`v` so far.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Adam([p], lr=0.1)
        >>> p.grad = torch.tensor([5.0])
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.9

    References:
        Kingma and Ba, Adam: a method for stochastic optimization, 2015; Reddi, Kale and Kumar, On
        the convergence of Adam and beyond, 2018 (AMSGrad).
    """

    reference: ClassVar[Reference] = Reference(
        "Kingma, Ba", "Adam: a method for stochastic optimization", 2015
    )
    counts: ClassVar[bool] = True
    slots: ClassVar[tuple[Slot, ...]] = SLOTS
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 1e-1)}
    hyperparameters: ClassVar[dict[str, Domain]] = HYPERPARAMETERS

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        return adam_direction(grad, state, group)
