"""What the Krylov estimators ask of an operator: it is real and symmetric."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from thalweg.curvature.operator import AbstractOperator
from thalweg.errors import NonFiniteError, bad_argument
from thalweg.numerics.lanczos import Product


__all__ = ["check_symmetric", "dense_eigh", "dense_matrix", "symmetric_product", "working_dtype"]


def check_symmetric(where: str, operator: Any) -> None:
    """Raise unless ``operator`` is a real symmetric operator with entries.

    Raises:
        TypeError: If it is no operator, or complex.
        ValueError: If it is not square, not declared symmetric, or empty.
    """
    if not isinstance(operator, AbstractOperator):
        raise TypeError(f"{where}(A={type(operator).__name__}): a curvature operator is needed.")
    if operator.shape[0] != operator.shape[1] or not operator.shape[0]:
        raise bad_argument(where, "A", operator, "square, with at least one row")
    if not operator.symmetric:
        allowed = "symmetric; say so if it is: Expression(..., symmetric=True)"
        raise bad_argument(where, "A", operator, allowed)
    if operator.dtype.is_complex:
        raise TypeError(f"{where}(A={operator!r}): complex operators are not supported.")


def working_dtype(operator: AbstractOperator) -> torch.dtype:
    """The type of the vectors: float64 for a float64 operator, else float32."""
    return torch.float64 if operator.dtype == torch.float64 else torch.float32


@contextmanager
def symmetric_product(
    where: str, operator: AbstractOperator, progress: bool, total: int
) -> Iterator[Product]:
    """The products of an operator, in the working type, with a progress bar if asked for."""
    kind = working_dtype(operator)

    def product(vector: Tensor) -> Tensor:
        return operator.apply(vector).to(kind)

    if not progress:
        yield product
        return
    with Progress(transient=True) as bar:
        task = bar.add_task(where, total=total)

        def counted(vector: Tensor) -> Tensor:
            bar.advance(task)
            return product(vector)

        yield counted


def dense_matrix(where: str, operator: AbstractOperator) -> np.ndarray:
    """The matrix in float64 on the CPU, from n products, made exactly symmetric.

    Raises:
        NonFiniteError: If an entry is NaN or infinite.
        ValueError: If it is too large to be formed.
    """
    matrix = operator.to_dense().double().cpu().numpy()
    if not np.isfinite(matrix).all():
        raise NonFiniteError(f"{where}: the matrix of {operator!r} has NaN or infinite entries.")
    return (matrix + matrix.T) / 2


def dense_eigh(where: str, operator: AbstractOperator) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors of the matrix."""
    return np.linalg.eigh(dense_matrix(where, operator))
