"""Methods around a method: the inner one steps, the wrapper does something after it.

A wrapper shares the inner optimizer's parameter groups and state, so one scheduler, one checkpoint
and one copy hold both; its own hyper-parameters and slots stand beside the inner's under their own
names. The inner optimizer is one of ours or any of torch's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, final

from torch import Tensor
from torch.optim import Optimizer

from thalweg.errors import bad_argument
from thalweg.optim.arguments import check_group
from thalweg.optim.base import AbstractOptimizer, owned
from thalweg.optim.metadata import Needs
from thalweg.optim.seams import Group, Point, StepInfo, tensors_with_grad


__all__ = ["AbstractWrapper"]


class AbstractWrapper(AbstractOptimizer):
    """A method around another; it fills ``advance``, which runs after the inner step.

    Each of the wrapper's slots starts as a copy of the parameter before its first inner step.

    Args:
        inner: The optimizer that steps.
        own: The wrapper's hyper-parameters, kept in the inner's groups.

    Raises:
        TypeError: If ``inner`` is not an optimizer.
        ValueError: If a value is outside its range, or a name is the inner's already.
    """

    needs: ClassVar[Needs] = Needs.GRADIENT

    inner: Optimizer  # type: ignore[bad-override-mutable-attribute]
    own: Group

    def __init__(self, inner: Optimizer, own: Group) -> None:
        name = type(self).__name__
        if not isinstance(inner, Optimizer):
            raise TypeError(f"{name}(inner=...): a torch.optim.Optimizer is needed, got {inner!r}.")
        check_group(type(self), own)
        taken = sorted(set(own) & set(inner.defaults))
        if taken:
            allowed = f"a method without hyper-parameters named {', '.join(taken)}"
            raise bad_argument(name, "inner", type(inner).__name__, allowed)
        for group in inner.param_groups:
            check_group(type(self), group, inner)
        for group in inner.param_groups:
            group.update({key: group.get(key, value) for key, value in own.items()})
        carried: dict[str, Any] = {"inner": inner, "own": own, "info": StepInfo(), "_calls": 0}
        if self.evaluation_slot is None:  # then the inner's average, say, is what is evaluated
            carried["evaluation_slot"] = getattr(inner, "evaluation_slot", None)
        Optimizer.__setstate__(self, carried)  # the groups, state and defaults are the inner's

    @property
    def param_groups(self) -> list[Group]:  # type: ignore[override]
        """The inner optimizer's groups."""
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The inner optimizer's state, with the wrapper's slots in it."""
        return self.inner.state

    @property
    def defaults(self) -> Group:  # type: ignore[override]
        """The inner optimizer's defaults and the wrapper's."""
        return {**self.inner.defaults, **self.own}

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Take the inner step."""
        names = [slot.name for slot in self.slots]
        starts = {
            p: p.detach().clone()
            for group in self.param_groups
            for p in group["params"]
            if names and (p.requires_grad or p.grad is not None)
            if not (p in self.state and names[0] in self.state[p])
        }
        if isinstance(self.inner, AbstractOptimizer):
            loss = self.inner.step(closure)
        else:
            loss = self.inner.step(None if closure is None else lambda: self.call(closure))
        # Not before: many methods take an empty state as the sign of a first step.
        for p, start in starts.items():
            if p.grad is not None:
                self.state[p].update({name: start.clone() for name in names})
        return Point(loss, closure, self.param_groups)

    @final
    def descend(self, point: Point) -> list[tuple[Group, Tensor]]:
        """What the inner step moved."""
        return list(tensors_with_grad(point.groups))

    @abstractmethod
    def advance(self, point: Point, path: Any) -> StepInfo:
        """What happens after the inner step; ``path`` lists each (group, parameter) it moved."""

    @final
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.inner.zero_grad(set_to_none)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Hand groups and state to the inner optimizer; take over the rest."""
        if "inner" in state:
            Optimizer.__setstate__(self, state)
            return
        self.inner.__setstate__(state)
        if not isinstance(self.inner, AbstractOptimizer):
            self.inner.state = owned(self.inner.state)
        for group in self.param_groups:
            for name, value in self.own.items():
                group.setdefault(name, value)
