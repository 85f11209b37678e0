"""Fashion-MNIST: 70,000 photographs of clothes, 28 by 28 grey pixels in ten classes.

The published 10,000 test images stay the test; 3,000 of the 60,000 training images, the same of
every class, are held out for validation. Both models are near ties between tuned optimizers: a
report that names a clear winner here deserves a second look.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.formats import read_idx
from thalweg.problems.metric import Target
from thalweg.problems.networks import image_cnn, perceptron
from thalweg.problems.pixels import Pixels
from thalweg.problems.problem import Problem
from thalweg.problems.sources import Remote, Source


__all__ = ["FASHION", "fashion_cnn", "fashion_mlp"]

_MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}

FASHION: Final = Source(
    "fashion-mnist",
    tuple(_MD5),
    "Fashion-MNIST (Debian's dataset-fashion-mnist, or torchvision's folder)",
    "On Debian and Ubuntu: apt-get install dataset-fashion-mnist. A torchvision folder is found "
    "through THALWEG_DATA.",
    under=("FashionMNIST/raw", "fashion-mnist"),
    system=("/usr/share/datasets/fashion-mnist",),
    remote=tuple(Remote(f"{_MIRROR}{name}.gz", md5, "31 MB in all") for name, md5 in _MD5.items()),
)
"""Four IDX files, compressed or not."""

MEAN, STD = 0.2860, 0.3530


@cache
def fashion_data(root: str | Path | None = None, download: bool = False) -> Data:
    """The images as bytes, shape ``(n, 1, 28, 28)``, and their classes; read once a process.

    Raises:
        FileNotFoundError: If the files are nowhere.
        ValueError: If a file is not what it should be.
    """
    folder = FASHION.locate(root, download=download)

    def pair(split: str) -> tuple[Tensor, Tensor]:
        images = read_idx(FASHION.file(folder, f"{split}-images-idx3-ubyte"))
        labels = read_idx(FASHION.file(folder, f"{split}-labels-idx1-ubyte"))
        return images[:, None], labels.long()

    return Data.hold_out(
        pair("train"),
        pair("t10k"),
        validation=0.05,
        source="Fashion-MNIST: H. Xiao, K. Rasul and R. Vollgraf, Zalando Research, 2017",
        licence="MIT",
    )


def _mlp() -> nn.Sequential:
    return nn.Sequential(Pixels([MEAN], [STD]), nn.Flatten(), *perceptron(784, 128, 128, 10))


def _cnn() -> nn.Sequential:
    return nn.Sequential(Pixels([MEAN], [STD]), *image_cnn((1, 28, 28)))


def fashion_mlp(root: str | Path | None = None, download: bool = False) -> Problem:
    """Fashion-MNIST with a perceptron.

    Raises:
        FileNotFoundError: If the files are nowhere.
    """
    return Problem(
        "fashion-mlp",
        _mlp,
        F.cross_entropy,
        fashion_data(root, download),
        batch_size=128,
        target=Target("validation_loss", 0.372),
        steps=800,
        probe=4096,
        title="Fashion-MNIST, perceptron",
        description="Images of 28 by 28 pixels in ten classes; a perceptron 784-128-128-10 with "
        "tanh. Tuned optimizers come out nearly equal here.",
    )


def fashion_cnn(root: str | Path | None = None, download: bool = False) -> Problem:
    """Fashion-MNIST with a small convolutional network and batch normalisation.

    Raises:
        FileNotFoundError: If the files are nowhere.
    """
    return Problem(
        "fashion-cnn",
        _cnn,
        F.cross_entropy,
        fashion_data(root, download),
        batch_size=64,
        target=Target("validation_loss", 0.347),
        probe=1024,
        title="Fashion-MNIST, convolutional network",
        description="Images of 28 by 28 pixels in ten classes; two convolutions of 16 and 32 "
        "channels, each with batch normalisation and ReLU.",
    )
