r"""Products with the Jacobian of a function of parameters: :math:`J v` and :math:`J^\top u`.

:math:`J^\top u` is a backward pass over a kept graph. :math:`J v` has three schemes:

* ``linearize``: ``torch.func.linearize`` records the tangent's computation once; each product then
  costs about one forward pass. It takes time and memory to record.
* ``dual``: forward-mode differentiation, one forward pass with dual numbers a product.
* ``reverse``: backward through a backward pass; works wherever double backward does.

Only first derivatives are taken, so none of them meets the second derivatives that torch gets wrong
(LayerNorm under forward over reverse). Forward mode still differs from backward mode in places: it
goes through ``no_grad``, and through the padding row of an embedding. So the first product is
preceded by a look whether :math:`u^\top(Jv) = (J^\top u)^\top v`.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from thalweg.objective.graph import once_only


__all__ = [
    "SCHEMES",
    "Tangents",
    "recorded_rightly",
    "recorded_tangent",
    "second_derivative_needed",
    "unlike",
]

SCHEMES = ("linearize", "dual", "reverse")
_BEFORE_RECORDING = 6  # products after which recording the tangent's computation has paid off
_FAILURES = (RuntimeError, TypeError, AssertionError)

Parts = Sequence[Tensor]


@final
class Tangents:
    """Both products with the Jacobian of ``function`` at ``leaves``.

    Args:
        function: Parameters -> outputs, of any shape.
        leaves: The point; they require a gradient.
        scheme: For ``J v``; None begins with ``dual``, records after six products, and takes the
            next scheme where one fails.
        found: Where the scheme that was found right is noted, for another Tangents of the same.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> t = Tangents(lambda p: p[0] ** 2, [x])
        >>> t.forward([torch.ones(2)]).tolist(), t.backward(torch.ones(2))[0].tolist()
        ([2.0, 4.0], [2.0, 4.0])
    """

    def __init__(
        self,
        function: Callable[[Parts], Tensor],
        leaves: Parts,
        scheme: str | None = None,
        found: dict[str, str] | None = None,
    ) -> None:
        self._function = function
        self._leaves = list(leaves)
        self._asked = scheme
        self._found = {} if found is None else found
        self.scheme = scheme or self._found.get("scheme", "dual")
        self._made = 0
        self._recorded: Callable[..., Tensor] | None = None
        self._reversed: tuple[Tensor, list[Tensor]] | None = None
        self._may_record = scheme is None
        with torch.enable_grad():
            self.outputs = function(self._leaves)

    def backward(self, cotangent: Tensor, keep: bool = True) -> list[Tensor]:
        r""":math:`J^\top u`, a part for each leaf; the last one need not ``keep`` the graph."""
        if not self.outputs.requires_grad:
            return [torch.zeros_like(leaf) for leaf in self._leaves]
        grads = torch.autograd.grad(
            self.outputs, self._leaves, cotangent, retain_graph=keep, materialize_grads=True
        )
        return list(grads)

    def forward(self, tangent: Parts, record: bool = True) -> Tensor:
        """:math:`J v`, of the outputs' shape; nothing is recorded for what is soon dropped."""
        if self.scheme == "dual" and "scheme" not in self._found:
            self._settle()
        self._made += 1
        if record and self._may_record and self._made > _BEFORE_RECORDING:
            self._try_recording(tangent)
        if self.scheme == "linearize":
            if self._recorded is None:
                self._refuse_unlike(tangent)
            return self._linearized()(*tangent)
        return self._dual(tangent) if self.scheme == "dual" else self._reverse(tangent)

    def _settle(self) -> None:
        """Take dual numbers where they work and are the transpose of the backward pass."""
        try:
            right = self._is_adjoint()
        except _FAILURES:
            if self._asked == "dual":
                raise
            right = False
        if self._asked == "dual" and not right:
            raise unlike("GGN", "dual")
        if not right:
            self.scheme, self._may_record = "reverse", False
        self._found["scheme"] = self.scheme

    def _is_adjoint(self) -> bool:
        generator = torch.Generator().manual_seed(20_261)
        like = [self.outputs, *self._leaves]
        u, *v = (torch.randn(t.shape, generator=generator).to(t) for t in like)
        pushed, pulled = self._dual(v), self.backward(u)
        ends = _inner([u], [pushed]), _inner(pulled, v)
        sizes = math.sqrt(_inner([pushed], [pushed])) + math.sqrt(_inner(pulled, pulled))
        return abs(ends[0] - ends[1]) <= math.sqrt(torch.finfo(u.dtype).eps) * sizes

    def _try_recording(self, tangent: Parts) -> None:
        """Record the tangent's computation, and keep it if it gives what dual numbers give."""
        self._may_record = False
        if self.scheme != "dual":
            return
        try:
            plain = self._dual(tangent)
            same = recorded_rightly(lambda: [self._linearized()(*tangent)], [plain])
        except _FAILURES:
            same = False
        if same:
            self.scheme = "linearize"
        else:
            self._recorded = None

    def _refuse_unlike(self, tangent: Parts) -> None:
        plain = self._reverse(tangent)
        if not recorded_rightly(lambda: [self._linearized()(*tangent)], [plain]):
            self._recorded = None
            raise unlike("GGN", "linearize")

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
            if name := once_only(self.outputs):  # torch would leave it out
                raise RuntimeError(
                    f"GGN: {name} has no rule for dual numbers and is marked once_differentiable, "
                    "so there is no derivative along a direction. Replace that layer."
                )
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
        with second_derivative_needed("GGN", "Replace that layer."):
            return torch.autograd.grad(
                functions, dummy, tangents, retain_graph=True, materialize_grads=True
            )[0]


