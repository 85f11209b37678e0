"""One noun: a point or a direction in parameter space, with the algebra of one tensor.

A :class:`Vector` is a list of tensors that behaves like a single one. An update rule written for
a tensor runs on a Vector unchanged: the same four lines of Adam are called tensor by tensor or,
through ``torch._foreach``, on all of them at once. Krylov methods and planes ask for
:meth:`Vector.flatten`, whose tensors are views of one flat buffer, so that a dot product is one
kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, final

import torch
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["Vector"]

Scalar = float | int | Tensor


@final
class Vector(Sequence[Tensor]):
    r"""A point or direction :math:`v \in \mathbb{R}^n`, kept as the tensors it is made of.

    Operators take another Vector of the same shapes, or a number. Methods ending in ``_`` change
    the tensors in place and return the Vector, as torch's do. Inner products and norms accumulate
    in float64, whatever the tensors' type: float32 sums are off by 4e-4 at ten million entries.

    Args:
        tensors: The parts, in order. They are kept, not copied.
        flat: The one-dimensional buffer that the parts are views of, where there is one.

    Raises:
        TypeError: If a part is not a tensor.

    Example:
        >>> v = Vector([torch.ones(2), torch.tensor(2.0)])
        >>> (2 * v + v).dot(v).item()
        18.0
        >>> v.flatten().flat
        tensor([1., 1., 2.])
    """

    __slots__ = ("flat", "tensors")

    def __init__(self, tensors: Iterable[Tensor], flat: Tensor | None = None) -> None:
        self.tensors: list[Tensor] = list(tensors)
        self.flat: Tensor | None = flat
        for part in self.tensors:
            if not isinstance(part, Tensor):
                raise TypeError(f"Vector(tensors=...): every part must be a tensor, got {part!r}.")

    # ---- a sequence of tensors ------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return self.tensors[index]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(part.shape)) for part in self.tensors[:4])
        more = ", ..." if len(self) > 4 else ""
        return f"Vector({self.numel()} entries in {len(self)} tensors: {shapes}{more})"

    def numel(self) -> int:
        """The number n of entries."""
        return sum(part.numel() for part in self.tensors)

    # ---- making new ones ------------------------------------------------------------------
    def map(self, function: Callable[[Tensor], Tensor]) -> Vector:
        """The Vector of ``function`` of each part."""
        return Vector(map(function, self.tensors))

    def clone(self) -> Vector:
        """A copy that shares no memory and carries no autograd history."""
        return self.map(lambda part: part.detach().clone())

    def detach(self) -> Vector:
        """The same memory without autograd history."""
        return Vector([part.detach() for part in self.tensors], self.flat)

    def zeros_like(self) -> Vector:
        """Zeros of the same shapes, types and devices."""
        return self.map(torch.zeros_like)

    def flatten(self) -> Vector:
        """A copy whose parts are views of one flat buffer (the parts share type and device)."""
        if not self.tensors:
            return Vector([], torch.zeros(0))
        return self.like(torch.cat([part.detach().reshape(-1) for part in self.tensors]))

    def like(self, flat: Tensor) -> Vector:
        """Read a flat tensor of n entries as a Vector of these shapes, without copying.

        Raises:
            ValueError: If ``flat`` has not n entries.
        """
        if flat.ndim != 1 or flat.numel() != self.numel():
            allowed = f"a flat tensor of {self.numel()} entries"
            raise bad_argument("Vector.like", "flat", tuple(flat.shape), allowed)
        return _views(flat, [part.shape for part in self.tensors])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, the parts are still views of the flat buffer."""
        if self.flat is None:
            return Vector, (self.tensors,)
        return _views, (self.flat, [part.shape for part in self.tensors])

    # ---- reductions -----------------------------------------------------------------------
    def dot(self, other: Vector) -> Tensor:
        """The inner product, accumulated in float64; a 0-dim tensor. Complex entries are pairs."""
        if self.flat is not None and other.flat is not None:
            return torch.dot(_doubles(self.flat), _doubles(other.flat))
        return self._sum(
            torch.dot(_doubles(a), _doubles(b))
            for a, b in zip(self.tensors, other.tensors, strict=True)
        )

    def norm(self) -> Tensor:
        """The Euclidean norm, accumulated in float64; a 0-dim tensor."""
        parts = self.tensors if self.flat is None else [self.flat]
        return self._sum(_length(part).square() for part in parts).sqrt()

    def is_complex(self) -> bool:
        """Whether the entries are complex."""
        return bool(self.tensors) and self.tensors[0].is_complex()

    def isfinite(self) -> bool:
        """Whether no entry is NaN or infinite."""
        return all(bool(part.isfinite().all()) for part in self.tensors)

    def _sum(self, terms: Iterable[Tensor]) -> Tensor:
        device = self.tensors[0].device if self.tensors else None
        total = torch.zeros((), dtype=torch.float64, device=device)
        for term in terms:
            total = total + term.to(total.device)
        return total

    # ---- algebra --------------------------------------------------------------------------
    def __add__(self, other: Vector | Scalar) -> Vector:
        return Vector(_each(torch._foreach_add, self.tensors, _parts(other)))

    def __sub__(self, other: Vector | Scalar) -> Vector:
        return Vector(_each(torch._foreach_sub, self.tensors, _parts(other)))

    def __mul__(self, other: Vector | Scalar) -> Vector:
        return Vector(_each(torch._foreach_mul, self.tensors, _parts(other)))

    def __truediv__(self, other: Vector | Scalar) -> Vector:
        return Vector(_each(torch._foreach_div, self.tensors, _parts(other)))

    def __neg__(self) -> Vector:
        return Vector(_each(torch._foreach_neg, self.tensors))

    __rmul__ = __mul__
    __radd__ = __add__
    mul = __mul__
    div = __truediv__
    neg = __neg__

    def add(self, other: Vector | Scalar, *, alpha: float = 1) -> Vector:
        """``self + alpha * other``."""
        return Vector(_scaled_add(torch._foreach_add, self.tensors, other, alpha))

    def sqrt(self) -> Vector:
        """The square root of each entry."""
        return Vector(_each(torch._foreach_sqrt, self.tensors))

    def abs(self) -> Vector:
        """The absolute value of each entry."""
        return Vector(_each(torch._foreach_abs, self.tensors))

    def sign(self) -> Vector:
        """The sign of each entry."""
        return Vector(_each(torch._foreach_sign, self.tensors))

    def pow(self, exponent: float) -> Vector:
        """Each entry to the power ``exponent``."""
        return Vector(_each(torch._foreach_pow, self.tensors, exponent))

    def addcmul(self, first: Vector, second: Vector, *, value: float = 1) -> Vector:
        """``self + value * first * second``, entry by entry."""
        return Vector(
            _each(torch._foreach_addcmul, self.tensors, first.tensors, second.tensors, value)
        )

    # ---- in place -------------------------------------------------------------------------
    def add_(self, other: Vector | Scalar, *, alpha: float = 1) -> Self:
        """``self += alpha * other``."""
        _scaled_add(torch._foreach_add_, self.tensors, other, alpha)
        return self

    def sub_(self, other: Vector | Scalar) -> Self:
        """``self -= other``."""
        _each(torch._foreach_sub_, self.tensors, _parts(other))
        return self

    def mul_(self, other: Vector | Scalar) -> Self:
        """``self *= other``."""
        _each(torch._foreach_mul_, self.tensors, _parts(other))
        return self

    def div_(self, other: Vector | Scalar) -> Self:
        """``self /= other``."""
        _each(torch._foreach_div_, self.tensors, _parts(other))
        return self

    def sqrt_(self) -> Self:
        """The square root of each entry."""
        _each(torch._foreach_sqrt_, self.tensors)
        return self

    def zero_(self) -> Self:
        """Every entry 0."""
        _each(torch._foreach_zero_, self.tensors)
        return self

    def copy_(self, other: Vector) -> Self:
        """Take the entries of ``other``."""
        _each(torch._foreach_copy_, self.tensors, other.tensors)
        return self

    def lerp_(self, end: Vector, weight: float) -> Self:
        """``self += weight * (end - self)``."""
        _each(torch._foreach_lerp_, self.tensors, end.tensors, weight)
        return self

    def addcmul_(self, first: Vector, second: Vector, *, value: float = 1) -> Self:
        """``self += value * first * second``, entry by entry."""
        _each(torch._foreach_addcmul_, self.tensors, first.tensors, second.tensors, value)
        return self

    def addcdiv_(self, first: Vector, second: Vector, *, value: float = 1) -> Self:
        """``self += value * first / second``, entry by entry."""
        _each(torch._foreach_addcdiv_, self.tensors, first.tensors, second.tensors, value)
        return self

    def clamp_min_(self, low: Vector | float) -> Self:
        """The larger of the two, entry by entry."""
        _each(torch._foreach_clamp_min_, self.tensors, _parts(low))
        return self

    def clamp_max_(self, high: Vector | float) -> Self:
        """The smaller of the two, entry by entry."""
        _each(torch._foreach_clamp_max_, self.tensors, _parts(high))
        return self

    def clamp_(self, low: float, high: float) -> Self:
        """The nearest number between the two, entry by entry."""
        return self.clamp_min_(low).clamp_max_(high)

    def reciprocal_(self) -> Self:
        """One over each entry."""
        _each(torch._foreach_reciprocal_, self.tensors)
        return self


