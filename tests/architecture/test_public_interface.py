"""What the package promises: every exported name is explained, typed and shown by example."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, is_typeddict

import pytest

import thalweg
from thalweg import optim


def exported() -> dict[str, Any]:
    """Classes and functions of ours in the ``__all__`` of any package, by qualified name."""
    names = [m.name for m in pkgutil.walk_packages(thalweg.__path__, "thalweg.") if m.ispkg]
    packages = [thalweg, *map(importlib.import_module, names)]
    things = [getattr(p, name) for p in packages for name in getattr(p, "__all__", ())]
    ours = [t for t in things if inspect.isclass(t) or inspect.isfunction(t)]
    return {
        f"{t.__module__}.{t.__qualname__}": t
        for t in ours
        if t.__module__.split(".")[0] == thalweg.__name__
    }


def can_be_made(cls: type) -> bool:
    """Abstract classes and protocols are shown by what fills them; the other two are lists."""
    open_ended = inspect.isabstract(cls) or getattr(cls, "_is_protocol", False)
    return not (open_ended or is_typeddict(cls) or issubclass(cls, enum.Enum))


EXPORTED = exported()
CLASSES = {name: t for name, t in EXPORTED.items() if inspect.isclass(t) and can_be_made(t)}
CATALOGUE = optim.catalogue()


def callables(thing: Any) -> Iterator[Any]:
    """A function itself; of a class, its constructor, public methods and properties."""
    if inspect.isfunction(thing):
        yield thing
        return
    for name, member in vars(thing).items():
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        elif isinstance(member, property):
            member = member.fget
        # The __init__ of a dataclass has no source file, that of a protocol is in typing.
        if inspect.isfunction(member) and member.__code__.co_filename == inspect.getfile(thing):
            yield member


def unannotated(function: Any) -> list[str]:
    parameters = list(inspect.signature(function).parameters.values())
    bare = [p.name for p in parameters if p.annotation is p.empty and p.name not in {"self", "cls"}]
    return bare + ([] if "return" in function.__annotations__ else ["return"])


def own_docstring(thing: Any) -> str:
    """The docstring written here: not inherited, nor the signature that a dataclass puts there."""
    doc = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return "" if not doc or doc.startswith(f"{thing.__name__}(") else doc


def shows_itself(cls: type) -> bool:
    docs = [own_docstring(cls), *(f.__doc__ or "" for f in callables(cls))]
    return any(">>>" in doc for doc in docs)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_names_are_explained(name):
    assert own_docstring(EXPORTED[name]).strip(), f"{name} has no docstring"


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_names_are_typed(name):
    bare = {
        f.__qualname__: missing for f in callables(EXPORTED[name]) if (missing := unannotated(f))
    }
    assert not bare, f"{name}: not annotated: {bare}"


@pytest.mark.parametrize("name", CLASSES)
def test_exported_classes_have_a_doctest(name):
    assert shows_itself(CLASSES[name]), f"{name} has no doctest (>>>)"


def test_every_name_in_all_exists():
    for info in pkgutil.walk_packages(thalweg.__path__, "thalweg."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        missing = [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
        assert not missing, f"{info.name}.__all__ names what it does not define: {missing}"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_optimizer_is_proved(name):
    from conformance.deterministic import DETERMINISTIC
    from conformance.table import MODELLED, ROWS

    cls = CATALOGUE[name].cls
    assert "reference" in vars(cls), f"{cls.__name__} does not say where it was published"
    assert CATALOGUE[name].reference is not None
    assert ">>>" in own_docstring(cls), f"{cls.__name__} has no doctest in its docstring"
    tables = {*ROWS, *MODELLED, *DETERMINISTIC}
    assert name in tables, f"{name!r} has no row in tests/conformance/"


def test_the_conformance_table_names_no_stranger():
    from conformance.deterministic import DETERMINISTIC
    from conformance.table import MODELLED, ROWS

    names = [*ROWS, *MODELLED, *DETERMINISTIC]
    assert set(names) <= set(CATALOGUE)
    assert len(names) == len(set(names))