def recorded_tangent(function: Callable[..., Any], point: Parts) -> Callable[..., Any]:
    """The tangent map of a function at a point, its computation recorded once."""
    with warnings.catch_warnings(), _own_draws(point[0]):
        warnings.simplefilter("ignore")  # torch.fx warns of its own bookkeeping
        _, tangent = torch.func.linearize(function, *point)
    return tangent


def recorded_rightly(recorded: Callable[[], Parts], plain: Parts) -> bool:
    """Whether a recorded product is the plain one, to half the digits, and is so again.

    What draws random numbers (dropout) or branches on values is not recorded rightly. In-place
    operations on what torch took for constant (inside LSTM and GRU) are right once, and pile up
    with each call.
    """
    with _own_draws(plain[0]):
        return all(_same(recorded(), plain) for _ in range(2))


def _own_draws(like: Tensor) -> AbstractContextManager[None]:
    """What is drawn inside leaves the random state of the host and the device as it is."""
    return torch.random.fork_rng(devices=[like.device] if like.is_cuda else [])


def _same(recorded: Parts, plain: Parts) -> bool:
    pairs = list(zip(recorded, plain, strict=True))
    scale = max((float(b.abs().max()) for _, b in pairs if b.numel()), default=0.0)
    allowed = math.sqrt(torch.finfo(plain[0].dtype).eps) * scale
    return all(bool((a - b).abs().max() <= allowed) for a, b in pairs if a.numel())


def _inner(a: Parts, b: Parts) -> float:
    pairs = zip(a, b, strict=True)
    return sum(float(torch.dot(s.reshape(-1).double(), t.reshape(-1).double())) for s, t in pairs)


@contextmanager
def second_derivative_needed(where: str, advice: str) -> Iterator[None]:
    """Say in words what torch says of a layer that it differentiates once only.

    Raises:
        RuntimeError: If there is such a layer.
    """
    try:
        yield
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        raise RuntimeError(
            f"{where}: a layer of this model has no second derivative in torch ({error}) {advice}"
        ) from error


def unlike(where: str, scheme: str) -> ValueError:
    """The error where a scheme gives another product."""
    return ValueError(
        f"{where}(scheme={scheme!r}): its product is not the right one for this model, which draws "
        "random numbers (dropout), branches on values, changes tensors in place (LSTM, GRU), or "
        "computes under no_grad. Use the default scheme."
    )


@functools.cache
def _load_rules() -> None:
    """Load torch's rules of forward mode; on first use torch warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
