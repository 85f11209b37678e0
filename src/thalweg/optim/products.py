r"""Where a step's products with the Hessian come from.

Handed one of our closures, a method gets exact products: the gradient's own graph is
differentiated again. Handed an ordinary torch closure, as training frameworks pass them, or a model
some of whose layers have no second derivative, it gets differences of gradients,

.. math:: H v \approx \frac{\nabla L(\theta + h v) - \nabla L(\theta - h v)}{2 h},

and says so once. They are right to about 1e-3 on smooth networks in float32; an ordinary closure is
called two more times for each product, with the same random numbers, and what it does besides (a
running statistic, a counter) it does three times.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from thalweg.objective import AbstractClosure, AbstractProducts
from thalweg.vectors import Vector


__all__ = ["CurvatureFallbackWarning", "Guarded", "Look", "look"]

Closure = Callable[[], Any]
Caller = Callable[[Closure], Any]

_SAID: set[tuple[str, str]] = set()
_INSIDE = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))
# What torch says where an operation cannot be differentiated twice.
_MISSING = ("derivative for", "is not implemented", "double backward", "differentiate twice")


@final
class CurvatureFallbackWarning(UserWarning):
    """Products are taken by finite differences, and why.

    Example:
        >>> raise CurvatureFallbackWarning("AdaHessian: an ordinary closure.")
        Traceback (most recent call last):
        thalweg.optim.products.CurvatureFallbackWarning: AdaHessian: an ordinary closure.
    """


@final
class Look:
    """A loss with its gradient (in ``.grad``) and products with the Hessian there.

    Args:
        loss: What the closure returned.
        product: v -> H v, over the parameters that were asked for.
        exact: Whether by differentiation; else by finite differences.
    """

    def __init__(self, loss: Any, product: Callable[[Vector], Vector], exact: bool) -> None:
        self.loss = loss
        self.product = product
        self.exact = exact


def look(
    name: str,
    closure: Closure,
    params: Sequence[Tensor],
    call: Caller,
    differences: bool = False,
) -> Look:
    """Evaluate a closure such that products with its Hessian can be taken.

    Args:
        name: The method, for the warning.
        closure: One of ours, or any that zeroes gradients, calls backward and returns the loss.
        params: The parameters over which products are taken.
        call: The optimizer's own way to call a closure (with autograd, refusing a non-finite loss).
        differences: Whether to take one-sided differences, of the gradient at one more point and
            the one here, whatever the closure: the cheapest, and nothing to warn of.

    Returns:
        The look; to be dropped before the parameters move.
    """
    if isinstance(closure, AbstractClosure):
        if differences:
            return Look(call(closure), _Restricted(closure, params).one_sided, False)
        return _exact(name, closure, params, call)
    if not differences:
        _say_once(
            name,
            "an ordinary closure was passed, so products with the Hessian are differences of "
            "gradients (right to about 1e-3). Pass objective.closure(x, y) for exact ones.",
        )
    return _live_differences(closure, params, call, differences)


def _exact(name: str, closure: AbstractClosure, params: Sequence[Tensor], call: Caller) -> Look:
    """By double backward; by differences where a layer turns out to have no second derivative."""
    made: list[AbstractProducts] = []

    def evaluate() -> Tensor:
        loss, products = closure.with_products()
        made.append(products)
        return loss

    try:
        loss = call(evaluate)
    except RuntimeError as error:
        _refuse_unless_missing(name, error)
        loss = call(closure)
    if made:
        return Look(loss, Guarded(name, closure, params, lambda: made[0]), True)
    return Look(loss, _Restricted(closure, params).differences, False)


@final
class _Restricted:
    """A closure's parameters, and those of them that an optimizer holds."""

    def __init__(self, closure: AbstractClosure, params: Sequence[Tensor]) -> None:
        self._closure = closure
        place = {id(p): i for i, p in enumerate(closure.params)}
        self._where = [place.get(id(p)) for p in params]
        self._params = list(params)

    def whole(self, v: Vector, count: int | None = None) -> Vector:
        """V with zeros for the parameters that the optimizer does not hold; ``count`` of them."""
        if self._where == list(range(len(self._closure.params))):
            return v
        more = () if count is None else (count,)
        parts = [p.new_zeros((*more, *p.shape)) for p in self._closure.params]
        for i, part in zip(self._where, v, strict=True):
            if i is not None:
                parts[i] = part
        return Vector(parts)

    def only(self, product: Vector, count: int | None = None) -> Vector:
        """The optimizer's part of a product; zeros where the closure has no such parameter."""
        more = () if count is None else (count,)
        return Vector(
            p.new_zeros((*more, *p.shape)) if i is None else product[i]
            for i, p in zip(self._where, self._params, strict=True)
        )

    def differences(self, v: Vector) -> Vector:
        """Central differences of gradients, at points that the model never sees."""
        here, whole = self._closure.params.detach(), self.whole(v)
        step = _step(here, whole)
        if step == 0.0:
            return v.zeros_like()
        ends = [self._closure.value_and_grad(here.add(whole, alpha=h))[1] for h in (step, -step)]
        return self.only((ends[0] - ends[1]).div_(2 * step))

    def one_sided(self, v: Vector) -> Vector:
        """The difference of the gradient ahead and the one that the call has left."""
        here, whole = self._closure.params.detach(), self.whole(v)
        step = _step(here, whole)
        if step == 0.0:
            return v.zeros_like()
        ahead = self._closure.value_and_grad(here.add(whole, alpha=step))[1]
        return self.only((ahead - _gradient(self._closure.params)).div_(step))


