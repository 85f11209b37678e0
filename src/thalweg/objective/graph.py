"""The autograd graph behind a tensor, and the layers in it that are differentiated once only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.autograd.function import once_differentiable


__all__ = ["graph_nodes", "once_only", "refuse_once_only"]

# All functions that the decorator makes share one code.
_MARK = once_differentiable(lambda _: None).__code__
# Of a model, the name of such a layer or "": the graph is walked for its first batch.
_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def graph_nodes(tensors: Sequence[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind the tensors, once."""
    seen: set[Any] = set()
    waiting: list[Any] = [t.grad_fn for t in tensors if t.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(following for following, _ in node.next_functions if following is not None)


def refuse_once_only(origin: Any, loss: Tensor | None = None) -> None:
    """Refuse a second derivative through a function that is marked ``once_differentiable``.

    ``torch.autograd.grad`` takes no notice of the mark where the gradient that comes to the
    function needs no gradient itself, or the error lies on another path than the one to the
    parameters: what is missing then counts as zero.

    Args:
        origin: The model, or the function, whose loss it is: what was found of it is remembered.
        loss: With its graph; None asks what is known.

    Raises:
        RuntimeError: If there is such a function.

    Example:
        >>> import torch
        >>> refuse_once_only(torch.nn.Linear(1, 1), torch.zeros(()))
    """
    try:
        name = _known.get(origin)
    except TypeError:  # neither hashable nor held weakly: looked at each time
        name = None
    if name is None:
        if loss is None:
            return
        name = once_only(loss)
        with suppress(TypeError):
            _known[origin] = name
    if name:
        raise RuntimeError(
            f"the double backward of {name} is not implemented: it is marked once_differentiable"
        )


def once_only(tensor: Tensor) -> str:
    """The name of a function in the tensor's graph whose backward pass bears the mark, or ""."""
    return next(filter(None, map(_marked, graph_nodes([tensor]))), "")


def _marked(node: Any) -> str:
    """The name of the function that a node is of, if it is marked."""
    function = getattr(type(node), "_forward_cls", None)
    backward = getattr(function, "backward", None)
    while backward is not None:
        if getattr(backward, "__code__", None) is _MARK:
            return getattr(function, "__name__", "a function")
        backward = getattr(backward, "__wrapped__", None)  # under another decorator
    return ""
