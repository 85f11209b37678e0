"""Rprop: steps whose lengths follow the signs of the gradient alone."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from torch import Tensor

from thalweg.errors import Domain
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group


__all__ = ["Rprop"]


def _etas(value: Any) -> bool:
    shrink, grow = value
    return 0 < float(shrink) < 1 < float(grow) < float("inf")


def _step_sizes(value: Any) -> bool:
    low, high = value
    return 0 <= float(low) <= float(high) < float("inf")


@final
class Rprop(AbstractFirstOrder):
    r"""Resilient backpropagation: each weight has a step length of its own.

    .. math::
        \Delta_t = \begin{cases}
            \min(\eta^+ \Delta_{t-1},\, \Delta_{max}) & g_{t-1}\, g_t > 0 \\
            \max(\eta^- \Delta_{t-1},\, \Delta_{min}) & g_{t-1}\, g_t < 0 \\
            \Delta_{t-1} & \text{otherwise} \end{cases}, \qquad
        \theta_{t+1} = \theta_t - \Delta_t \operatorname{sign}(g_t)

    entry by entry. Where the sign turned, the gradient counts as zero: the weight rests for a step
    and its length stays in the next, as in torch (the variant without backtracking). The gradient's
    size is never used, so that signs must be right: the rule is for full batches. ``lr`` is the
    first step's length and nothing else: a schedule of it has no effect, but that 0 holds still.

    Args:
        params: Parameters, groups or named parameters.
        lr: The first length :math:`\Delta_0`, >= 0; default 1e-2, torch's (the paper has 0.1).
        etas: :math:`(\eta^-, \eta^+)`, 0 < shrink < 1 < grow; default (0.5, 1.2), the paper's.
        step_sizes: :math:`(\Delta_{min}, \Delta_{max})`; default (1e-6, 50), the paper's.
        weight_decay: L2 penalty, >= 0.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Rprop([p], lr=0.1)
        >>> for gradient in (5.0, 0.01):
        ...     p.grad = torch.tensor([gradient])
        ...     optimizer.step()
        >>> round(p.item(), 4)
        0.78

    References:
        Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the
        RPROP algorithm, 1993.
    """

    reference: ClassVar[Reference] = Reference(
        "Riedmiller, Braun",
        "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
        1993,
    )
    counts: ClassVar[bool] = True  # torch's checkpoints have the count; the rule does not use it
    slots: ClassVar[tuple[Slot, ...]] = (Slot("prev"), Slot("step_size"))
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-5, 1e-1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "etas": Domain("a pair shrink, grow with 0 < shrink < 1 < grow", _etas),
        "step_sizes": Domain("a pair low, high with 0 <= low <= high", _step_sizes),
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "etas": etas, "step_sizes": step_sizes, "weight_decay": weight_decay}
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        shrink, grow = group["etas"]
        low, high = group["step_sizes"]
        size, last = state.step_size, state.prev
        if state.fresh:
            size.zero_().add_(float(group["lr"]))
        agreement = last.sign().mul_(grad.sign())
        turned = agreement.abs().sub_(agreement).mul_(0.5)  # 1 where the sign turned, else 0
        size.addcmul_(size, turned, value=shrink - 1)
        size.addcmul_(size, agreement.clamp_min_(0), value=grow - 1)
        size.clamp_min_(low).clamp_max_(high)
        last.copy_(grad).addcmul_(grad, turned, value=-1)
        # The lifecycle multiplies by lr, of which these steps do not depend; at 0 they rest.
        rate = group["lr"]
        rate = float(rate) if isinstance(rate, Tensor) else rate
        return last.sign().mul_(size).div_(rate + 1e-30)
