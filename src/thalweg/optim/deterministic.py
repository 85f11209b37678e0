"""Methods that judge their own steps by the function: line searches, trust regions, damping.

They are made for one function, not for a stream of batches: a step may evaluate it many times, and
ends at a point that is better than where it began, or says why there is none. What they remember
(a radius, a damping, pairs of steps and gradients) is plain data in the state of the first
parameter, so that a checkpoint resumes exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, final

from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.objective import AbstractClosure
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.ground import Counts, Ground
from thalweg.optim.metadata import Needs
from thalweg.optim.products import look
from thalweg.optim.seams import Group, StepInfo


__all__ = ["AbstractDeterministic"]


class AbstractDeterministic(AbstractOptimizer, ABC):
    """A method that tries points on a :class:`~thalweg.optim.ground.Ground`.

    A subclass gives ``descend(ground)``, a path from here, and ``advance(ground, path)``, which
    tries points along it, moves by ``ground.accept`` and reports. Where ``needs`` is CURVATURE the
    ground has products with the Hessian. ``self.memory`` is its state; ``self.setting`` its
    hyper-parameters, the same for all parameters.

    The outcome of a step is a word in ``StepInfo.outcome``: "moved"; "stationary" (the gradient is
    zero, and there is no way down); "no progress" (no better point in this precision); "failed"
    (the search found none, and said why in ``details``).

    Args:
        params: Parameters, groups or named parameters, as torch takes them.
        defaults: Every hyper-parameter with its value.

    Raises:
        ValueError: If a hyper-parameter is outside its domain, or parameters are on two devices.
    """

    needs: ClassVar[Needs] = Needs.LOSS
    deterministic: ClassVar[bool] = True

    def __init__(self, params: Any, defaults: Group) -> None:
        super().__init__(params, defaults)
        self.counts = Counts()
        self._last: Ground | None = None

    # ---- what a method works with -----------------------------------------------------------
    @property
    def setting(self) -> Group:
        """The hyper-parameters: those of the first group, which are all groups'."""
        return self.param_groups[0]

    @property
    def memory(self) -> dict[str, Any]:
        """What the method remembers from step to step, as plain data."""
        return self.state[self.param_groups[0]["params"][0]]

    @final
    def moving(self) -> list[Tensor]:
        """The parameters that move: all that require a gradient."""
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        devices = sorted({str(p.device) for p in params})
        if len(devices) > 1:
            raise bad_argument(type(self).__name__, "params", devices, "parameters on one device")
        return params

    # ---- the first seam -----------------------------------------------------------------------
    def evaluate(self, closure: Callable[[], Any] | None) -> Ground:
        """Stand where the parameters are: value, gradient and, where needed, products.

        What is known of the last accepted point is taken over where the closure is one of ours, the
        same as before, and nobody has moved the parameters.
        """
        assert closure is not None  # step() has refused
        self._check_one_setting()
        params, last = self.moving(), self._last
        self._last = None
        curved = self.needs is Needs.CURVATURE
        if last is not None and last.stands(closure, params) and last.curved >= curved:
            self._last = last
            return last
        self.counts.nfev += 1
        self.counts.ngev += 1
        name = type(self).__name__
        if curved:
            seen = look(name, closure, params, self.call)
            ground = Ground(closure, params, seen.loss, seen.product, counts=self.counts, name=name)
        else:
            ground = Ground(closure, params, self.call(closure), counts=self.counts)
        self._last = ground if isinstance(closure, AbstractClosure) else None
        return ground

    @abstractmethod
    def advance(self, point: Any, path: Any) -> StepInfo:
        """Try points along the path; accept one, or say why not."""

    def _check_one_setting(self) -> None:
        first, *others = self.param_groups
        for group in others:
            for name in self.defaults:
                if group[name] != first[name]:
                    allowed = f"the same in all groups ({first[name]!r} in the first)"
                    raise bad_argument(type(self).__name__, name, group[name], allowed)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but hooks and what is known of the live point, which a copy finds anew."""
        return {**super().__getstate__(), "_last": None}
