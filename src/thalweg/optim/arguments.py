"""The names and values that an optimizer takes, from its signature and its declared domains."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch.optim import Optimizer

from thalweg.errors import Domain, closest
from thalweg.optim import metadata
from thalweg.optim.seams import Group


__all__ = ["argument_names", "check_group", "domains"]


@functools.cache
def argument_names(cls: type) -> tuple[str, ...]:
    """The keywords that a method's constructor takes."""
    names: list[str] = []
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            names.extend(_options_of(parameter).__annotations__)
        elif name != "self":
            names.append(name)
    return tuple(names)


def _options_of(parameter: inspect.Parameter) -> Any:
    """The TypedDict that ``**common: Unpack[...]`` names."""
    named = str(parameter.annotation).rpartition("[")[2].rstrip("]")
    return getattr(metadata, named.rpartition(".")[2])


@functools.cache
def domains(cls: type) -> dict[str, Domain]:
    """The domain of each hyper-parameter, those of the base classes included."""
    merged: dict[str, Domain] = {}
    for base in reversed(cls.__mro__):
        merged |= vars(base).get("hyperparameters", {})
    return merged


def check_group(cls: type, group: Group, inner: Optimizer | None = None) -> None:
    """Check the hyper-parameters in a group but those of ``inner``, and near misses of their names.

    Raises:
        ValueError: If a value is outside its domain.
        TypeError: If a name is all but one of the method's own.
    """
    known = domains(cls)
    for name, value in group.items():
        if name in known:
            known[name].check(cls.__name__, name, value)
        elif inner is not None and name in inner.defaults:
            continue
        elif (nearest := closest(name, known, cutoff=0.85)) is not None:
            raise TypeError(
                f"{cls.__name__}({name}=...): unknown key in a parameter group. "
                f"Did you mean {nearest!r}?"
            )
