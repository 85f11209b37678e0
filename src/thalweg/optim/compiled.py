"""The same rules as kernels: update, decay and step of many tensors in one pass over memory.

``torch.compile`` traces a method's own rule on :class:`Traced` tensors, whose numbers are handed in
from outside, for :data:`LANES` flat tensors of any sizes at once. Neither a learning rate nor a
step nor a shape is ever compiled in, so a method compiles once a process for each type and set of
options. The compiled code is then called directly: sizes, types and layout are checked here, and
torch's own guards would take longer than a small tensor's update.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from thalweg.optim.seams import Quotient
from thalweg.vectors import Vector


__all__ = ["LANES", "Feed", "Kernel", "Traced"]

LANES = 4  # tensors a call: one more costs compile time, one less costs calls

Rule = Callable[[Any, Any, Any, Mapping[str, Any]], Any]


@final
class Feed:
    """The numbers that a rule uses on tensors, in the order in which it uses them.

    Args:
        given: What to put in their place. None: the numbers themselves.

    Example:
        >>> feed = Feed()
        >>> Traced(torch.ones(2), feed).mul_(0.5).add_(1.0).tensor, feed.seen
        (tensor([1.5000, 1.5000]), [0.5, 1.0])
    """

    def __init__(self, given: Sequence[Tensor] | None = None) -> None:
        self.given = given
        self.seen: list[float] = []

    def __call__(self, value: Any) -> Any:
        """The value itself, or the one given in the place of the next number."""
        if isinstance(value, Traced):
            return value.tensor
        if not isinstance(value, float):
            return value  # an integer is a constant of the rule
        self.seen.append(value)
        return value if self.given is None else self.given[len(self.seen) - 1]


@final
class Traced:
    """A tensor in a rule, with the operations of a Vector, whose numbers come from a feed.

    torch takes ``alpha`` and ``value`` as constants, to be compiled in; here they are factors.

    Example:
        >>> one = Traced(torch.ones(2), Feed())
        >>> one.addcmul(one, one, value=3.0).tensor
        tensor([4., 4.])
    """

    def __init__(self, tensor: Tensor, feed: Feed) -> None:
        self.tensor, self.feed = tensor, feed

    def is_complex(self) -> bool:
        """Complex tensors are not compiled."""
        return False

    def add(self, other: Any, *, alpha: float = 1) -> Traced:
        """``self + alpha * other``."""
        return Traced(self.tensor + self._times(self.feed(other), alpha), self.feed)

    def add_(self, other: Any, *, alpha: float = 1) -> Traced:
        """``self += alpha * other``."""
        self.tensor.add_(self._times(self.feed(other), alpha))
        return self

    def lerp_(self, end: Traced, weight: float) -> Traced:
        """``self += weight * (end - self)``."""
        self.tensor.add_((end.tensor - self.tensor) * self.feed(weight))
        return self

    def addcmul(self, first: Traced, second: Traced, *, value: float = 1) -> Traced:
        """``self + value * first * second``."""
        product = first.tensor * second.tensor
        return Traced(self.tensor + self._times(product, value), self.feed)

    def addcmul_(self, first: Traced, second: Traced, *, value: float = 1) -> Traced:
        """``self += value * first * second``."""
        self.tensor.add_(self._times(first.tensor * second.tensor, value))
        return self

    def addcdiv_(self, first: Traced, second: Traced, *, value: float = 1) -> Traced:
        """``self += value * first / second``."""
        self.tensor.add_(self._times(first.tensor / second.tensor, value))
        return self

    def _times(self, tensor: Any, by: float) -> Any:
        return tensor if isinstance(by, int) and by == 1 else tensor * self.feed(by)


def _handed_on(name: str) -> Callable[..., Traced]:
    """Any other operation of a Vector: the tensor's own."""
    torch_name = {"__rmul__": "__mul__", "__radd__": "__add__"}.get(name, name)
    in_place = name.endswith("_") and not name.startswith("_")

    def method(self: Traced, *arguments: Any) -> Traced:
        result = getattr(self.tensor, torch_name)(*[self.feed(a) for a in arguments])
        return self if in_place else Traced(result, self.feed)

    return method


_OPERATORS = {f"__{n}__" for n in ("add", "sub", "mul", "truediv", "neg", "radd", "rmul")}
for _name in vars(Vector):
    if (_name in _OPERATORS or not _name.startswith("_")) and _name not in vars(Traced):
        setattr(Traced, _name, _handed_on(_name))


