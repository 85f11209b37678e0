"""Which parameters a forward pass used, in which linear maps, on which inputs.

A Kronecker-factored method has to know the inputs and outputs of every layer. Hooks on modules miss
whatever is not a module's own forward (the projections inside ``nn.MultiheadAttention``, a tied
weight used by ``F.linear``), and miss it silently. Here the calls themselves are seen: every
``linear``, ``conv``, ``embedding``, ``layer_norm`` and ``batch_norm`` that is given one of the
parameters, wherever it stands, as often as it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode


__all__ = ["Recorder", "Use"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_SIGNATURES: dict[Any, tuple[str, tuple[str, ...]]] = {
    F.linear: ("linear", ("input", "weight", "bias")),
    **{
        function: (
            f"conv{d}d",
            ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
        )
        for d, function in _CONVOLUTIONS.items()
    },
    F.embedding: (
        "embedding",
        (
            "input",
            "weight",
            "padding_idx",
            "max_norm",
            "norm_type",
            "scale_grad_by_freq",
            "sparse",
        ),
    ),
    F.layer_norm: ("layer_norm", ("input", "normalized_shape", "weight", "bias", "eps")),
    F.batch_norm: (
        "batch_norm",
        ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    ),
}


@final
@dataclass
class Use:
    """One call of a linear map with a parameter.

    Args:
        kind: ``"linear"``, ``"conv1d"`` to ``"conv3d"``, ``"embedding"``, ``"layer_norm"`` or
            ``"batch_norm"``.
        weight: The index of the weight among the parameters.
        bias: The index of the bias, where there is one.
        rows: The rows of the weight that the call used, where it used a slice of it.
        input: What went in: a copy, without its graph.
        edge: Where the gradient of what came out enters the graph (None where no graph was built):
            it stays right when the output is changed in place later.
        shape: The output's.
        options: What else was passed: kernel, stride, padding, statistics.

    Example:
        >>> Use("linear", 0, None, None, torch.ones(1, 2), None, torch.Size([1, 3])).kind
        'linear'
    """

    kind: str
    weight: int
    bias: int | None
    rows: slice | None
    input: Tensor
    edge: GradientEdge | None
    shape: torch.Size
    options: dict[str, Any] = field(default_factory=dict)


@final
class Recorder(TorchFunctionMode):
    """Inside ``with recorder:`` every use of a parameter in a linear map is noted in ``uses``.

    Args:
        params: The parameters to look for.

    Example:
        >>> layer = torch.nn.Linear(2, 3)
        >>> with Recorder(list(layer.parameters())) as recorder:
        ...     z = layer(torch.ones(4, 2))
        >>> use = recorder.uses[0]
        >>> use.kind, use.weight, use.bias, use.shape == z.shape
        ('linear', 0, 1, True)
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        super().__init__()
        self._place = {id(p): i for i, p in enumerate(params)}
        self._params = list(params)
        self.uses: list[Use] = []
        self.other: set[int] = set()  # parameters met in any other call

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note the call, and make it."""
        del types
        named = dict(kwargs or {})
        known = _SIGNATURES.get(func)
        if known is None:
            body = _body(func)
            if body is not None:
                with self:  # written in Python, of calls that are to be seen too
                    return body(*args, **named)
            result = func(*args, **named)
            # A view of a parameter is no use of it yet.
            if any(
                t.grad_fn is not None and id(t._base) not in self._place for t in _tensors(result)
            ):
                self._meet((args, tuple(named.values())))
            return result
        result = func(*args, **named)
        kind, names = known
        given = dict(zip(names, args, strict=False)) | named
        self._note(kind, given, result)
        return result

    def _note(self, kind: str, given: dict[str, Any], result: Tensor) -> None:
        weight, bias = given.get("weight"), given.get("bias")
        found = None if weight is None else self._find(weight)
        place = None if bias is None else self._find(bias)
        self._meet(given["input"])
        if found is None or (place is not None and place[1] != found[1]):
            # A weight that is computed, or a bias of other rows: neither has a form of its own.
            self._meet((weight, bias))
            return
        self._meet(None if place else bias)
        options = {
            name: value for name, value in given.items() if name not in {"input", "weight", "bias"}
        }
        assert weight is not None
        whole = self._params[found[0]].shape[0] if weight.ndim else 0
        self.uses.append(
            Use(
                kind,
                found[0],
                None if place is None else place[0],
                found[1],
                given["input"].detach().clone(),
                get_gradient_edge(result) if result.requires_grad else None,
                result.shape,
                {"kernel": weight.shape[2:], "table": len(weight), "whole": whole, **options},
            )
        )

    def _find(self, tensor: Tensor) -> tuple[int, slice | None] | None:
        """The parameter that the tensor is, or a slice of whose rows it is."""
        if id(tensor) in self._place:
            return self._place[id(tensor)], None
        base = tensor._base
        if base is None or id(base) not in self._place or tensor.ndim != base.ndim:
            return None
        whole = tensor.shape[1:] == base.shape[1:] and tensor.stride() == base.stride()
        start = (tensor.storage_offset() - base.storage_offset()) // max(base.stride(0), 1)
        if not whole:
            return None
        return self._place[id(base)], slice(start, start + tensor.shape[0])

    def _meet(self, values: Any) -> None:
        """Note that these parameters, or views of them, are used in a way that has no form."""
        for value in _tensors(values):
            owner = value if value._base is None else value._base
            if id(owner) in self._place:
                self.other.add(self._place[id(owner)])


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in a value, in lists and tuples too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


@functools.cache
def _body(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """A Python function of torch.nn.functional without its own hand-over to modes.

    Run as it is, it would hand itself over to the recorder again, or, with the recorder put aside,
    hide the calls that it is made of.
    """
    if not isinstance(func, FunctionType) or func.__globals__["__name__"] != F.__name__:
        return None
    asks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    seen = {**func.__globals__, **dict.fromkeys(asks, lambda *_: False)}
    body = FunctionType(func.__code__, seen, func.__name__, func.__defaults__, func.__closure__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body
