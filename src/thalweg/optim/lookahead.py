"""Lookahead: k steps forward, one step back."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.errors import PROBABILITY, Domain, integer_from, one_of
from thalweg.optim.metadata import Cost, Range, Reference, Slot
from thalweg.optim.seams import Group, Point, StepInfo
from thalweg.optim.wrapper import AbstractWrapper


__all__ = ["Lookahead"]

MOMENTA = ("momentum_buffer", "exp_avg", "exp_avg_diff")  # as torch and this package name them


@final
class Lookahead(AbstractWrapper):
    r"""Slow weights that follow an inner method's fast ones.

    The inner method A takes k steps, then the slow weights :math:`\phi` move a part of the way to
    where it got, and it goes on from them:

    .. math::
        \theta_{t,i} = \theta_{t,i-1} + A(\theta_{t,i-1}), \quad i = 1, \dots, k; \qquad
        \phi_{t+1} = \phi_t + \alpha\,(\theta_{t,k} - \phi_t), \qquad
        \theta_{t+1,0} = \phi_{t+1} .

    The slow weights are for evaluation, inside ``with optimizer.evaluation():``; between two
    synchronisations the model holds the fast ones. Inner steps are counted for each parameter, and
    the count is part of the state, so that a run may stop in the middle of an inner loop.

    ``inner_momentum`` says what becomes of the inner method's averages of gradients when the
    weights go back: they are kept, zeroed, or averaged as the weights are,
    :math:`\bar m \leftarrow \bar m + \alpha\,(m - \bar m)` and :math:`m = \bar m`, from
    :math:`\bar m = 0`. Averages of squares, step sizes and counts are kept in any case: Adam's step
    would be three times too long while its second moment filled again.

    Args:
        inner: The optimizer that steps: one of ours or any of torch's.
        k: Inner steps to a synchronisation, >= 1; default 5, the authors' code's.
        slow_lr: The slow weights' step size :math:`\alpha`, in [0, 1]; 1 is the inner method.
            Default 0.5, as most libraries have it; the authors' code has 0.8.
        inner_momentum: ``"keep"`` (default), ``"reset"`` or ``"interpolate"``, which the authors'
            code calls pullback.

    Raises:
        TypeError: If ``inner`` is not an optimizer.
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.optim import SGD
        >>> p = torch.nn.Parameter(torch.tensor([0.0]))
        >>> optimizer = Lookahead(SGD([p], lr=1.0), k=2)
        >>> for _ in range(3):
        ...     p.grad = torch.tensor([-1.0])
        ...     optimizer.step()
        >>> with optimizer.evaluation():
        ...     print(p.item())
        1.0

    References:
        Zhang, Lucas, Hinton and Ba, Lookahead optimizer: k steps forward, 1 step back, 2019.
    """

    reference: ClassVar[Reference] = Reference(
        "Zhang, Lucas, Hinton, Ba", "Lookahead optimizer: k steps forward, 1 step back", 2019
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("slow"),)
    cost: ClassVar[Cost] = Cost()
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 10.0)}
    evaluation_slot: ClassVar[str | None] = "slow"
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "k": integer_from(1),
        "slow_lr": PROBABILITY,
        "inner_momentum": one_of("keep", "reset", "interpolate"),
    }

    def __init__(
        self,
        inner: Optimizer,
        k: int = 5,
        slow_lr: float = 0.5,
        inner_momentum: str = "keep",
    ) -> None:
        super().__init__(inner, {"k": k, "slow_lr": slow_lr, "inner_momentum": inner_momentum})

    def advance(self, point: Point, path: Any) -> StepInfo:
        """After every k-th step of a parameter, bring it back."""
        for group, p in path:
            state = self.state[p]
            state["fast_steps"] = (state.get("fast_steps", 0) + 1) % group["k"]
            if state["fast_steps"] == 0:
                p.copy_(state["slow"].lerp_(p, group["slow_lr"]))
                _bring_back_momenta(state, group)
        return StepInfo(step_length=float(point.groups[0]["lr"]))


def _bring_back_momenta(state: dict[str, Any], group: Group) -> None:
    for name in MOMENTA:
        momentum = state.get(name)
        if not isinstance(momentum, Tensor):
            continue
        if group["inner_momentum"] == "reset":
            momentum.zero_()
        elif group["inner_momentum"] == "interpolate":
            slow = state.setdefault(f"slow_{name}", torch.zeros_like(momentum))
            momentum.copy_(slow.lerp_(momentum, group["slow_lr"]))
