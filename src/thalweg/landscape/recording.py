"""Recorded points: rows in memory or in one file, and what can be read from them.

A file is a header and rows of one size (step, loss, point), appended one by one. A
row that was cut off when the program was killed is dropped when the file is opened again; thinning
writes a new file and replaces the old one at once. So what is on disk is always a whole recording.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, final

import numpy as np
import torch
from torch import Tensor

from thalweg.vectors import Vector


__all__ = ["PRECISIONS", "DiskRows", "MemoryRows", "ReadRows", "Recording", "Row", "Rows"]

PRECISIONS: Final = {
    torch.float32: "<f4",
    torch.float64: "<f8",
    torch.float16: "<f2",
    torch.bfloat16: "<i2",  # NumPy has no such type: its bits
}
FILE = "trajectory.bin"
_MAGIC = b"thalweg trajectory 1\n"

Row = tuple[int, float, Tensor]


class ReadRows(Protocol):
    """Points in the order of their steps, to read."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...


class Rows(ReadRows, Protocol):
    """Where points are kept, in the order of their steps."""

    def append(self, step: int, loss: float, point: Tensor) -> None:
        """Add a point at the end."""

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but these."""


@final
class MemoryRows:
    """Points in memory.

    Args:
        dtype: What they are kept in.

    Example:
        >>> rows = MemoryRows(torch.float16)
        >>> rows.append(0, 1.0, torch.ones(2))
        >>> rows[0][2]
        tensor([1., 1.], dtype=torch.float16)
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]

    def append(self, step: int, loss: float, point: Tensor) -> None:
        """Add a point at the end."""
        self._rows.append((step, loss, point.to(self._dtype)))

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but these."""
        self._rows = [self._rows[i] for i in indices]


@final
class DiskRows:
    """Points in a file, which is made if it is not there.

    Args:
        folder: Where the file is.
        dtype: What points are kept in; None: as the file says.
        shapes: The shapes of the parts of a point; None: as the file says.
        names: Their names.

    Raises:
        ValueError: If the file that is there holds points of another kind.
        FileNotFoundError: If there is none, and nothing is said of how to make it.
    """

    def __init__(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        shapes: Sequence[tuple[int, ...]] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(folder) / FILE
        if not self.path.exists():
            if dtype is None or shapes is None:
                raise FileNotFoundError(f"{self.path}: no recording is here.")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            plain = {"dtype": str(dtype), "shapes": list(map(list, shapes))}
            _replace(self.path, [_header(plain | {"names": list(names or [])})])
        self.plain, self._offset = _read_header(self.path)
        self.shapes = [tuple(shape) for shape in self.plain["shapes"]]
        self.dtype = next(d for d in PRECISIONS if str(d) == self.plain["dtype"])
        if dtype is not None and dtype != self.dtype:
            raise ValueError(f"{self.path}: its points are {self.dtype}, not {dtype}.")
        if shapes is not None and self.shapes != [tuple(shape) for shape in shapes]:
            raise ValueError(f"{self.path}: it holds the points of parameters of other shapes.")
        entries = sum(math.prod(shape) for shape in self.shapes)
        point = (PRECISIONS[self.dtype], (entries,))
        self._row = np.dtype([("step", "<i8"), ("loss", "<f8"), ("point", *point)])
        self._count, rest = divmod(self.path.stat().st_size - self._offset, self._row.itemsize)
        if rest and dtype is not None:  # a reader leaves alone what may be just being written
            self._cut()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Row:
        index = range(self._count)[index]
        with open(self.path, "rb") as file:
            file.seek(self._offset + index * self._row.itemsize)
            row = np.frombuffer(file.read(self._row.itemsize), self._row)[0]
        point = torch.from_numpy(row["point"].copy())
        point = point.view(torch.bfloat16) if self.dtype is torch.bfloat16 else point
        return int(row["step"]), float(row["loss"]), point

    def append(self, step: int, loss: float, point: Tensor) -> None:
        """Add a point at the end: whole when this returns, or not at all."""
        with open(self.path, "ab") as file:
            file.write(self._bytes(step, loss, point))
        self._count += 1

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but these."""
        if list(indices) != list(range(len(indices))):
            rows = (self._bytes(*self[index]) for index in indices)
            _replace(self.path, itertools.chain([_header(self.plain)], rows))
        self._count = len(indices)
        self._cut()

    def _bytes(self, step: int, loss: float, point: Tensor) -> bytes:
        row = np.zeros((), self._row)
        kept = point.detach().to("cpu", self.dtype)
        bits = kept.view(torch.int16) if self.dtype is torch.bfloat16 else kept
        row["step"], row["loss"], row["point"] = step, loss, bits.numpy()
        return row.tobytes()

    def _cut(self) -> None:
        with open(self.path, "r+b") as file:
            file.truncate(self._offset + self._count * self._row.itemsize)


@final
@dataclass(frozen=True, eq=False)
class Recording:
    """Points that were recorded, and when.

    Args:
        rows: The points, in the order of their steps.
        shapes: The shapes of the parts of a point.
        names: Their names, where they are known.

    Example:
        >>> rows = MemoryRows(torch.float32)
        >>> rows.append(0, 1.0, torch.tensor([1.0, 2.0, 3.0]))
        >>> [point.tensors for point in Recording(rows, [(2,), ()]).points()]
        [[tensor([1., 2.]), tensor(3.)]]
    """

    rows: ReadRows
    shapes: Sequence[tuple[int, ...]]
    names: Sequence[str] = ()

    @staticmethod
    def load(folder: str | Path) -> Recording:
        """Read what a :class:`~thalweg.landscape.Trajectory` has written to a folder so far.

        Raises:
            FileNotFoundError: If there is no recording.
            ValueError: If it is of a newer version.
        """
        rows = DiskRows(folder)
        return Recording(rows, rows.shapes, rows.plain["names"])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def steps(self) -> np.ndarray:
        """(T,) the number of steps that had been taken at each point."""
        return np.array([self.rows[i][0] for i in range(len(self))], dtype=np.int64)

    @property
    def losses(self) -> np.ndarray:
        """(T,) the loss at each point; NaN where none was given."""
        return np.array([self.rows[i][1] for i in range(len(self))], dtype=np.float64)

    def points(self) -> Iterator[Vector]:
        """The points one by one, as Vectors on the CPU, in float32 at least."""
        like = Vector([torch.empty(shape, device="meta") for shape in self.shapes])
        for i in range(len(self)):
            point = self.rows[i][2]
            yield like.like(point if point.dtype is torch.float64 else point.float())

    def matrix(self) -> Tensor:
        """(T, n) all points as rows, on the CPU, in float32 at least."""
        first = self.rows[0][2]
        dtype = first.dtype if first.dtype is torch.float64 else torch.float32
        matrix = torch.empty(len(self), first.numel(), dtype=dtype)
        for i in range(len(self)):
            matrix[i] = self.rows[i][2]
        return matrix


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            for piece in pieces:
                file.write(piece)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _header(plain: dict[str, Any]) -> bytes:
    text = json.dumps(plain).encode()
    return _MAGIC + len(text).to_bytes(8, "little") + text


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with open(path, "rb") as file:
        magic, length = file.read(len(_MAGIC)), int.from_bytes(file.read(8), "little")
        if magic != _MAGIC:
            raise ValueError(f"{path}: this is no recording, or one of another version.")
        return json.loads(file.read(length)), file.tell()
