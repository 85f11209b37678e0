"""A matrix of low rank from some of its entries: a problem that is not convex, and solvable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.measures import EXPLAINED_VARIANCE
from thalweg.problems.metric import Target
from thalweg.problems.problem import Problem
from thalweg.problems.streams import generator


__all__ = ["Factors", "matrix_completion"]

SHAPE: Final = (300, 200)
RANK: Final = 10


@final
class Factors(nn.Module):
    r"""A matrix as a product of two thin ones, :math:`U V^T`, read entry by entry.

    Args:
        shape: Rows and columns of the matrix.
        rank: Columns of each factor.
        spread: Standard deviation of the initial factors; zero would be a saddle.

    Example:
        >>> Factors((3, 2), rank=1)(torch.tensor([[0, 1], [2, 0]])).shape
        torch.Size([2])
    """

    def __init__(self, shape: Sequence[int], rank: int, spread: float = 0.1) -> None:
        super().__init__()
        rows, columns = shape
        self.rows = nn.Parameter(spread * torch.randn(rows, rank))
        self.columns = nn.Parameter(spread * torch.randn(columns, rank))

    def forward(self, places: Tensor) -> Tensor:
        """The entries at ``places``, each a row and a column: shape ``(n, 2)`` to ``(n,)``."""
        row, column = places.unbind(-1)
        return (self.rows[row] * self.columns[column]).sum(-1)


@cache
def completion_data() -> Data:
    """A 300 by 200 matrix of rank 10: some entries to learn from, others to be guessed.

    Singular values fall evenly in the logarithm from 1 to 0.01; entries are scaled to a mean square
    of one. 18,000 of the 60,000 are for training, 3,000 each for validation and test.
    """
    draws = generator(0, "completion")
    left, right = (
        torch.linalg.qr(torch.randn(n, RANK, generator=draws, dtype=torch.float64))[0]
        for n in SHAPE
    )
    matrix = (left * torch.logspace(0, -2, RANK, dtype=torch.float64)) @ right.T
    matrix = (matrix / matrix.square().mean().sqrt()).float()
    order = torch.randperm(matrix.numel(), generator=draws)
    places = torch.stack([order // SHAPE[1], order % SHAPE[1]], dim=1)
    values = matrix.flatten()[order]
    pairs = list(
        zip(
            places[:24_000].split([18_000, 3_000, 3_000]),
            values[:24_000].split([18_000, 3_000, 3_000]),
            strict=True,
        )
    )
    recipe = f"rank {RANK}, 18,000 entries to train on, 3,000 for validation and 3,000 for the test"
    return Data(pairs[0], pairs[1], pairs[2], "made from a seed", "MIT", recipe)


def matrix_completion() -> Problem:
    """A matrix of rank ten from three tenths of its entries, by two factors.

    Example:
        >>> matrix_completion().batch_size
        2048
    """
    return Problem(
        "matrix-completion",
        partial(Factors, SHAPE, RANK),
        F.mse_loss,
        completion_data(),
        batch_size=2048,
        metric=EXPLAINED_VARIANCE,
        target=Target("validation_loss", 0.000119),
        steps=300,
        title="Matrix completion",
        description="A 300 by 200 matrix of rank 10, condition number 100, from 18,000 of its "
        "entries; the product of two factors of ten columns, a problem that is not convex. The "
        "loss is relative to the entries' mean square.",
    )
