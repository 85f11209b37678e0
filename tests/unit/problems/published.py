"""Small data sets in the true formats, written as their publishers write them."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np


def idx(array: np.ndarray) -> bytes:
    """The IDX format, from its description: magic number, sizes big-endian, unsigned bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def fashion_arrays(train: int = 200, test: int = 30) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("t10k", test)):
        pixels = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}-images-idx3-ubyte"] = pixels
        arrays[f"{split}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


def write_fashion(folder: Path, *, compressed: bool) -> None:
    folder.mkdir(parents=True)
    for name, array in fashion_arrays().items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


def python2_batch(pixels: np.ndarray, labels: list[int], key: str) -> bytes:
    """A CIFAR batch as Python 2 pickled it, opcode by opcode: byte strings, NumPy's old module."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING

    raw = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
    )
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(b"J" + struct.pack("<i", n) for n in pixels.shape) + b"\x86"
    array += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = text(b"data") + array + text(key.encode()) + listed
    return b"\x80\x02}(" + items + b"u."


def write_cifar(folder: Path, files: tuple[str, ...], key: str, classes: int, rows: int) -> None:
    folder.mkdir(parents=True)
    draws = np.random.default_rng(1)
    for name in files:
        pixels = draws.integers(0, 256, (rows, 3072), dtype=np.uint8)
        labels = [i % classes for i in range(rows)]
        (folder / name).write_bytes(python2_batch(pixels, labels, key))


def python3_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2)
