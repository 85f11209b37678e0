"""A model held still: its buffers, modes and types as they were, differentiable twice.

What a curvature operator differentiates must not change between two of its products, whatever the
training loop does with the live model meanwhile. And it must be differentiable twice, which some
fast kernels are not: fused attention, cuDNN's recurrent layers, compiled modules and fused weight
norm (whose double backward is wrong in torch 2.13) are replaced by their plain forms while the
model runs here, and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from thalweg.vectors import Vector


__all__ = ["Still", "leaves_of", "single", "twice_differentiable"]

_CHECKPOINTED = (
    "Curvature through activation checkpointing (or other hooks on saved tensors) would be "
    "silently wrong: layers run again later, with whatever parameters the model has then. Turn it "
    "off here, for example with model.gradient_checkpointing_disable()."
)
_REDUCED = (torch.bfloat16, torch.float16)


@final
class Still:
    """A module's buffers and modes, taken now.

    Args:
        module: The module.
        names: The names of the parameters that will be handed to :meth:`call`.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self._module = module
        self._names = list(names)
        held = dict(module.named_parameters())
        self.reduced = any(held[name].dtype in _REDUCED for name in self._names)
        self._buffers = {name: _wide(b.detach().clone()) for name, b in module.named_buffers()}
        self._frozen: dict[str, Tensor] = {}
        if self.reduced:
            rest = {name: p for name, p in held.items() if name not in set(names)}
            self._frozen = {name: _wide(p.detach()) for name, p in rest.items()}
        self._modes = [(m, m.training) for m in module.modules()]
        self._recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())

    def call(self, theta: Sequence[Tensor], batch: Any) -> Any:
        """What the module returns at the parameters ``theta``."""
        # Copies: what moves its buffers (power iterations, counters) starts from the same ones.
        values = {name: value.clone() for name, value in self._buffers.items()} | self._frozen
        values |= dict(zip(self._names, theta, strict=True))
        hooks = torch.autograd.graph.disable_saved_tensors_hooks(_CHECKPOINTED)
        with self._as_it_was(theta[0].is_cuda if theta else False), hooks:
            return functional_call(self._module, values, (batch,))

    @contextmanager
    def _as_it_was(self, cuda: bool) -> Iterator[None]:
        before = [(m, m.training) for m, _ in self._modes]
        tracked: list[_BatchNorm] = []
        for m, training in self._modes:
            m.training = training
            # Batch statistics are used either way; moving averages are not to be moved.
            if training and isinstance(m, _BatchNorm) and m.track_running_stats:
                m.track_running_stats = False
                tracked.append(m)
        try:
            with twice_differentiable(cuda and self._recurrent):
                yield
        finally:
            for m, training in before:
                m.training = training
            for m in tracked:
                m.track_running_stats = True


def leaves_of(params: Vector, borrow: bool) -> Vector:
    """The parameters as leaves of their own, in float32 at least."""
    if any(p.is_complex() for p in params):
        raise TypeError(
            "Curvature of complex parameters is not defined here: second derivatives are of real "
            "functions. Use torch.view_as_real on the parameters."
        )
    leaves: list[Tensor] = []
    for p in params:
        fixed = p.detach() if borrow else p.detach().clone()
        wide = fixed.float() if fixed.dtype in _REDUCED else fixed
        leaves.append(wide.requires_grad_())
    return Vector(leaves)


@contextmanager
def twice_differentiable(recurrent: bool) -> Iterator[None]:
    """Plain kernels instead of fast ones that have no second derivative.

    Args:
        recurrent: Whether cuDNN's recurrent layers are in use.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_PlainWeightNorm())
        stack.callback(torch.backends.mha.set_fastpath_enabled, _fast_path())
        torch.backends.mha.set_fastpath_enabled(False)
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@final
class _PlainWeightNorm(TorchFunctionMode):
    """Weight norm as its formula says."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is not torch._weight_norm:
            return func(*args, **(kwargs or {}))
        return _weight_norm(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _fast_path() -> bool:
    return torch.backends.mha.get_fastpath_enabled()


def single(batch: Any) -> Any:
    """The batch with its half-precision tensors in float32; everything else as it is."""
    if isinstance(batch, Tensor):
        return _wide(batch)
    if isinstance(batch, Mapping):
        return {name: single(value) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields"):
        return type(batch)(single(value) for value in batch)
    return batch


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _REDUCED else tensor
