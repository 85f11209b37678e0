"""Read a package's source without running it: its modules, imports, functions and classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of the package; ``name`` is dotted, and a package's is that of its folder."""

    name: str
    path: Path
    is_package: bool

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function, however deeply nested, with its qualified name."""
        yield from _functions(self.tree, self.name)

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {n.name: n for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef)}

    @cached_property
    def bindings(self) -> dict[str, str]:
        """What each imported name stands for, dotted in full."""
        bound: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                bound |= {a.asname or a.name: a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(node, self)
                bound |= {a.asname or a.name: f"{base}.{a.name}" for a in node.names}
        return bound


@dataclass(frozen=True)
class Import:
    """One imported thing: ``target`` is a module of the package, ``name`` what was taken of it."""

    source: str
    target: str
    name: str | None
    line: int


class Package:
    """All modules under a folder, and the imports among them."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.modules = {m.name: m for m in _modules(folder)}

    @cached_property
    def imports(self) -> list[Import]:
        return [i for module in self.modules.values() for i in self._imports_of(module)]

    def room(self, module: str) -> str:
        """The part below the package: ``thalweg.optim.sgd`` is in ``optim``, the root in itself."""
        parts = module.split(".")
        return parts[1] if len(parts) > 1 else self.name

    def resolve(self, dotted: str) -> tuple[str, str | None]:
        """The longest prefix of ``dotted`` that is a module, and the first name after it."""
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            prefix = ".".join(parts[:end])
            if prefix in self.modules:
                return prefix, parts[end] if end < len(parts) else None
        return dotted, None

    def find_class(self, module: Module, name: str) -> tuple[Module, ast.ClassDef] | None:
        """The class of ours that ``name`` means in ``module``; None for one from outside."""
        if name in module.classes:
            return module, module.classes[name]
        head, _, rest = name.partition(".")
        dotted = ".".join(filter(None, [module.bindings.get(head, head), rest]))
        target, attribute = self.resolve(dotted)
        if target == module.name or attribute is None or target not in self.modules:
            return None
        return self.find_class(self.modules[target], attribute)

    def _imports_of(self, module: Module) -> Iterator[Import]:
        for node in ast.walk(module.tree):
            for dotted in _imported(node, module):
                if dotted.split(".")[0] == self.name:
                    target, name = self.resolve(dotted)
                    yield Import(module.name, target, name, node.lineno)


def code_lines(function: Function) -> int:
    """Lines from ``def`` to the end, without the docstring (a long explanation is no fault)."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        total -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return total


def dotted_name(node: ast.expr) -> str:
    """``typing.Generic[T]`` -> ``typing.Generic``; a call counts as what is called."""
    if isinstance(node, ast.Subscript):
        return dotted_name(node.value)
    if isinstance(node, ast.Call):
        return dotted_name(node.func)
    if isinstance(node, ast.Attribute):
        return f"{dotted_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _modules(folder: Path) -> Iterator[Module]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield Module(".".join(parts[:-1] if is_package else parts), path, is_package)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{prefix}.{child.name}", child
        named = isinstance(child, Function | ast.ClassDef)
        yield from _functions(child, f"{prefix}.{child.name}" if named else prefix)


def _imported(node: ast.AST, module: Module) -> Iterator[str]:
    """Dotted names that a node imports: ``import``, ``from`` or ``import_module("...")``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module)
        yield from (base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        called = dotted_name(node.func).rpartition(".")[2]
        first = node.args[0]
        if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
            yield str(first.value)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    kept = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])
