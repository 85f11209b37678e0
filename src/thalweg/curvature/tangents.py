r"""Products with the Jacobian of a function of parameters: :math:`J v` and :math:`J^\top u`.

:math:`J^\top u` is a backward pass over a kept graph. :math:`J v` has three schemes:

* ``linearize``: ``torch.func.linearize`` records the tangent's computation once; each product then
  costs about one forward pass. It takes time and memory to record.
* ``dual``: forward-mode differentiation, one forward pass with dual numbers a product.
* ``reverse``: backward through a backward pass; works wherever double backward does.

Only first derivatives are taken, so none of them meets the second derivatives that torch gets wrong
(LayerNorm under forward over reverse).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import forward_ad


__all__ = ["SCHEMES", "Tangents", "recorded_tangent", "same_product", "unlike"]

SCHEMES = ("linearize", "dual", "reverse")
_BEFORE_RECORDING = 6  # products after which recording the tangent's computation has paid off
_FAILURES = (RuntimeError, NotImplementedError, TypeError, AssertionError)

Parts = Sequence[Tensor]


@final
class Tangents:
    """Both products with the Jacobian of ``function`` at ``leaves``.

    Args:
        function: Parameters -> outputs, of any shape.
        leaves: The point; they require a gradient.
        scheme: For ``J v``; None begins with ``dual``, records after six products, and takes the
            next scheme where one fails.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> t = Tangents(lambda p: p[0] ** 2, [x])
        >>> t.forward([torch.ones(2)]).tolist(), t.backward(torch.ones(2))[0].tolist()
        ([2.0, 4.0], [2.0, 4.0])
    """

    def __init__(
        self, function: Callable[[Parts], Tensor], leaves: Parts, scheme: str | None = None
    ) -> None:
        self._function = function
        self._leaves = list(leaves)
        self._asked = scheme
        self.scheme = scheme or "dual"
        self._made = 0
        self._recorded: Callable[..., Tensor] | None = None
        self._reversed: tuple[Tensor, list[Tensor]] | None = None
        self._may_record = scheme is None
        with torch.enable_grad():
            self.outputs = function(self._leaves)

    def backward(self, cotangent: Tensor) -> list[Tensor]:
        r""":math:`J^\top u`, a part for each leaf."""
        if not self.outputs.requires_grad:
            return [torch.zeros_like(leaf) for leaf in self._leaves]
        grads = torch.autograd.grad(
            self.outputs, self._leaves, cotangent, retain_graph=True, materialize_grads=True
        )
        return list(grads)

    def forward(self, tangent: Parts) -> Tensor:
        """:math:`J v`, of the outputs' shape."""
        self._made += 1
        if self._may_record and self._made > _BEFORE_RECORDING:
            self._try_recording(tangent)
        if self.scheme == "linearize":
            if self._recorded is None:
                self._refuse_unlike(tangent)
            return self._linearized()(*tangent)
        if self.scheme == "dual":
            if self._asked == "dual":
                return self._dual(tangent)
            try:
                return self._dual(tangent)
            except _FAILURES:
                self.scheme, self._may_record = "reverse", False
        return self._reverse(tangent)

    def _try_recording(self, tangent: Parts) -> None:
        """Record the tangent's computation, and keep it if it gives what dual numbers give."""
        self._may_record = False
        if self.scheme != "dual":
            return
        try:
            same = same_product([self._linearized()(*tangent)], [self._dual(tangent)])
        except _FAILURES:
            same = False
        if same:
            self.scheme = "linearize"
        else:
            self._recorded = None

    def _refuse_unlike(self, tangent: Parts) -> None:
        recorded = self._linearized()(*tangent)
        if not same_product([recorded], [self._reverse(tangent)]):
            self._recorded = None
            raise unlike("GGN")

    def _linearized(self) -> Callable[..., Tensor]:
        if self._recorded is None:
            _load_rules()
            point = [leaf.detach() for leaf in self._leaves]
            self._recorded = recorded_tangent(lambda *p: self._function(p), point)
        return self._recorded

    def _dual(self, tangent: Parts) -> Tensor:
        _load_rules()
        with torch.no_grad(), forward_ad.dual_level():
            pairs = zip(self._leaves, tangent, strict=True)
            point = [forward_ad.make_dual(leaf.detach(), t) for leaf, t in pairs]
            outputs, derivative = forward_ad.unpack_dual(self._function(point))
            return torch.zeros_like(outputs) if derivative is None else derivative.clone()

    def _reverse(self, tangent: Parts) -> Tensor:
        """The derivative of u -> J'u, a linear function of a dummy u, is J."""
        if not self.outputs.requires_grad:
            return torch.zeros_like(self.outputs)
        if self._reversed is None:
            with torch.enable_grad():
                dummy = torch.zeros_like(self.outputs, requires_grad=True)
                pulled = torch.autograd.grad(
                    self.outputs, self._leaves, dummy, create_graph=True, allow_unused=True
                )
            self._reversed = dummy, [torch.zeros(()) if g is None else g for g in pulled]
        dummy, pulled = self._reversed
        moving = [(g, t) for g, t in zip(pulled, tangent, strict=True) if g.requires_grad]
        if not moving:
            return torch.zeros_like(self.outputs)
        functions, tangents = zip(*moving, strict=True)
        return torch.autograd.grad(
            functions, dummy, tangents, retain_graph=True, materialize_grads=True
        )[0]


def recorded_tangent(function: Callable[..., Any], point: Parts) -> Callable[..., Any]:
    """The tangent map of a function at a point, its computation recorded once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.fx warns of its own bookkeeping
        _, tangent = torch.func.linearize(function, *point)
    return tangent


def same_product(recorded: Parts, plain: Parts) -> bool:
    """Whether a recorded product is the plain one, to half the digits.

    What draws random numbers (dropout) or branches on values is not recorded rightly.
    """
    pairs = list(zip(recorded, plain, strict=True))
    scale = max(float(b.abs().max()) for _, b in pairs if b.numel())
    allowed = math.sqrt(torch.finfo(plain[0].dtype).eps) * scale
    return all(bool((a - b).abs().max() <= allowed) for a, b in pairs if a.numel())


def unlike(where: str) -> ValueError:
    """The error where a recorded computation gives another product."""
    return ValueError(
        f"{where}(scheme='linearize'): the recorded product is not the right one for this model; "
        "it draws random numbers (dropout) or branches on values. Use the default scheme."
    )


@functools.cache
def _load_rules() -> None:
    """Load torch's rules of forward mode; on first use torch warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
