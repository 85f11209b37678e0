"""The rule for classes: each is abstract or final, and only seams and open methods are filled."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from architecture.source import Function, Module, Package, dotted_name


# Bases from outside that make a class a declaration of data or a part of torch.
DECLARATIONS = {
    "Enum", "StrEnum", "IntEnum", "Flag", "IntFlag", "NamedTuple", "TypedDict",
    "Module", "Function",
}  # fmt: skip


def abstract_or_final(package: Package, seams: Collection[str]) -> list[str]:
    """A class is abstract (named ``AbstractX``, with something left to fill) or final (``@final``).

    Data classes, enums, protocols, exceptions, torch modules and autograd functions need no
    ``@final``, but nothing derives from them either, exceptions and protocols excepted. A concrete
    method is overridden only if it is one of the ``seams`` or a magic method.
    """
    found: list[str] = []
    for module in package.modules.values():
        for node in module.classes.values():
            kin = Kin(package, module, node)
            found += [f"{module.name}.{node.name}: {fault}" for fault in _faults(kin, seams)]
    return found


@dataclass(frozen=True)
class Kin:
    """A class with the module it stands in, so that its bases can be found."""

    package: Package
    module: Module
    node: ast.ClassDef

    @property
    def bases(self) -> list[str]:
        return [dotted_name(base) for base in self.node.bases]

    def parents(self) -> Iterator[Kin]:
        """The bases that this package defines."""
        for base in self.bases:
            parent = self.package.find_class(self.module, base)
            if parent is not None and parent[1] is not self.node:
                yield Kin(self.package, *parent)

    def ancestors(self) -> Iterator[Kin]:
        for parent in self.parents():
            yield parent
            yield from parent.ancestors()

    def foreign(self) -> set[str]:
        """The last part of every base from outside the package, inherited ones too."""
        return {
            base.rpartition(".")[2]
            for member in (self, *self.ancestors())
            for base in member.bases
            if self.package.find_class(member.module, base) is None
        }

    def methods(self) -> dict[str, Function]:
        return {f.name: f for f in self.node.body if isinstance(f, Function)}

    def open_methods(self) -> set[str]:
        return {name for name, f in self.methods().items() if "abstractmethod" in _decorators(f)}

    @property
    def named_abstract(self) -> bool:
        return self.node.name.lstrip("_").startswith("Abstract")

    @property
    def is_protocol(self) -> bool:
        return "Protocol" in {base.rpartition(".")[2] for base in self.bases}

    @property
    def is_exception(self) -> bool:
        return any(base.endswith(("Error", "Exception", "Warning")) for base in self.foreign())


def _faults(kin: Kin, seams: Collection[str]) -> Iterator[str]:
    for parent in kin.parents():
        if not (parent.named_abstract or parent.is_protocol or parent.is_exception):
            yield f"derives from {parent.node.name}, which is not abstract"
    for name, owner in _overridden(kin):
        if name not in seams:
            yield f"overrides the concrete method {name} of {owner}"
    yield from _status(kin)


def _status(kin: Kin) -> Iterator[str]:
    decorators = _decorators(kin.node)
    if kin.named_abstract:
        if "final" in decorators:
            yield "is named abstract and declared final"
        if not (kin.open_methods() or "ABC" in kin.foreign() or any(kin.parents())):
            yield "is named abstract but leaves nothing to fill"
    elif kin.is_protocol or kin.is_exception:
        return
    elif kin.open_methods():
        yield f"has abstract methods {sorted(kin.open_methods())}: name it Abstract{kin.node.name}"
    elif not (decorators & {"final", "dataclass"} or kin.foreign() & DECLARATIONS):
        yield "is neither named Abstract... nor declared @final"


def _overridden(kin: Kin) -> Iterator[tuple[str, str]]:
    mine = {name for name in kin.methods() if not (name.startswith("__") and name.endswith("__"))}
    for ancestor in kin.ancestors():
        for name in sorted(mine & (set(ancestor.methods()) - ancestor.open_methods())):
            # A protocol's methods are declarations: their bodies are never run.
            if not ancestor.is_protocol:
                yield name, ancestor.node.name


def _decorators(node: ast.ClassDef | Function) -> set[str]:
    return {dotted_name(d).rpartition(".")[2] for d in node.decorator_list}
