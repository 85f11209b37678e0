"""Averages of the iterates, for evaluation: Polyak-Ruppert and exponential."""

from __future__ import annotations

from typing import Any, ClassVar, final

from torch.optim import Optimizer

from thalweg.errors import FRACTION, Domain, integer_from, one_of
from thalweg.optim.metadata import Cost, Range, Reference, Slot
from thalweg.optim.seams import Point, StepInfo
from thalweg.optim.wrapper import AbstractWrapper


__all__ = ["WeightAveraging"]


@final
class WeightAveraging(AbstractWrapper):
    r"""Keep an average of the weights that an inner method walks through.

    After every ``every``-th inner step from the ``start``-th on, with n averaged before,

    .. math::
        \bar\theta \leftarrow \bar\theta + w\,(\theta - \bar\theta), \qquad
        w = \tfrac{1}{n + 1} \;\text{(polyak)} \quad\text{or}\quad w = 1 - d \;\text{(exponential)};

    the first average is the iterate itself. Training goes on from the iterates; the average is for
    evaluation, inside ``with optimizer.evaluation():``. Running statistics (BatchNorm) are the
    model's, not averaged: pass data through the model to refresh them.

    Args:
        inner: The optimizer that steps: one of ours or any of torch's.
        average: ``"polyak"``, the plain mean (default), or ``"exponential"``.
        decay: The exponential average's memory d, in [0, 1); default 0.999.
        start: Inner updates of a parameter before its averaging begins, >= 0.
        every: Inner updates from one averaged iterate to the next, >= 1.

    Raises:
        TypeError: If ``inner`` is not an optimizer.
        ValueError: If a value is outside its range.

    Example:
        >>> import torch
        >>> from thalweg.optim import SGD
        >>> p = torch.nn.Parameter(torch.tensor([0.0]))
        >>> optimizer = WeightAveraging(SGD([p], lr=1.0))
        >>> for gradient in (-1.0, -1.0, -1.0):
        ...     p.grad = torch.tensor([gradient])
        ...     optimizer.step()
        >>> with optimizer.evaluation():
        ...     print(p.item())
        2.0

    References:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; Ruppert,
        Efficient estimations from a slowly convergent Robbins-Monro process, 1988.
    """

    reference: ClassVar[Reference] = Reference(
        "Polyak, Juditsky; Ruppert",
        "Acceleration of stochastic approximation by averaging",
        1992,
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("average"),)
    cost: ClassVar[Cost] = Cost()
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 10.0)}
    evaluation_slot: ClassVar[str | None] = "average"
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "average": one_of("polyak", "exponential"),
        "decay": FRACTION,
        "start": integer_from(0),
        "every": integer_from(1),
    }

    def __init__(
        self,
        inner: Optimizer,
        average: str = "polyak",
        decay: float = 0.999,
        start: int = 0,
        every: int = 1,
    ) -> None:
        own = {"average": average, "decay": decay, "start": start, "every": every}
        super().__init__(inner, own)

    def advance(self, point: Point, path: Any) -> StepInfo:
        """Move the averages of what the inner step moved."""
        for group, p in path:
            state = self.state[p]
            age = state["updates"] = state.get("updates", 0) + 1
            averaged, off = divmod(age - group["start"] - 1, group["every"])
            if averaged < 0 or (averaged == 0 and off == 0):
                state["average"].copy_(p)
            elif off == 0:
                polyak = group["average"] == "polyak"
                state["average"].lerp_(p, 1 / (averaged + 1) if polyak else 1 - group["decay"])
        return StepInfo(step_length=float(point.groups[0]["lr"]))
