"""Projected gradient descent: any method's step, then the nearest point of a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.errors import bad_argument
from thalweg.optim.metadata import Cost, Range, Reference
from thalweg.optim.projections import Projection, nearest_of, sets_of
from thalweg.optim.seams import Group, Point, StepInfo
from thalweg.optim.wrapper import AbstractWrapper


__all__ = ["ProjectedGradient"]


@final
class ProjectedGradient(AbstractWrapper):
    r"""Keep parameters in a set.

    After each step of the inner method A, every parameter that it moved goes to the nearest point
    of its set C:

    .. math:: \theta_{t+1} = P_C\bigl(\theta_t + A(\theta_t)\bigr), \qquad
        P_C(x) = \arg\min_{y \in C} \|y - x\|_2 .

    Parameters are projected when the optimizer is made, so that the first gradient is taken at a
    feasible point; those of a group added later before the next step. Around a method that scales
    entries (Adam) it is a heuristic, since the nearest point is meant in another norm.

    The sets are in ``thalweg.optim.projections``: ``Box``, ``Ball``, ``L1Ball``, ``Simplex``,
    ``NonNegative``, ``Affine``. Each parameter tensor is projected by itself. The projection is
    not part of a checkpoint: make the optimizer with the same one to resume.

    Args:
        inner: The optimizer that steps: one of ours or any of torch's.
        projection: A set, or any function of a tensor that returns the nearest feasible one of
            the same shape; or a list with one for each parameter group, None to leave it free.
            Complex parameters are given as pairs of reals. Default None: the whole space.

    Raises:
        TypeError: If ``inner`` is not an optimizer.
        ValueError: If ``projection`` cannot be called, or has not one entry for each group.

    Example:
        >>> from thalweg.optim import SGD
        >>> from thalweg.optim.projections import Box
        >>> p = torch.nn.Parameter(torch.tensor([3.0, 0.5]))
        >>> optimizer = ProjectedGradient(SGD([p], lr=1.0), Box(0.0, 1.0))
        >>> p.grad = torch.tensor([0.25, 1.0])
        >>> optimizer.step()
        >>> p.tolist()
        [0.75, 0.0]

    References:
        Goldstein, Convex programming in Hilbert space, 1964; Levitin and Polyak, Constrained
        minimization methods, 1966.
    """

    reference: ClassVar[Reference] = Reference(
        "Goldstein; Levitin, Polyak", "Convex programming in Hilbert space", 1964
    )
    cost: ClassVar[Cost] = Cost()
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 10.0)}

    def __init__(
        self, inner: Optimizer, projection: Projection | Sequence[Projection | None] | None = None
    ) -> None:
        listed = projection if isinstance(projection, (list, tuple)) else [projection]
        if not all(each is None or callable(each) for each in listed):
            allowed = "a function of a tensor, a list of such for each group, or None"
            raise bad_argument(type(self).__name__, "projection", projection, allowed)
        super().__init__(inner, {})
        self.projection = projection
        self._started = 0  # groups that have been projected
        with torch.no_grad():
            self._start()

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Take the inner step, from feasible points also where a group is new."""
        self._start()
        return super().evaluate(closure)

    def advance(self, point: Point, path: Any) -> StepInfo:
        """Project what the inner step moved."""
        self._project(path)
        return StepInfo(step_length=float(point.groups[0]["lr"]))

    def _start(self) -> None:
        new = self.param_groups[self._started :]
        self._project((group, p) for group in new for p in group["params"] if p.requires_grad)
        self._started = len(self.param_groups)

    def _project(self, entries: Iterable[tuple[Group, Tensor]]) -> None:
        sets = self._sets()
        for group, p in entries:
            project = sets[next(i for i, g in enumerate(self.param_groups) if g is group)]
            if project is None or p.numel() == 0:
                continue
            given = torch.view_as_real(p) if p.is_complex() else p
            given.copy_(nearest_of("ProjectedGradient", project, given.detach()))

    def _sets(self) -> Sequence[Any]:
        return sets_of(type(self).__name__, self.projection, len(self.param_groups))
