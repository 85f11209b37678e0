r"""A Krylov space that can start from several vectors and be cut down to its best part.

The state is an orthonormal basis Q, the matrix :math:`T = Q^\top A Q`, and vectors W that wait to
enter the basis, such that

.. math:: A Q = Q T + W C .

A step takes one of W into Q, multiplies it by A, and what is new in the product waits in its turn.
With one vector this is Lanczos' recurrence; with several it is the band Lanczos method, which is
what a warm start from earlier eigenvectors needs. For an eigenpair :math:`(\theta, y)` of T the
residual of :math:`u = Q y` is known without a product: :math:`A u - \theta u = W C y`. If Q is
replaced by Ritz vectors, the relation stays as it is, with T diagonal: a thick restart.

References:
    Ruhe, Implementation aspects of band Lanczos algorithms, 1979.
    Wu and Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, 2000.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.numerics.lanczos import ROUNDING, Product, inner, orthogonalize, project


__all__ = ["KrylovSpace"]

_COLUMNS = 2**14  # columns of the basis rotated at a time, so that a restart needs no second one


@final
class KrylovSpace:
    """The basis, its projection, and the vectors that wait.

    Args:
        product: The map; its argument is not to be changed by it.
        starts: n x p starting vectors; dependent ones are dropped when their turn comes.
        size: The largest number of basis vectors, <= n.
        where: The caller's name, for messages.

    Example:
        >>> space = KrylovSpace(lambda v: 2 * v, torch.ones(4, 1), 2, "example")
        >>> space.expand(0), space.ritz()[0].round(5).tolist(), space.waiting
        (True, [2.0], [])
    """

    def __init__(self, product: Product, starts: Tensor, size: int, where: str) -> None:
        self.product, self.where = product, where
        self.length = len(starts)
        self.rows = starts.new_empty(size, self.length)
        self.projected = np.zeros((size, size))
        self.filled = 0
        self.waiting: list[Tensor] = [starts[:, j].clone() for j in range(starts.shape[1])]
        self.coupling = np.zeros((len(self.waiting), size))
        self.gram = _gram(self.waiting)
        self.products = 0
        self.scale = 0.0
        self.rounding = ROUNDING * torch.finfo(starts.dtype).eps

    def add(self, vector: Tensor) -> bool:
        """Let the part of a vector that is orthogonal to the basis wait; False if there is none."""
        unit, left = orthogonalize(vector, self.rows[: self.filled])
        if left > 0.0:
            self._append(unit, np.zeros(len(self.projected)))
        return left > 0.0

    def expand(self, chosen: int) -> bool:
        """Take a waiting vector into the basis and multiply it.

        Args:
            chosen: Its index in ``waiting``.

        Returns:
            False if nothing of it is left, and the basis is as it was.

        Raises:
            NonFiniteError: If the product has a NaN or an infinite entry.
        """
        m = self.filled
        unit, left = orthogonalize(self.waiting[chosen], self.rows[:m])
        if left == 0.0:
            self._remove(chosen)
            return False
        parts = np.array([inner(unit, other) for other in self.waiting])
        row = parts @ self.coupling[:, :m]
        self.projected[m, :m] = self.projected[:m, m] = row
        for other, part in zip(self.waiting, parts, strict=True):
            other.add_(unit, alpha=-part)
        self.gram -= np.outer(parts, parts)
        self._remove(chosen)
        self.rows[m] = unit
        self._multiply(unit)
        return True

    def _multiply(self, unit: Tensor) -> None:
        m = self.filled
        image = self.product(unit)
        self.products += 1
        value = inner(unit, image)
        if not math.isfinite(value):
            text = f"{self.where}: product {self.products} has a NaN or an infinite entry."
            raise NonFiniteError(text)
        self.projected[m, m] = value
        self.filled = m + 1
        rows = self.rows[: self.filled]
        rest = torch.addmv(image, rows.T, project(image, rows), alpha=-1)
        size = math.sqrt(inner(rest, rest))
        self.scale = max(self.scale, abs(value) + size)
        if size > self.rounding * self.scale and self.filled < self.length:
            coupling = np.zeros(len(self.projected))
            coupling[m] = 1.0
            self._append(rest, coupling)

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues of T, its eigenvectors in columns, and the norms of the residuals."""
        m = self.filled
        values, vectors = np.linalg.eigh(self.projected[:m, :m])
        outside = self.coupling[:, :m] @ vectors
        squares = np.einsum("im,ij,jm->m", outside, self.gram, outside)
        return values, vectors, np.sqrt(np.maximum(squares, 0.0))

    def compress(self, vectors: np.ndarray, order: np.ndarray) -> None:
        """Keep some of the Ritz vectors as the basis.

        Args:
            vectors: Eigenvectors of T, in columns.
            order: Which of them to keep.
        """
        m = self.filled
        picked = vectors[:, order]
        turn = torch.from_numpy(np.ascontiguousarray(picked.T)).to(self.rows)
        for start in range(0, self.length, _COLUMNS):
            block = self.rows[:m, start : start + _COLUMNS]
            self.rows[: len(turn), start : start + _COLUMNS] = turn @ block
        kept = picked.T @ self.projected[:m, :m] @ picked
        self.projected[:] = 0.0
        self.projected[: len(order), : len(order)] = np.diag(np.diag(kept))  # the rest is rounding
        coupling = np.zeros_like(self.coupling)
        coupling[:, : len(order)] = self.coupling[:, :m] @ picked
        self.coupling = coupling
        self.filled = len(order)

    def _append(self, vector: Tensor, coupling: np.ndarray) -> None:
        self.waiting.append(vector)
        self.coupling = np.vstack([self.coupling, coupling])
        products = np.array([inner(vector, other) for other in self.waiting])
        gram = np.zeros((len(products), len(products)))
        gram[:-1, :-1] = self.gram
        gram[-1], gram[:, -1] = products, products
        self.gram = gram

    def _remove(self, index: int) -> None:
        del self.waiting[index]
        self.coupling = np.delete(self.coupling, index, axis=0)
        self.gram = np.delete(np.delete(self.gram, index, axis=0), index, axis=1)


def _gram(vectors: list[Tensor]) -> np.ndarray:
    return np.array([[inner(a, b) for b in vectors] for a in vectors]).reshape(len(vectors), -1)
