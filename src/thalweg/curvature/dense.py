"""A matrix as an operator."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from thalweg.curvature.operator import AbstractOperator
from thalweg.errors import bad_argument


__all__ = ["Dense"]


@final
class Dense(AbstractOperator):
    """A matrix as an operator: for tests, for small problems, and for scipy-sized ones.

    Args:
        matrix: m x n entries.
        symmetric: Whether it is its own transpose; by default it is looked at.

    Raises:
        ValueError: If it is not a matrix.

    Example:
        >>> A = Dense(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
        >>> (A @ torch.tensor([1.0, 0.0])).tolist(), A.symmetric
        ([2.0, 1.0], True)
    """

    def __init__(self, matrix: Tensor, symmetric: bool | None = None) -> None:
        if matrix.ndim != 2:
            raise bad_argument("Dense", "matrix", tuple(matrix.shape), "a matrix")
        rows, columns = matrix.shape
        if symmetric is None:
            symmetric = rows == columns and torch.equal(matrix, matrix.T)
        super().__init__((rows, columns), matrix.dtype, matrix.device, symmetric=symmetric)
        self.matrix = matrix.detach().clone()

    def _apply(self, columns: Tensor) -> Tensor:
        return self.matrix @ columns

    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        return self.matrix.T @ columns
