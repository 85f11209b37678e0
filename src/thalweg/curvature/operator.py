"""A linear map known by its products, and the algebra of such maps.

Everything that this room measures, it measures through products: a matrix with a row for each
parameter of a network is never formed. Sums, multiples, products and restrictions of operators are
operators again, which is why they stand in one file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final, overload

import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from thalweg.curvature.scipy_form import scipy_form
from thalweg.curvature.selection import positions, selected
from thalweg.errors import bad_argument
from thalweg.vectors import Vector


__all__ = ["AbstractOperator", "Expression"]

Columns = Callable[[Tensor], Tensor]
_LARGEST_DENSE = 4 * 2**30  # bytes


class AbstractOperator(ABC):
    r"""A linear map :math:`A : \mathbb R^n \to \mathbb R^m`.

    ``A @ v`` takes a flat tensor of n entries, a :class:`~thalweg.vectors.Vector`, a matrix whose K
    columns are multiplied one by one, or another operator. ``A + B``, ``A - B``, ``c * A``,
    ``A.adjoint``, :meth:`damped` and :meth:`submatrix` are operators.

    Args:
        shape: (m, n).
        dtype: Of the entries.
        device: Where products are computed.
        symmetric: Whether the map is its own adjoint.
        domain: A Vector in whose shapes inputs are read; with ``names``, one name a part.
        names: The names of the parts of ``domain``.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
        *,
        symmetric: bool = True,
        domain: Vector | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.symmetric = symmetric
        self.domain = domain
        self.names = list(names)
        self.products = 0

    @abstractmethod
    def _apply(self, columns: Tensor) -> Tensor:
        """The product with n x K columns: m x K."""

    @abstractmethod
    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        """The adjoint's product with m x K columns: n x K."""

    # ---- products -------------------------------------------------------------------------
    @overload
    def __matmul__(self, other: Vector) -> Vector: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: AbstractOperator) -> Expression: ...
    @final
    def __matmul__(self, other: Vector | Tensor | AbstractOperator) -> Vector | Tensor | Expression:
        """The product with a vector, with each column of a matrix, or with an operator."""
        if isinstance(other, AbstractOperator):
            return _product(self, other)
        if isinstance(other, Vector):
            flat = torch.cat([part.detach().reshape(-1) for part in other])
            result = self.apply(flat)
            return other.like(result) if self.shape[0] == self.shape[1] else Vector([result])
        return self.apply(other)

    @final
    def apply(self, columns: Tensor, *, adjoint: bool = False) -> Tensor:
        """The product with a flat tensor or with the columns of a matrix.

        Args:
            columns: n entries, or n x K; of the adjoint m.
            adjoint: Multiply by the adjoint.

        Returns:
            m entries, or m x K; of the adjoint n.

        Raises:
            ValueError: If the number of rows does not fit.
        """
        rows = self.shape[0] if adjoint else self.shape[1]
        if not isinstance(columns, Tensor) or columns.ndim not in (1, 2) or len(columns) != rows:
            shown = tuple(columns.shape) if isinstance(columns, Tensor) else columns
            allowed = f"a tensor of {rows} entries or of {rows} rows"
            raise bad_argument(type(self).__name__, "v", shown, allowed)
        matrix = columns.detach().to(self.device, self.dtype).reshape(rows, -1)
        self.products += matrix.shape[1]
        result = self._apply_adjoint(matrix) if adjoint else self._apply(matrix)
        return result.reshape(-1) if columns.ndim == 1 else result

    # ---- algebra --------------------------------------------------------------------------
    @final
    def __add__(self, other: AbstractOperator) -> Expression:
        """The sum of two operators of one shape."""
        _check_same(self, other)
        return _from(
            self,
            lambda v: self.apply(v) + other.apply(v),
            lambda u: self.apply(u, adjoint=True) + other.apply(u, adjoint=True),
            symmetric=self.symmetric and other.symmetric,
        )

    @final
    def __sub__(self, other: AbstractOperator) -> Expression:
        """The difference of two operators of one shape."""
        return self + (-1.0) * other

    @final
    def __mul__(self, factor: float) -> Expression:
        """The multiple by a number."""
        if isinstance(factor, (AbstractOperator, Vector)):
            raise TypeError("Operators are multiplied with @; * takes a number.")
        return _from(
            self,
            lambda v: self.apply(v) * factor,
            lambda u: self.apply(u, adjoint=True) * factor,
            symmetric=self.symmetric,
        )

    __rmul__ = __mul__

    @final
    def __neg__(self) -> Expression:
        """The operator with its sign turned."""
        return self * -1.0

    @final
    def damped(self, damping: float) -> Expression:
        r""":math:`A + \delta I`.

        Args:
            damping: The shift delta, any finite number.

        Returns:
            The shifted operator.

        Raises:
            ValueError: If the operator is not square or the damping not finite.
        """
        _check_square(self)
        if not math.isfinite(damping):
            raise bad_argument("damped", "damping", damping, "a finite number")
        return _from(
            self,
            lambda v: self.apply(v) + damping * v,
            lambda u: self.apply(u, adjoint=True) + damping * u,
            symmetric=self.symmetric,
        )

    @property
    @final
    def adjoint(self) -> AbstractOperator:
        """The adjoint; a symmetric operator is its own."""
        if self.symmetric:
            return self
        return Expression(
            (self.shape[1], self.shape[0]),
            lambda u: self.apply(u, adjoint=True),
            self.apply,
            self.dtype,
            self.device,
        )

    T = adjoint

    @final
    def submatrix(self, *patterns: str) -> Expression:
        """The rows and columns of the parameters whose names match.

        Args:
            *patterns: Names, with ``*`` and ``?`` as in file names: ``"fc2.*"``.

        Returns:
            The square operator over those parameters, in their order.

        Raises:
            ValueError: If no parameter matches.
        """
        _check_square(self)
        if self.domain is None or not self.names:
            raise ValueError(f"{type(self).__name__}.submatrix: its parameters have no names.")
        kept = selected(self.names, patterns, "submatrix")
        index = positions(self.domain, kept).to(self.device)
        columns = self.shape[1]

        def inside(product: Columns) -> Columns:
            def apply(v: Tensor) -> Tensor:
                full = v.new_zeros(columns, v.shape[1])
                full[index] = v
                return product(full)[index]

            return apply

        return Expression(
            (len(index), len(index)),
            inside(self.apply),
            inside(lambda u: self.apply(u, adjoint=True)),
            self.dtype,
            self.device,
            symmetric=self.symmetric,
            domain=Vector(self.domain[i] for i in kept),
            names=[self.names[i] for i in kept],
        )

    # ---- into other forms -----------------------------------------------------------------
    @final
    def to_dense(self) -> Tensor:
        """The matrix itself, from n products.

        Returns:
            m x n entries.

        Raises:
            ValueError: If it would take more than 4 GiB.
        """
        rows, columns = self.shape
        if rows * columns * self.dtype.itemsize > _LARGEST_DENSE:
            allowed = "at most 4 GiB; use products, submatrix() or an estimator"
            raise bad_argument(f"{type(self).__name__}.to_dense", "shape", self.shape, allowed)
        dense = torch.empty(rows, columns, dtype=self.dtype, device=self.device)
        for start in range(0, columns, 64):
            width = min(64, columns - start)
            unit = torch.zeros(columns, width, dtype=self.dtype, device=self.device)
            unit[start : start + width].fill_diagonal_(1.0)
            dense[:, start : start + width] = self.apply(unit)
        return dense

    @final
    def to_scipy(self) -> LinearOperator:
        """A ``scipy.sparse.linalg.LinearOperator`` on NumPy arrays, for scipy's solvers.

        Example:
            >>> from scipy.sparse.linalg import eigsh
            >>> scale = torch.arange(1.0, 21.0)[:, None]
            >>> A = Expression((20, 20), lambda v: scale * v, symmetric=True)
            >>> eigsh(A.to_scipy(), k=1, return_eigenvectors=False).round(3).item()
            20.0
        """
        return scipy_form(self.shape, self.dtype, self.apply)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]} x {self.shape[1]}, {self.dtype})"


