"""What races: an optimizer with its fixed settings and the space in which it is tuned."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from torch import nn
from torch.optim import Optimizer

from thalweg.errors import unknown_name
from thalweg.optim import (
    AbstractOptimizer,
    AbstractWrapper,
    Needs,
    Range,
    catalogue,
    create,
    resolve,
)
from thalweg.optim.base import argument_names
from thalweg.optim.deterministic import AbstractDeterministic


__all__ = ["Arm", "as_arm", "default_arms", "parse_arms"]

_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum": ("sgd", {"momentum": 0.9}),
    # gamma: the paper's for this estimate.
    "sophia-g": ("sophia", {"estimator": "gauss-newton-bartlett", "gamma": 0.05}),
    "weight-averaging": ("weight-averaging", {"inner": "sgd", "momentum": 0.9}),
}
_DEFAULT = (
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "weight-averaging",
)
_FOREIGN_SPACE = {"lr": Range(1e-4, 1.0)}


@final
@dataclass(frozen=True)
class Arm:
    """An optimizer in a race.

    Args:
        label: Its name in tables and figures.
        cls: The optimizer class: ours, torch's or anyone's.
        settings: Hyper-parameters that stay fixed.
        space: Hyper-parameters that are tuned, and where. Ranges of ``lr`` are multiplied by the
            problem's scale. Default: the class's own, else lr in [1e-4, 1].

    Raises:
        ValueError: If a setting or an axis is no argument of the class.

    Example:
        >>> arm = as_arm("sgd:momentum=0.9")
        >>> arm.label, arm.settings, arm.space["lr"].high
        ('sgd:momentum=0.9', {'momentum': 0.9}, 10.0)
    """

    label: str
    cls: type[Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.space:
            own = getattr(self.cls, "space", _FOREIGN_SPACE)
            free = {name: r for name, r in own.items() if name not in self.settings}
            object.__setattr__(self, "space", free)
        known = _arguments(self.cls, self.settings)
        for name in (*self.settings, *self.space):
            if known is not None and name not in known:
                raise unknown_name(f"Arm {self.label!r}", "hyper-parameter", name, known)

    @property
    def path(self) -> str:
        """The dotted path of the class, as records name it."""
        module = "thalweg.optim" if self.cls.__module__.startswith("thalweg.optim.") else None
        return f"{module or self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def reference(self) -> str | None:
        """Where the method was published, where the class says so."""
        stated = getattr(self.cls, "reference", None)
        return None if stated is None else str(stated)

    def build(self, model: nn.Module, hyperparameters: Mapping[str, Any]) -> Optimizer:
        """The optimizer for a model, at a point of the space."""
        options = {**self.settings, **hyperparameters}
        if issubclass(self.cls, AbstractWrapper):
            return create(_catalogue_name(self.cls), model, **options)
        params: Any = model if getattr(self.cls, "needs", None) is Needs.LAYERS else None
        if params is None:
            params = [p for p in model.parameters() if p.requires_grad]
        return self.cls(params, **options)

    def describe(self, scale: float = 1.0) -> dict[str, Any]:
        """The arm as plain data for records; ``scale`` multiplies the range of lr."""
        wraps = issubclass(self.cls, AbstractWrapper)
        axes = {
            name: {
                "low": r.low * (scale if name == "lr" else 1.0),
                "high": r.high * (scale if name == "lr" else 1.0),
                "log": r.log,
            }
            for name, r in self.space.items()
        }
        return {
            "label": self.label,
            "class": self.path,
            "settings": {**({"inner": _inner(self.settings)} if wraps else {}), **self.settings},
            "space": axes,
            "reference": self.reference,
        }


def as_arm(given: str | type[Optimizer] | Arm) -> Arm:
    """An arm from a name, a class or an arm.

    Args:
        given: ``"adam"``, ``"momentum"`` (SGD with momentum 0.9), ``"sophia-g"`` (Sophia with the
            Gauss-Newton-Bartlett estimate), settings after colons
            (``"sgd:momentum=0.9:nesterov=True"``), any importable class
            (``"torch.optim.NAdam"``), the class itself, or an :class:`Arm`.

    Returns:
        The arm.

    Raises:
        ValueError: If the name or a setting is unknown.
        TypeError: If it is none of these.

    Example:
        >>> as_arm("torch.optim.NAdam").path
        'torch.optim.nadam.NAdam'
    """
    if isinstance(given, Arm):
        return given
    if isinstance(given, type) and issubclass(given, Optimizer):
        return Arm(given.__name__, given)
    if not isinstance(given, str):
        raise TypeError(
            f"optimizers: a name, an optimizer class or an Arm is needed, got {given!r}."
        )
    name, *pairs = given.strip().split(":")
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(
                f"optimizers: {given!r}: settings are written name=value, not {pair!r}."
            )
        settings[key.strip()] = _literal(value.strip())
    base, preset = _PRESETS.get(name, (name, {}))
    try:
        cls = resolve(base)
    except ValueError:
        known = [*catalogue(), *_PRESETS]
        if "." in base:
            raise
        raise unknown_name("optimizers", "optimizer", name, set(known)) from None
    return Arm(given.strip(), cls, {**preset, **settings})


def parse_arms(text: str) -> list[Arm]:
    """The arms of a comma-separated list; ``all`` is every method there is.

    Example:
        >>> [arm.label for arm in parse_arms("sgd, adam")]
        ['sgd', 'adam']
    """
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        names += _groups().get(name, [name] if name else [])
    return [as_arm(name) for name in dict.fromkeys(names)]


def _groups() -> dict[str, list[str]]:
    """Names that stand for several methods."""
    entries = catalogue().items()
    searching = {name for name, e in entries if issubclass(e.cls, AbstractDeterministic)}
    special = {name for name, e in entries if e.needs is Needs.OUTPUTS} | {"conjugate-gradient"}
    every = dict.fromkeys([*_DEFAULT, *catalogue(), *_PRESETS])
    batched = [name for name in every if name not in searching]
    return {"all": batched, "deterministic": sorted(searching - special)}


def default_arms() -> list[Arm]:
    """The arms of a race in which nothing is named."""
    return [as_arm(name) for name in _DEFAULT]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def _catalogue_name(cls: type) -> str:
    return next(entry.name for entry in catalogue().values() if entry.cls is cls)


def _inner(settings: Mapping[str, Any]) -> str:
    """The method that a wrapper is around."""
    return str(settings.get("inner", "sgd"))


def _arguments(cls: type[Optimizer], settings: Mapping[str, Any]) -> set[str] | None:
    """The keywords of a constructor (a wrapper's with its inner method's); None: anything goes."""
    if issubclass(cls, AbstractWrapper):
        inner = resolve(_inner(settings))
        return set(inspect.signature(cls).parameters) | (_arguments(inner, {}) or set())
    if issubclass(cls, AbstractOptimizer):
        return set(argument_names(cls))
    parameters = inspect.signature(cls).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return set(parameters)
