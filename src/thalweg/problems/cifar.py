"""CIFAR-10 and CIFAR-100: 60,000 colour photographs of 32 by 32 pixels.

They are read where they are present, in torchvision's folder of Python batches. The published test
images stay the test; a tenth of the 50,000 training images is held out for validation, the same of
every class.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import torch

from thalweg.problems.data import Data
from thalweg.problems.formats import read_cifar_batch
from thalweg.problems.sources import Remote, Source


__all__ = ["CIFAR10", "CIFAR100", "MEANS", "STDS", "cifar_data"]

_MIRROR = "https://www.cs.toronto.edu/~kriz/"
_HINT = "It is torchvision's folder of Python batches, and is found through THALWEG_DATA."

CIFAR10: Final = Source(
    "cifar-10",
    (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
    "CIFAR-10 (cifar-10-batches-py)",
    _HINT,
    under=("cifar-10-batches-py",),
    remote=(
        Remote(f"{_MIRROR}cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "163 MB"),
    ),
)
"""Five batches to train on and one for the test."""

CIFAR100: Final = Source(
    "cifar-100",
    ("train", "test"),
    "CIFAR-100 (cifar-100-python)",
    _HINT,
    under=("cifar-100-python",),
    remote=(
        Remote(f"{_MIRROR}cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "161 MB"),
    ),
)
"""One file to train on and one for the test; the labels are the hundred fine ones."""

MEANS, STDS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@cache
def cifar_data(
    source: Source, labels: bytes, root: str | Path | None = None, download: bool = False
) -> Data:
    """The images as bytes, shape ``(n, 3, 32, 32)``, and their classes; read once a process.

    Raises:
        FileNotFoundError: If the files are nowhere.
        ValueError: If a file is not what it should be.
    """
    folder = source.locate(root, download=download)
    *train, test = (read_cifar_batch(source.file(folder, f), labels) for f in source.files)
    images, classes = (torch.cat(part) for part in zip(*train, strict=True))
    return Data.hold_out(
        (images, classes),
        test,
        source=f"{source.name.upper()}: A. Krizhevsky, Learning Multiple Layers of Features from "
        "Tiny Images, 2009",
        licence="none stated; free for research, with the citation",
    )
