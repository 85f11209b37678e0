"""Delta-bar-delta: a gain for each weight, raised by addition and cut by multiplication."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from thalweg.errors import FRACTION, Domain, one_of
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import Common, Range, Reference, Slot
from thalweg.optim.seams import Group


__all__ = ["DeltaBarDelta"]


def _changes(value: Any) -> bool:
    rise, cut = value
    return 0 <= float(rise) < float("inf") and 0 <= float(cut) <= 1


def _limits(value: Any) -> bool:
    low, high = value
    return 0 <= float(low) <= 1 <= float(high)


@final
class DeltaBarDelta(AbstractFirstOrder):
    r"""A gain for each weight, which grows while the gradient keeps its sign.

    With :math:`\bar\delta` an average of past gradients, each weight's gain c starts at 1 and

    .. math::
        c_t &= \begin{cases}
            c_{t-1} + \kappa & \bar\delta_{t-1}\, g_t > 0 \\
            (1 - \phi)\, c_{t-1} & \bar\delta_{t-1}\, g_t < 0 \\
            c_{t-1} & \text{otherwise} \end{cases}, \qquad
        \bar\delta_t = (1 - \vartheta)\, g_t + \vartheta\, \bar\delta_{t-1}, \\
        \theta_{t+1} &= \theta_t - \eta\, c_t\, g_t .

    Growth is linear and decay geometric, so that a gain falls quickly once its weight oscillates.
    Jacobs's rates are :math:`\epsilon = \eta c`, his :math:`\kappa` is :math:`\eta\kappa` here.
    With ``momentum`` the step is along :math:`v_t = \mu v_{t-1} + c_t g_t`. ``compare="velocity"``
    puts :math:`v_{t-1}` in the place of :math:`\bar\delta_{t-1}`, as Hinton's lecture proposes and
    t-SNE does (there: ``changes=(0.2, 0.2)``, ``limits=(0.01, inf)``); without momentum its sign is
    the last gradient's. Signs of small batches are noise: the rule is for full or large ones.

    Args:
        params: Parameters, groups or named parameters.
        lr: The learning rate :math:`\eta`, >= 0, of a weight whose gain is 1; default 1e-3, SGD's.
        changes: :math:`(\kappa, \phi)`: what is added, >= 0, and the fraction that is taken off, in
            [0, 1]; default (0.05, 0.05), Hinton's.
        theta: The average's memory :math:`\vartheta` in [0, 1); default 0.7, Jacobs's.
        compare: ``"average"`` (default) or ``"velocity"``.
        limits: The least and the largest gain, 0 <= low <= 1 <= high; default (0.01, 100), the
            wider pair of Hinton's. Jacobs has none: (0, inf).
        momentum: :math:`\mu` in [0, 1); 0 keeps no velocity.
        weight_decay: L2 penalty, >= 0.
        **common: ``l1``, ``decoupled_weight_decay``, ``maximize``, ``foreach``
            (:class:`~thalweg.optim.Common`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> optimizer = DeltaBarDelta([p], lr=1.0, changes=(0.5, 0.1))
        >>> for sign in (1.0, -1.0, 1.0):
        ...     p.grad = torch.tensor([1.0, sign])
        ...     optimizer.step()
        >>> optimizer.state[p]["gain"]
        tensor([2.0000, 0.8100])

    References:
        Jacobs, Increased rates of convergence through learning rate adaptation, 1988; Hinton,
        Neural networks for machine learning, lecture 6d, 2012; van der Maaten and Hinton,
        Visualizing data using t-SNE, 2008.
    """

    reference: ClassVar[Reference] = Reference(
        "Jacobs", "Increased rates of convergence through learning rate adaptation", 1988
    )
    slots: ClassVar[tuple[Slot, ...]] = (
        Slot("gain"),
        Slot("delta_bar"),
        Slot("momentum_buffer", when="momentum"),
    )
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 10.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "changes": Domain("a pair: a number in [0, inf), a number in [0, 1]", _changes),
        "theta": FRACTION,
        "compare": one_of("average", "velocity"),
        "limits": Domain("a pair low, high with 0 <= low <= 1 <= high", _limits),
        "momentum": FRACTION,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        changes: tuple[float, float] = (0.05, 0.05),
        theta: float = 0.7,
        compare: str = "average",
        limits: tuple[float, float] = (0.01, 100.0),
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        own = {
            "lr": lr,
            "changes": changes,
            "theta": theta,
            "compare": compare,
            "limits": limits,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        super().__init__(params, own, common)

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        if state.fresh:
            state.gain.zero_().add_(1)
        averaged, momentum = group["compare"] == "average", group["momentum"]
        if averaged or not momentum:
            past = state.delta_bar.sign()
            state.delta_bar.lerp_(grad, 1 - group["theta"] if averaged else 1.0)
        else:
            past = state.momentum_buffer.sign()
        _adapt(state.gain, past.mul_(grad.sign()), group)
        step = grad.mul(state.gain)
        return state.momentum_buffer.mul_(momentum).add_(step) if momentum else step


def _adapt(gain: Any, agreement: Any, group: Group) -> None:
    """Raise the gains where ``agreement`` is 1, cut them where it is -1; it is overwritten."""
    kappa, phi = group["changes"]
    low, high = group["limits"]
    opposed = agreement.abs().sub_(agreement)  # 2 where the signs differ, else 0
    gain.addcmul_(gain, opposed, value=-phi / 2)
    gain.add_(agreement.clamp_min_(0), alpha=kappa).clamp_min_(low).clamp_max_(high)
