"""RMSprop: divide by a running root mean square of the gradient."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from thalweg.errors import FLAG, FRACTION, NON_NEGATIVE, PROBABILITY, Domain
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group, Quotient


__all__ = ["RMSprop"]


@final
class RMSprop(AbstractFirstOrder):
    r"""Divide by the root of a running average of squared gradients.

    .. math::
        s_t = \alpha\, s_{t-1} + (1 - \alpha)\, g_t^2, \qquad
        \theta_{t+1} = \theta_t - \eta\, \frac{g_t}{\sqrt{s_t} + \epsilon} .

    ``eps_inside=True`` divides by :math:`\sqrt{s_t + \epsilon}`, as the formula is often printed;
    outside is what torch does. ``centered`` subtracts the square of the average gradient from
    :math:`s_t`; ``momentum`` accumulates the divided gradients as SGD does plain ones.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate :math:`\eta`, >= 0; default 1e-2, torch's.
        alpha: The average's memory, in [0, 1]; default 0.99.
        eps: :math:`\epsilon` >= 0; default 1e-8.
        weight_decay: L2 penalty, >= 0.
        momentum: In [0, 1); 0 keeps no velocity.
        centered: Whether to divide by the standard deviation.
        eps_inside: Whether :math:`\epsilon` stands inside the root.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = RMSprop([p], lr=0.01, alpha=0.75)
        >>> p.grad = torch.tensor([8.0])
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.98

    References:
        Tieleman and Hinton, Lecture 6.5: divide the gradient by a running average of its recent
        magnitude, 2012; Graves, Generating sequences with recurrent neural networks, 2013
        (centred).
    """

    reference: ClassVar[Reference] = Reference(
        "Tieleman, Hinton",
        "Lecture 6.5: divide the gradient by a running average of its recent magnitude",
        2012,
    )
    counts: ClassVar[bool] = True
    slots: ClassVar[tuple[Slot, ...]] = (
        Slot("square_avg"),
        Slot("momentum_buffer", when="momentum"),
        Slot("grad_avg", when="centered"),
    )
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 1e-1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "alpha": PROBABILITY,
        "eps": NON_NEGATIVE,
        "momentum": FRACTION,
        "centered": FLAG,
        "eps_inside": FLAG,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        eps_inside: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "eps_inside": eps_inside,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        alpha, eps = group["alpha"], group["eps"]
        second = state.square_avg.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
        if group["centered"]:
            mean = state.grad_avg.lerp_(grad, 1 - alpha)
            # A constant gradient has variance zero, which rounding may put below it.
            second = second.addcmul(mean, mean, value=-1).clamp_min_(0)
        root = second.add(eps).sqrt_() if group["eps_inside"] else second.sqrt().add_(eps)
        if not group["momentum"]:
            return Quotient(grad, root)
        return state.momentum_buffer.mul_(group["momentum"]).addcdiv_(grad, root)
