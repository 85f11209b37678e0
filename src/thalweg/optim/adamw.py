"""AdamW: Adam with the weights' decay beside the step instead of in the gradient."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from thalweg.errors import Domain
from thalweg.optim.adam import HYPERPARAMETERS, SLOTS, adam_direction
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group


__all__ = ["AdamW"]


@final
class AdamW(AbstractFirstOrder):
    r"""Adam with decoupled weight decay.

    .. math::
        \theta_{t+1} = (1 - \eta\lambda)\,\theta_t - \eta\,
            \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    with :math:`m_t, v_t` as in :class:`~thalweg.optim.Adam` and the decay :math:`\lambda`
    (``weight_decay``) scaled by the learning rate, as torch does.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate :math:`\eta`, >= 0; default 1e-3.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1); default (0.9, 0.999).
        eps: :math:`\epsilon` >= 0; default 1e-8.
        weight_decay: :math:`\lambda` >= 0; default 1e-2, torch's.
        amsgrad: Whether to divide by the largest :math:`v` so far.
        **common: ``l1``, ``maximize``, ``foreach`` (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = AdamW([p], lr=0.1, weight_decay=0.5)
        >>> p.grad = torch.tensor([5.0])
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.85

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
    """

    reference: ClassVar[Reference] = Reference(
        "Loshchilov, Hutter", "Decoupled weight decay regularization", 2019
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
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "decoupled_weight_decay": True,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        return adam_direction(grad, state, group)
