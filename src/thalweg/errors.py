"""Argument checks and the one form that every message has.

A message names the place, the argument, the value and what is allowed, in that order::

    Adam(lr=-1.0): lr must be a number in [0, inf).

A :class:`Domain` is such a check as plain data: what an optimizer declares for each of its
hyper-parameters, and what its documentation prints.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass


__all__ = [
    "FLAG",
    "FRACTION",
    "NON_NEGATIVE",
    "OPTIONAL_FLAG",
    "POSITIVE",
    "PROBABILITY",
    "UNTRANSFORMABLE",
    "Domain",
    "NonFiniteError",
    "bad_argument",
    "closest",
    "integer_from",
    "one_of",
    "pair_of",
    "unknown_name",
]


class NonFiniteError(ArithmeticError):
    """A loss, gradient or curvature is NaN or infinite; nothing was changed by the call.

    Example:
        >>> raise NonFiniteError("Adam.step(): the loss is nan at call 3.")
        Traceback (most recent call last):
        thalweg.errors.NonFiniteError: Adam.step(): the loss is nan at call 3.
    """


def bad_argument(where: str, name: str, value: object, allowed: str) -> ValueError:
    """The error for an argument outside what is allowed.

    Args:
        where: The class or function that refuses.
        name: The argument.
        value: What was given.
        allowed: What is allowed, as the end of "name must be ...".

    Returns:
        The exception, to be raised by the caller.

    Example:
        >>> bad_argument("Adam", "lr", -1.0, "a number in [0, inf)")
        ValueError('Adam(lr=-1.0): lr must be a number in [0, inf).')
    """
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return ValueError(f"{where}({name}={shown}): {name} must be {allowed}.")


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like ``name``, or None where none is alike.

    Example:
        >>> closest("adamm", ["sgd", "adam"])
        'adam'
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def unknown_name(where: str, kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among the known ones, with the nearest of them.

    Example:
        >>> print(unknown_name("create", "optimizer", "adm", ["sgd", "adam"]))
        create: unknown optimizer 'adm'. Did you mean 'adam'? Known: adam, sgd.
    """
    names = sorted(known)
    nearest = closest(name, names)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return ValueError(f"{where}: unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")


@dataclass(frozen=True)
class Domain:
    """The values that a hyper-parameter may take.

    Args:
        allowed: What is allowed, in words, as the end of "must be ...".
        contains: Whether a value is allowed; an exception inside counts as no.

    Example:
        >>> NON_NEGATIVE.check("Adam", "lr", float("nan"))
        Traceback (most recent call last):
        ValueError: Adam(lr=nan): lr must be a number in [0, inf).
    """

    allowed: str
    contains: Callable[[object], bool]

    def check(self, where: str, name: str, value: object) -> None:
        """Raise the error of :func:`bad_argument` where ``value`` is not allowed.

        Raises:
            ValueError: If the value is outside the domain.
        """
        try:
            inside = self.contains(value)
        except (TypeError, ValueError, RuntimeError):
            inside = False
        if not inside:
            raise bad_argument(where, name, value, self.allowed)


def _number(value: object) -> float:
    """A real number, or a tensor of one element; text and booleans are not numbers."""
    if isinstance(value, (bool, str, bytes)):
        raise TypeError
    return float(value)  # type: ignore[arg-type]  # a TypeError here is the answer "no"


def _interval(low: float, high: float, shown: str, *, open_low: bool = False) -> Domain:
    def contains(value: object) -> bool:
        number = _number(value)
        above = number > low if open_low else number >= low
        return above and number < high and math.isfinite(number)

    return Domain(f"a number in {shown}", contains)


NON_NEGATIVE = _interval(0.0, math.inf, "[0, inf)")
POSITIVE = _interval(0.0, math.inf, "(0, inf)", open_low=True)
FRACTION = _interval(0.0, 1.0, "[0, 1)")
PROBABILITY = Domain("a number in [0, 1]", lambda value: 0.0 <= _number(value) <= 1.0)
# What torch raises where vmap, forward mode or a batched backward pass does not take a model;
# NotImplementedError is a RuntimeError.
UNTRANSFORMABLE = (RuntimeError, TypeError, ValueError, AssertionError)
FLAG = Domain("True or False", lambda value: isinstance(value, bool))
OPTIONAL_FLAG = Domain(
    "True, False or None", lambda value: value is None or isinstance(value, bool)
)


def pair_of(domain: Domain) -> Domain:
    """A pair whose members both lie in ``domain``.

    Example:
        >>> pair_of(FRACTION).allowed
        'a pair, each a number in [0, 1)'
    """

    def contains(value: object) -> bool:
        first, second = value  # type: ignore[misc]  # a TypeError here is the answer "no"
        return domain.contains(first) and domain.contains(second)

    return Domain(f"a pair, each {domain.allowed}", contains)


def integer_from(low: int) -> Domain:
    """An integer that is at least ``low``.

    Example:
        >>> integer_from(1).allowed
        'an integer >= 1'
    """

    def contains(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    return Domain(f"an integer >= {low}", contains)


def one_of(*choices: str) -> Domain:
    """One of the given words.

    Example:
        >>> one_of("polyak", "exponential").allowed
        "one of 'polyak', 'exponential'"
    """
    return Domain("one of " + ", ".join(map(repr, choices)), lambda value: value in choices)
