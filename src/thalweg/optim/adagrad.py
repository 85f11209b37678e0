"""Adagrad: each coordinate's rate shrinks with the gradients it has seen."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from thalweg.errors import NON_NEGATIVE, Domain
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group, Quotient


__all__ = ["Adagrad"]


@final
class Adagrad(AbstractFirstOrder):
    r"""Divide by the root of the sum of all squared gradients so far.

    .. math::
        s_t = s_{t-1} + g_t^2, \qquad
        \theta_{t+1} = \theta_t -
            \frac{\eta}{1 + (t - 1)\,\delta}\,\frac{g_t}{\sqrt{s_t} + \epsilon}

    with the learning rate :math:`\eta` (``lr``), its decay :math:`\delta` (``lr_decay``) and
    :math:`s_0` (``initial_accumulator_value``).

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate, >= 0; default 1e-2, torch's.
        lr_decay: >= 0.
        weight_decay: L2 penalty, >= 0.
        initial_accumulator_value: >= 0.
        eps: Added to the root, >= 0; default 1e-10, torch's.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Adagrad([p], lr=0.5)
        >>> p.grad = torch.tensor([8.0])
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.5

    References:
        Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic
        optimization, 2011.
    """

    reference: ClassVar[Reference] = Reference(
        "Duchi, Hazan, Singer",
        "Adaptive subgradient methods for online learning and stochastic optimization",
        2011,
    )
    counts: ClassVar[bool] = True
    slots: ClassVar[tuple[Slot, ...]] = (Slot("sum", fill="initial_accumulator_value"),)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 1.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "lr_decay": NON_NEGATIVE,
        "initial_accumulator_value": NON_NEGATIVE,
        "eps": NON_NEGATIVE,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        state.sum.addcmul_(grad, grad)
        root = state.sum.sqrt().add_(group["eps"])
        if group["lr_decay"]:
            root.mul_(1 + (state.step - 1) * group["lr_decay"])
        return Quotient(grad, root)
