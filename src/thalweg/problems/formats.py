"""Readers of the file formats in which data sets are published; each checks what it reads."""

from __future__ import annotations

import gzip
import importlib
import math
import pickle
from pathlib import Path
from typing import IO, Any, Final, final

import numpy as np
import torch
from torch import Tensor


__all__ = ["read_cifar_batch", "read_idx", "restricted_load"]

IDX_UNSIGNED_BYTE: Final = 8


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def read_idx(path: Path) -> Tensor:
    """An array of unsigned bytes in the IDX format of MNIST, compressed by gzip or not.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a
    big-endian integer of four bytes, then the numbers.

    Returns:
        A uint8 tensor.

    Raises:
        ValueError: If the file is no such array, or is cut short.
    """
    with _open(path) as file:
        content = file.read()
    if len(content) < 4 or content[:3] != bytes([0, 0, IDX_UNSIGNED_BYTE]):
        raise ValueError(f"{path}: not an IDX file of unsigned bytes.")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{path}: shape {tuple(shape)} needs {math.prod(shape)} bytes; "
            f"there are {len(content) - header}."
        )
    numbers = np.frombuffer(content, dtype=np.uint8, offset=header).copy()
    return torch.from_numpy(numbers).reshape(shape)


# What NumPy's own pickles name; the module of arrays has moved between versions.
_ALLOWED: Final = {
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"): ("_codecs", "encode"),
}


@final
class _Restricted(pickle.Unpickler):
    """Reads numbers, texts, containers and NumPy arrays, and runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that an array needs.

        Raises:
            pickle.UnpicklingError: For any other.
        """
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")
        module, name = _ALLOWED[module, name]
        return getattr(importlib.import_module(module), name)


def restricted_load(path: Path) -> Any:
    """What a pickle holds, if it holds plain data and arrays only.

    Raises:
        ValueError: If the file is no pickle, or names anything that could run.
    """
    try:
        with _open(path) as file:
            return _Restricted(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(f"{path}: not a pickle of plain arrays: {error}.") from error


def read_cifar_batch(path: Path, labels: bytes) -> tuple[Tensor, Tensor]:
    """Images and labels of one of CIFAR's Python batches.

    A row is the red, the green and the blue plane of 32 by 32 pixels.

    Args:
        path: The file.
        labels: Which labels: ``b"labels"`` or ``b"fine_labels"``.

    Returns:
        uint8 of shape ``(n, 3, 32, 32)``, and int64 of shape ``(n,)``.

    Raises:
        ValueError: If the file is no such batch.
    """
    batch = restricted_load(path)
    if not isinstance(batch, dict) or not {b"data", labels} <= set(batch):
        raise ValueError(f"{path}: not a CIFAR batch with {labels.decode()}.")
    pixels, classes = np.asarray(batch[b"data"]), np.asarray(batch[labels], dtype=np.int64)
    if pixels.dtype != np.uint8 or pixels.shape != (len(classes), 3 * 32 * 32):
        raise ValueError(f"{path}: images of shape {pixels.shape} and {pixels.dtype}.")
    return torch.from_numpy(pixels.copy()).reshape(-1, 3, 32, 32), torch.from_numpy(classes)
