"""A grid on disk that is filled point by point and survives being killed at any byte.

The file has one line of JSON, which says what is being measured, and then a record for each point:
its index, its values in float64 and a check sum. A record that was cut off is measured again. NaN
is a value like any other: what is not there yet is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from thalweg.landscape.surface import Line, Surface


__all__ = ["Store", "digest", "kept_settings", "read_store"]

_MAGIC = "thalweg landscape 1"
_DIGESTS = ("weights", "directions", "data", "buffers and modes")
_NEAR = 1e-5  # relative: the loss at the centre may differ by so much on another machine


def digest(values: Iterable[Any]) -> str:
    """A short fingerprint of tensors, and of numbers and text between them.

    Example:
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)]) != digest([torch.zeros(3)])
        True
    """
    found = hashlib.sha256()
    for value in _plain(values):
        if isinstance(value, Tensor):
            raw = value.detach().cpu().contiguous()
            found.update(f"{raw.dtype}{tuple(raw.shape)}".encode())
            found.update(raw.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()[:16]


def _plain(value: Any) -> Iterable[Any]:
    """The tensors, numbers and text in a value, in order."""
    if isinstance(value, (Tensor, str, int, float, bool)):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from (str(name), *_plain(part))
    elif isinstance(value, Iterable):
        for part in value:
            yield from _plain(part)


@final
class Store:
    """The values of a grid, in memory and, where a path is given, on disk.

    Args:
        path: The file; None keeps values in memory only.
        settings: What is measured, JSON-able. A file of other settings is refused.
        count: Points of the grid.
        names: The metrics.

    Raises:
        ValueError: If the file holds something else.

    Example:
        >>> store = Store(None, {}, 3, ["loss"])
        >>> store.add([1], [[float("nan")]])
        >>> store.computed.tolist()
        [False, True, False]
    """

    def __init__(
        self, path: str | Path | None, settings: dict[str, Any], count: int, names: Sequence[str]
    ) -> None:
        self.path = None if path is None else Path(path)
        self.settings = settings
        self.computed = np.zeros(count, dtype=bool)
        self.values = np.full((count, len(names)), np.nan)
        self._record = struct.Struct(f"<Q{len(names)}d")
        if self.path is None:
            return
        if self.path.exists():
            kept, start = _header(self.path)
            _check_same(self.path, kept, settings)
            self.settings = kept
            self._read(start)
        else:
            self._create()

    def add(self, indices: Sequence[int], rows: Sequence[Sequence[float]]) -> None:
        """Keep the values at some points; with the operating system when this returns."""
        for i, row in zip(indices, rows, strict=True):
            self.computed[i], self.values[i] = True, row
        if self.path is not None:
            packed = [self._record.pack(i, *row) for i, row in zip(indices, rows, strict=True)]
            with open(self.path, "ab") as file:
                file.write(b"".join(record + _sum(record) for record in packed))

    def _create(self) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        part.write_bytes(json.dumps({"file": _MAGIC, **self.settings}).encode() + b"\n")
        part.replace(self.path)

    def _read(self, start: int) -> None:
        assert self.path is not None
        data = self.path.read_bytes()
        size = self._record.size + 4
        whole = start
        while whole + size <= len(data):
            record = data[whole : whole + self._record.size]
            if _sum(record) != data[whole + self._record.size : whole + size]:
                break
            i, *row = self._record.unpack(record)
            if i < len(self.computed):
                self.computed[i], self.values[i] = True, row
            whole += size
        if whole < len(data):  # cut off in the middle of a record
            with open(self.path, "r+b") as file:
                file.truncate(whole)


def read_store(path: str | Path) -> Surface | Line:
    """What a store holds so far, complete or not.

    Args:
        path: The file that was given to ``plane`` or ``line`` as ``store``.

    Returns:
        The surface or the line; points that are not measured yet are NaN and, on a surface, not
        ``computed``.

    Raises:
        ValueError: If the file is no store.

    Example:
        >>> read_store("missing.plane")
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'missing.plane'
    """
    settings, _ = _header(Path(path))
    names, x = settings["metrics"], np.array(settings["x"])
    y = np.array(settings.get("y", [0.0]))
    store = Store(path, settings, len(x) * len(y), names)
    meta = {"finished": bool(store.computed.all()), "evaluation": settings.get("evaluation", {})}
    if "y" not in settings:
        columns = {name: store.values[:, i] for i, name in enumerate(names)}
        return Line(x, columns, settings["labels"][0], meta)
    shape = len(y), len(x)
    metrics = {name: store.values[:, i].reshape(shape) for i, name in enumerate(names)}
    first, second = settings["labels"]
    return Surface(x, y, metrics, store.computed.reshape(shape), (first, second), (), meta)


def kept_settings(path: str | Path | None) -> dict[str, Any] | None:
    """What an existing file says of itself; None where there is none."""
    if path is None or not Path(path).exists():
        return None
    return _header(Path(path))[0]


def _sum(record: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(record))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with open(path, "rb") as file:
        line = file.readline()
    try:
        settings = json.loads(line)
        is_ours = settings.pop("file") == _MAGIC
    except (ValueError, KeyError, AttributeError, TypeError):
        is_ours, settings = False, {}
    if not is_ours:
        raise ValueError(f"{path}: the file is no store of a landscape; give another path.")
    return settings, len(line)


def _check_same(path: Path, kept: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to mix two surfaces in one file, and say what differs."""
    differences = []
    for name in [*settings, *(name for name in kept if name not in settings)]:
        there, here = kept.get(name), settings.get(name)
        if there == here or name == "evaluation":
            continue
        numeric = isinstance(there, float) and isinstance(here, float)
        if numeric and (there != there and here != here):
            continue
        if numeric and abs(there - here) <= _NEAR * max(abs(there), abs(here)):
            continue
        shown = all(isinstance(v, (str, int, float)) and len(str(v)) < 40 for v in (there, here))
        words = f"{name} is {there!r} there and {here!r} here"
        differences.append(words if shown and name not in _DIGESTS else f"the {name} differ")
    if differences:
        raise ValueError(
            f"{path}: the store was begun with another setting: {'; '.join(differences)}. Give "
            "another path, or delete the file."
        )