@final
class Expression(AbstractOperator):
    """An operator given by functions: what the algebra returns, and a door for one's own.

    Args:
        shape: (m, n).
        product: n x K columns to m x K columns.
        adjoint_product: m x K columns to n x K columns; None where ``symmetric``.
        dtype: Of the entries.
        device: Where products are computed.
        symmetric: Whether the map is its own adjoint.
        domain: A Vector in whose shapes inputs are read.
        names: The names of its parts.

    Example:
        >>> double = Expression((3, 3), lambda v: 2 * v, symmetric=True)
        >>> (double.damped(1.0) @ torch.ones(3)).tolist()
        [3.0, 3.0, 3.0]
    """

    def __init__(
        self,
        shape: tuple[int, int],
        product: Columns,
        adjoint_product: Columns | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        symmetric: bool = False,
        domain: Vector | None = None,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(
            shape, dtype, torch.device(device), symmetric=symmetric, domain=domain, names=names
        )
        self._product = product
        self._adjoint_product = product if symmetric else adjoint_product

    def _apply(self, columns: Tensor) -> Tensor:
        return self._product(columns)

    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        if self._adjoint_product is None:
            raise TypeError("Expression: the product of the adjoint was not given.")
        return self._adjoint_product(columns)


def _from(
    like: AbstractOperator, product: Columns, adjoint_product: Columns, *, symmetric: bool
) -> Expression:
    return Expression(
        like.shape,
        product,
        adjoint_product,
        like.dtype,
        like.device,
        symmetric=symmetric,
        domain=like.domain,
        names=like.names,
    )


def _product(first: AbstractOperator, second: AbstractOperator) -> Expression:
    if first.shape[1] != second.shape[0]:
        raise ValueError(f"Operators of shapes {first.shape} and {second.shape} do not multiply.")
    return Expression(
        (first.shape[0], second.shape[1]),
        lambda v: first.apply(second.apply(v)),
        lambda u: second.apply(first.apply(u, adjoint=True), adjoint=True),
        first.dtype,
        first.device,
        domain=second.domain,
        names=second.names,
    )


def _check_square(operator: AbstractOperator) -> None:
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"{operator!r} is not square.")


def _check_same(first: AbstractOperator, second: AbstractOperator) -> None:
    if not isinstance(second, AbstractOperator) or first.shape != second.shape:
        raise ValueError(f"{first!r} and {second!r} do not add: their shapes differ.")
