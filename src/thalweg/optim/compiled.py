"""The same rules as kernels: update, decay and step of many tensors in one pass over memory.

``torch.compile`` traces a method's own rule on :class:`Traced` tensors, whose numbers are handed in
from outside, for :data:`LANES` flat tensors of any sizes at once. Neither a learning rate nor a
step nor a shape is ever compiled in, so a method compiles once a process for each type and set of
options. The compiled code is then called directly: sizes, types and layout are checked here, and
torch's own guards would take longer than a small tensor's update.
"""

from __future__ import annotations

import itertools
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from thalweg.optim.seams import Quotient, Scaled, State
from thalweg.vectors import Vector


__all__ = ["LANES", "Feed", "Kernel", "Traced"]

LANES = 2  # tensors a call: one more costs compile time, one less costs calls

Lane = tuple[Any, ...]  # a parameter, its gradient, its slots, its size
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
class Kernel:
    """A rule with its decay and its step, compiled for :data:`LANES` tensors of any sizes.

    A lane is one tensor's ``(param, grad, *slots, size)``, each contiguous, of two entries or more.

    Args:
        rule: (grad, param, state, group) -> direction.
        slots: The names of the rule's slots.
        group: The hyper-parameters; which of them are 0 or 1 is compiled in, no other number is.
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
        self._spare = [self._lane(64 + 2 * lane) for lane in range(LANES)]
        self._nothing = self._lane(0)
        self._group, self._step = dict(group), step
        self._captured: list[Any] = []
        self._count: int | None = None
        values = [value.clone() for value in self.numbers(group, step)]
        self._count = len(values)

        def move(lanes: Sequence[Sequence[Tensor]], values: Sequence[Tensor]) -> None:
            for lane in lanes:
                self._update(lane, Feed(values), self._group, self._step)

        # Code of its own: torch compiles the same code eight times at most.
        code = move.__code__.replace(co_name=f"move_{next(_COUNT)}")
        own = types.FunctionType(code, globals(), closure=move.__closure__)
        traced = torch.compile(own, dynamic=True, fullgraph=True, backend=self._backend)
        # Floats are all handed in: as symbols they would be traced twice.
        with torch._dynamo.config.patch(specialize_float=True):
            traced([lane[:-1] for lane in self._spare], values)
        self._run, arguments = self._captured
        known = [*values, *itertools.chain(*self._spare)]
        self._pick = operator.itemgetter(*[_place(argument, known) for argument in arguments])

    def numbers(self, group: Mapping[str, Any], step: float) -> Sequence[Tensor]:
        """What the rule uses at these hyper-parameters: found by running it on nothing.

        Raises:
            RuntimeError: If they are not as many as in the trace: the rule has other branches.
        """
        feed = Feed()
        self._update(self._nothing[:-1], feed, group, step)
        if self._count not in {None, len(feed.seen)}:
            raise RuntimeError("compile=True: the rule branches on a number; set compile=False.")
        return torch.tensor(feed.seen, dtype=self._like.dtype, device="cpu").unbind()

    def __call__(self, lanes: Sequence[Lane], values: Sequence[Tensor]) -> None:
        """Move parameters in place, by the :meth:`numbers` of this step."""
        for first in range(0, len(lanes), LANES):
            known = [*values]
            for lane in lanes[first : first + LANES]:
                known += lane
            for lane in self._spare[len(lanes) - first :]:
                known += lane
            self._run(list(self._pick(known)))
        # What autograd is told where torch itself writes in place.
        increment_version([t for lane in lanes for t in (lane[0], *lane[2:-1])])

    def _lane(self, size: int) -> Lane:
        like = self._like
        parts = range(self._parts)
        return (*(torch.ones(size, dtype=like.dtype, device=like.device) for _ in parts), size)

    def _update(
        self, lane: Sequence[Tensor], feed: Feed, group: Mapping[str, Any], step: float
    ) -> None:
        traced: list[Any] = [Traced(tensor, feed) for tensor in lane]
        param, grad, *held = traced
        state = State({}, step)
        for name, tensor in zip(self.slots, held, strict=True):
            setattr(state, name, tensor)  # torch before 2.13 does not trace a dict of attributes
        direction = self._rule(grad, param, state, group)
        if isinstance(direction, (Quotient, Scaled)):
            direction = direction.value()
        rate = float(group["lr"])
        if group["decoupled_weight_decay"] and group["weight_decay"]:
            param.mul_(1 - rate * group["weight_decay"])
        param.add_(direction, alpha=-rate)

    def _backend(self, graph: Any, inputs: Any) -> Any:
        """Inductor; its innermost code and what that is called with are written down."""
        from torch._functorch import config
        from torch._inductor.compile_fx import compile_fx, compile_fx_inner  # seconds to import

        codes: list[Any] = []

        def inner(*arguments: Any, **options: Any) -> Any:
            codes.append(compile_fx_inner(*arguments, **options))
            return codes[-1]

        # What the asserts would check, lanes have. A cache of torch's would pass inner by.
        with config.patch(enable_autograd_cache=False):
            patches = {"size_asserts": False}
            compiled: Any = compile_fx(graph, inputs, inner, config_patches=patches)

        def call(*arguments: Any) -> Any:
            (code,) = codes
            run = code.current_callable

            def spy(inner_arguments: list[Any]) -> Any:
                self._captured = [run, list(inner_arguments)]
                return run(inner_arguments)

            code.current_callable = spy
            return compiled(*arguments)

        return call


def _place(argument: Any, known: list[Any]) -> int:
    """Where among what a call knows an argument of the compiled code is: a tensor or a size."""
    for place, value in enumerate(known):
        if value is argument or (
            isinstance(argument, int) and isinstance(value, int) and value == argument
        ):
            return place
    raise RuntimeError("an argument of the compiled code is unknown")


_COUNT = itertools.count()
