"""Every method by name, derived from the classes themselves."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from torch import nn
from torch.optim import Optimizer

from thalweg.errors import unknown_name
from thalweg.optim.arguments import argument_names
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.metadata import Cost, Needs, Range, Reference
from thalweg.optim.wrapper import AbstractWrapper


__all__ = ["Entry", "catalogue", "create", "resolve"]


@final
@dataclass(frozen=True)
class Entry:
    """A row of the catalogue.

    Args:
        name: The name for :func:`create` and the command line.
        cls: The class.

    Example:
        >>> entry = catalogue()["adam"]
        >>> entry.needs.value, entry.state
        ('gradients', 'exp_avg, exp_avg_sq')
    """

    name: str
    cls: type[AbstractOptimizer]

    @property
    def needs(self) -> Needs:
        """What the method has to be given."""
        return self.cls.needs

    @property
    def state(self) -> str:
        """The tensors kept beside each parameter at the defaults."""
        named = ", ".join(slot.name for slot in self.cls.slots if slot.when is None)
        return getattr(self.cls, "kept", named) or "none"

    @property
    def cost(self) -> Cost:
        """What a step takes."""
        return self.cls.cost

    @property
    def reference(self) -> Reference:
        """Where the method was published."""
        return self.cls.reference

    @property
    def space(self) -> dict[str, Range]:
        """Where its hyper-parameters are searched by default."""
        return self.cls.space

    @property
    def wraps(self) -> bool:
        """Whether the method goes around another."""
        return issubclass(self.cls, AbstractWrapper)

    @property
    def summary(self) -> str:
        """The first line of the class's documentation."""
        return (self.cls.__doc__ or "").strip().splitlines()[0]


def catalogue() -> dict[str, Entry]:
    """Every method of this package, by name.

    Returns:
        The entries in alphabetical order of their names.

    Example:
        >>> sorted(catalogue())[:3]
        ['adagrad', 'adahessian', 'adam']
    """
    found = sorted((_name(cls), cls) for cls in _final(AbstractOptimizer))
    return {name: Entry(name, cls) for name, cls in found}


def create(name: str, model_or_params: Any, *, inner: str = "sgd", **options: Any) -> Optimizer:
    """Make an optimizer by its name.

    Args:
        name: A name of :func:`catalogue`, in any spelling of case, ``-`` and ``_``; or the dotted
            path of any importable optimizer class (``torch.optim.NAdam``).
        model_or_params: A model, or what the class takes as parameters.
        inner: For a method around another: the inner method's name.
        **options: Hyper-parameters; a wrapper's own go to it, all others to the inner method.

    Returns:
        The optimizer.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> import torch
        >>> type(create("AdamW", torch.nn.Linear(2, 1), lr=1e-3)).__name__
        'AdamW'
    """
    cls = resolve(name)
    params = model_or_params
    if isinstance(params, nn.Module) and getattr(cls, "needs", None) is not Needs.LAYERS:
        params = params.parameters()
    if not issubclass(cls, AbstractWrapper):
        return cls(params, **options)
    own = {key: options.pop(key) for key in list(options) if key in argument_names(cls)}
    return cls(create(inner, params, **options), **own)


def resolve(name: str) -> Any:
    """The optimizer class of a name or a dotted path.

    Args:
        name: As :func:`create` takes it.

    Returns:
        The class.

    Raises:
        ValueError: If there is no such name, module or optimizer class.

    Example:
        >>> resolve("torch.optim.NAdam").__name__
        'NAdam'
    """
    if "." in name:
        return _imported(name)
    known = catalogue()
    for entry in known.values():
        if _plain(entry.name) == _plain(name):
            return entry.cls
    raise unknown_name("thalweg.optim", "optimizer", name, known)


def _imported(path: str) -> Any:
    module, _, attribute = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"thalweg.optim: cannot import the optimizer {path!r}: {error}."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise ValueError(f"thalweg.optim: {path!r} is not a torch.optim.Optimizer class.")
    return cls


def _final(base: type[AbstractOptimizer]) -> Iterator[type[AbstractOptimizer]]:
    for cls in base.__subclasses__():
        if cls.__module__.startswith("thalweg.optim.") and not cls.__name__.startswith("Abstract"):
            yield cls
        yield from _final(cls)


def _name(cls: Any) -> str:
    """CamelCase to words: WeightAveraging is weight-averaging, RMSprop is rmsprop."""
    if "known_as" in vars(cls):
        return cls.known_as
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "-", cls.__name__).lower()


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
