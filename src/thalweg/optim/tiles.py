"""How a parameter is cut into matrices that are small enough to be decomposed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F


__all__ = ["Tiling", "tiling"]

_LEAST = 16  # tiles of fewer rows save nothing


@final
@dataclass(frozen=True)
class Tiling:
    """A rows x columns matrix as a grid of tiles of one shape.

    The last tiles of a row or column are padded with zeros where the side is no multiple: a second
    moment is zero there, and so is a preconditioned gradient.

    Args:
        grid: The tiles along rows and along columns.
        tile: The shape of one.
        sides: The sides ("left", "right") that get a factor, with its size.
        shape: The matrix's rows and columns.

    Example:
        >>> plan = tiling(torch.Size([5, 2]), 3)
        >>> plan.cut(torch.arange(10.0).view(5, 2))[1].tolist()
        [[6.0, 7.0], [8.0, 9.0], [0.0, 0.0]]
    """

    grid: tuple[int, int]
    tile: tuple[int, int]
    sides: dict[str, int]
    shape: tuple[int, int]

    @property
    def count(self) -> int:
        """The tiles of one matrix."""
        return self.grid[0] * self.grid[1]

    def cut(self, matrix: Tensor) -> Tensor:
        """The parameter's entries, in any shape, to count x tile."""
        (k, m), (j, n) = zip(self.grid, self.tile, strict=True)
        x = matrix.reshape(self.shape)
        if self.count == 1:
            return x.unsqueeze(0)
        x = F.pad(x, (0, j * n - x.shape[1], 0, k * m - x.shape[0]))
        return x.view(k, m, j, n).transpose(1, 2).reshape(-1, m, n)

    def paste(self, tiles: Tensor) -> Tensor:
        """The inverse of :meth:`cut`: rows x columns."""
        (k, m), (j, n) = zip(self.grid, self.tile, strict=True)
        if self.count == 1:
            return tiles[0]
        x = tiles.view(k, j, m, n).transpose(1, 2).reshape(k * m, j * n)
        return x[: self.shape[0], : self.shape[1]]


@functools.cache
def tiling(shape: torch.Size, block: int) -> Tiling:
    """The tiles of a parameter.

    Sides of length 1 are dropped, then the first dimension is taken by all others. A side that is
    longer than ``block`` is cut into the fewest equal parts that are no longer than ``block`` and
    no longer than four times the other side (16 at least), so that the factors of a tall matrix
    never hold much more than the matrix. A vector that is longer than ``block`` gets no factor.

    Args:
        shape: The parameter's, without empty dimensions.
        block: The longest side of a tile, >= 1.

    Returns:
        The tiling.

    Example:
        >>> tiling(torch.Size([3000, 64, 3, 3]), 1024).tile
        (1000, 576)
        >>> tiling(torch.Size([1_000_000, 8]), 1024).tile
        (32, 8)
    """
    kept = [n for n in shape if n > 1] or [1]
    rows, columns = kept[0], 1
    for n in kept[1:]:
        columns *= n
    if columns == 1:
        return Tiling((1, 1), (rows, 1), {"left": rows} if rows <= block else {}, (rows, 1))
    most = [
        min(block, max(_LEAST, 4 * min(other, block))) if own > block else own
        for own, other in ((rows, columns), (columns, rows))
    ]
    k, j = -(-rows // most[0]), -(-columns // most[1])
    m, n = -(-rows // k), -(-columns // j)
    sides = {side: n for side, n in (("left", m), ("right", n)) if n > 1}
    return Tiling((k, j), (m, n), sides, (rows, columns))