def _each(
    function: Callable[..., Any], tensors: list[Tensor], *arguments: Any, **options: Any
) -> Any:
    """Torch's fused functions refuse a list without tensors, on which there is nothing to do."""
    return function(tensors, *arguments, **options) if tensors else []


def _parts(other: Vector | Scalar) -> Any:  # torch's overloads do not take the union
    return other.tensors if isinstance(other, Vector) else other


def _views(flat: Tensor, shapes: Sequence[torch.Size]) -> Vector:
    pieces = flat.split([shape.numel() for shape in shapes]) if shapes else ()
    return Vector([piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)], flat)


def _length(part: Tensor) -> Tensor:
    real = torch.view_as_real(part) if part.is_complex() else part
    return torch.linalg.vector_norm(real, dtype=torch.float64)


def _doubles(part: Tensor) -> Tensor:
    return (torch.view_as_real(part) if part.is_complex() else part).reshape(-1).double()


def _scaled_add(
    add: Callable[..., Any], tensors: list[Tensor], other: Vector | Scalar, alpha: float
) -> Any:
    """``_foreach_add`` takes ``alpha`` beside a list only; beside a number it is multiplied in."""
    if isinstance(other, Vector):
        return _each(add, tensors, other.tensors, alpha=alpha)
    return _each(add, tensors, other * alpha)