@final
class _State:
    """A parameter's slots in a rule."""


@final
class Kernel:
    """A rule with its decay and its step, compiled for :data:`LANES` tensors of any sizes.

    A lane is one tensor's ``[param, grad, *slots]``, each flat, of two entries or more.

    Args:
        rule: (grad, param, state, group) -> direction.
        slots: The names of the rule's slots.
        group: The hyper-parameters; which of them are zero is compiled in, no other number is.
        step: The count of updates to trace with.
        like: A tensor of the type and on the device of those to come.
    """

    def __init__(
        self,
        rule: Rule,
        slots: Sequence[str],
        group: Mapping[str, Any],
        step: float,
        like: Tensor,
    ) -> None:
        self.slots, self._rule = list(slots), rule
        self._like, self._parts = like, 2 + len(self.slots)
        # Sizes that all differ, so that each has a symbol of its own and can be recognised.
        self._sizes = [64 + 2 * lane for lane in range(LANES)]
        self.spare = [self._lane(size) for size in self._sizes]
        self._group, self._step = dict(group), step
        self._captured: list[Any] = []
        values = self.numbers(group, step)

        def move(lanes: Sequence[Sequence[Tensor]], values: Sequence[Tensor]) -> None:
            for lane in lanes:
                self._update(lane, Feed(values), self._group, self._step)

        # Code of its own: torch compiles the same code eight times at most.
        code = move.__code__.replace(co_name=f"move_{next(_COUNT)}")
        own = types.FunctionType(code, globals(), closure=move.__closure__)
        traced = torch.compile(own, dynamic=True, fullgraph=True, backend=self._backend)
        traced(self.spare, values)
        self._compiled, arguments = self._captured
        self._plan = [self._source(argument, values) for argument in arguments]

    def numbers(self, group: Mapping[str, Any], step: float) -> list[Tensor]:
        """What the rule uses at these hyper-parameters: found by running it on nothing."""
        feed = Feed()
        self._update(self._lane(0), feed, group, step)
        return [torch.tensor(v, dtype=self._like.dtype) for v in feed.seen]

    def __call__(self, lanes: Sequence[Sequence[Tensor]], values: Sequence[Tensor]) -> None:
        """Move up to LANES parameters in place, by the :meth:`numbers` of this step."""
        full = [*lanes, *self.spare[len(lanes) :]] if len(lanes) < LANES else lanes
        self._compiled(
            *[
                full[i][j] if i >= 0 else values[j] if i == _NUMBER else full[j][0].numel()
                for i, j in self._plan
            ]
        )

    def _lane(self, size: int) -> list[Tensor]:
        like = self._like
        parts = range(self._parts)
        return [torch.ones(size, dtype=like.dtype, device=like.device) for _ in parts]

    def _update(
        self, lane: Sequence[Tensor], feed: Feed, group: Mapping[str, Any], step: float
    ) -> None:
        traced: list[Any] = [Traced(tensor, feed) for tensor in lane]
        param, grad, *held = traced
        state: Any = _State()
        state.step, state.fresh = step, False
        for name, slot in zip(self.slots, held, strict=True):
            setattr(state, name, slot)
        direction = self._rule(grad, param, state, group)
        if isinstance(direction, Quotient):
            direction = direction.over.div(direction.under)
        rate = float(group["lr"])
        if group["decoupled_weight_decay"] and group["weight_decay"]:
            param.mul_(1 - rate * group["weight_decay"])
        param.add_(direction, alpha=-rate)

    def _backend(self, graph: Any, inputs: Any) -> Any:
        """Inductor, with what the compiled code is called with written down."""
        from torch._inductor.compile_fx import compile_fx  # takes seconds to import

        # What the asserts would check, Lanes has.
        compiled: Any = compile_fx(graph, inputs, config_patches={"size_asserts": False})

        def call(*arguments: Any) -> Any:
            self._captured = [compiled, arguments]
            return compiled(*arguments)

        return call

    def _source(self, argument: Any, values: list[Tensor]) -> tuple[int, int]:
        """Where an argument of the compiled code comes from: (lane, part), a number or a size."""
        if isinstance(argument, int):
            return _SIZE, self._sizes.index(argument)
        for i, lane in enumerate([values, *self.spare]):
            for j, part in enumerate(lane):
                if part is argument:
                    return i - 1, j
        raise RuntimeError("an argument of the compiled code is unknown")


_COUNT = itertools.count()
_NUMBER, _SIZE = -1, -2