@final
class Guarded:
    """Products over an optimizer's parameters, by differences where a second derivative lacks.

    Args:
        name: The method, for the warning.
        closure: Ours.
        params: The parameters over which products are taken; where those are found to be
            differences, the live ones are to stand where ``products`` do.
        products: Gives v -> H v over the closure's parameters.
    """

    def __init__(
        self,
        name: str,
        closure: AbstractClosure,
        params: Sequence[Tensor],
        products: Callable[[], AbstractProducts],
    ) -> None:
        self._name, self._products = name, products
        self._within, self._missing = _Restricted(closure, params), False

    def __call__(self, v: Vector) -> Vector:
        """H v."""
        if not self._missing:
            try:
                return self._within.only(self._products()(self._within.whole(v)))
            except RuntimeError as error:
                _refuse_unless_missing(self._name, error)
                self._missing = True
        return self._within.differences(v)

    def many(self, rows: Vector) -> Vector:
        """H v for several v, in parts with one more dimension in front."""
        if not self._missing:
            try:
                count = len(rows[0])
                whole = self._within.whole(rows, count)
                return self._within.only(self._products().many(whole), count)
            except RuntimeError as error:
                _refuse_unless_missing(self._name, error)
                self._missing = True
        single = [self._within.differences(Vector(v)) for v in zip(*rows, strict=True)]
        return Vector([torch.stack(parts) for parts in zip(*single, strict=True)])


def _gradient(params: Sequence[Tensor]) -> Vector:
    return Vector(torch.zeros_like(p) if p.grad is None else p.grad for p in params)


def _live_differences(
    closure: Closure, params: Sequence[Tensor], call: Caller, one_sided: bool
) -> Look:
    """Differences, central or one-sided, by moving the live parameters there and exactly back."""
    devices = sorted({p.device.index or 0 for p in params if p.is_cuda})
    host, cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in devices]
    loss = call(closure)

    def gradient() -> Vector:
        for p in params:
            p.grad = None
        with torch.random.fork_rng(devices):  # dropout draws the same masks
            torch.set_rng_state(host)
            for d, state in zip(devices, cuda, strict=True):
                torch.cuda.set_rng_state(state, d)
            call(closure)
        return _gradient(params)

    def product(v: Vector) -> Vector:
        here, grads = Vector(params).clone(), [p.grad for p in params]
        kept = [None if grad is None else grad.clone() for grad in grads]
        step = _step(here, v)
        if step == 0.0:
            return v.zeros_like()
        ends = [_gradient(params).clone()] if one_sided else []
        try:
            for h in (step,) if one_sided else (-step, step):
                for p, start, part in zip(params, here, v, strict=True):
                    p.copy_(start + h * part)
                ends.append(gradient().clone())
        finally:
            for p, start, grad, values in zip(params, here, grads, kept, strict=True):
                p.copy_(start)
                p.grad = grad
                if (
                    grad is not None and values is not None
                ):  # it may be a view of a buffer that each call fills
                    grad.copy_(values)
        return ends[1].sub_(ends[0]).div_(step if one_sided else 2 * step)

    return Look(loss, product, False)


def _step(here: Vector, v: Vector) -> float:
    """The step that balances truncation against rounding; 0 for a zero vector."""
    length = _length(v)
    eps = torch.finfo(here[0].dtype).eps if len(here) else 0.0
    return eps ** (1 / 3) * (1.0 + _length(here)) / length if length > 0.0 else 0.0


def _length(v: Vector) -> float:
    """The norm, to a few digits: in the tensors' own type, which is much faster than in float64."""
    real = [torch.view_as_real(part) if part.is_complex() else part for part in v]
    flat = [part.detach().reshape(-1) for part in real if part.numel()]
    wide = [part if part.element_size() > 2 else part.float() for part in flat]
    squares = [torch.dot(part, part).double().to(wide[0].device) for part in wide]
    total = float(torch.stack(squares).sum()) if squares else 0.0
    return total**0.5 if 0.0 < total < float("inf") else float(v.norm())


def _refuse_unless_missing(name: str, error: Exception) -> None:
    """Go on where a second derivative is missing, and say so once; raise any other error."""
    text = str(error)
    if not any(sign in text for sign in _MISSING):
        raise error
    _say_once(
        name,
        f"a layer has no second derivative ({text.splitlines()[0]}), so products with the Hessian "
        "are differences of gradients (right to about 1e-3 on smooth networks).",
    )


def _say_once(name: str, message: str) -> None:
    if (name, message) not in _SAID:
        _SAID.add((name, message))
        warnings.warn(f"{name}: {message}", CurvatureFallbackWarning, stacklevel=_callers_level())


def _callers_level() -> int:
    """The level of the first line, from the warning's, that is neither ours nor torch's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    return level
