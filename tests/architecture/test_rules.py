"""The rules catch what they are for: each is shown a package that breaks it, or keeps it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from architecture import rules
from architecture.classes import abstract_or_final
from architecture.source import Package, code_lines


FLOORS = [{"low"}, {"left", "right"}, {"high"}]

Write = Callable[[dict[str, str]], Package]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a package called ``pkg`` from its files."""

    def build(files: dict[str, str]) -> Package:
        root = tmp_path / "pkg"
        for name, text in {"__init__.py": "", **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
            for folder in path.relative_to(root).parents:
                (root / folder / "__init__.py").touch()
        return Package(root)

    return build


# --- imports ---


def test_falling_imports_pass(write):
    package = write(
        {
            "__init__.py": "from pkg.high import top\n__version__ = '1'",
            "low.py": "import math\nfrom pkg import __version__",
            "left/a.py": "from pkg import low\nfrom pkg.left.b import x",
            "left/b.py": "x = 1",
            "high.py": "import pkg.left.a as a\nfrom pkg import low\ntop = 1",
        }
    )
    assert rules.falling(package, FLOORS) == []
    assert rules.circles(package) == []


@pytest.mark.parametrize(
    "climb",
    [
        "import pkg.high",
        "from pkg.high import top",
        "from pkg import high",
        "from .high import top",
        "from . import high",
        "def f():\n    from pkg.high import top",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.high import top",
        "import importlib\ndef f():\n    return importlib.import_module('pkg.high')",
    ],
)
def test_a_climbing_import_is_caught(write, climb):
    violations = rules.falling(write({"low.py": climb, "high.py": "top = 1"}), FLOORS)
    assert len(violations) == 1
    assert "low is below high" in violations[0]


def test_taking_a_public_name_from_the_root_is_climbing(write):
    package = write(
        {
            "__init__.py": "from pkg.high import top",
            "low.py": "from pkg import top",
            "high.py": "top = 1",
        }
    )
    assert any("low is below pkg" in v for v in rules.falling(package, FLOORS))


def test_a_sibling_import_is_caught(write):
    violations = rules.falling(
        write({"left/a.py": "def f():\n    import pkg.right", "right.py": ""}), FLOORS
    )
    assert violations == [
        "pkg.left.a:2 imports pkg.right: left and right are siblings and may not import each other"
    ]


def test_a_room_without_a_floor_is_caught(write):
    assert rules.falling(write({"attic.py": ""}), FLOORS) == [
        "room 'attic' has no floor: add it to FLOORS"
    ]


def test_a_stranger_is_caught(write):
    package = write({"low.py": "x = 1", "high.py": "from pkg.low import x"})
    assert rules.ignorance(package, {"high": {"low"}}) == [
        "pkg.high:1 imports pkg.low: high does not know low"
    ]
    assert rules.ignorance(package, {"high": {"left"}}) == []


def test_a_circle_is_caught(write):
    package = write(
        {
            "left/a.py": "from pkg.left import b",
            "left/b.py": "from pkg.left.c import x",
            "left/c.py": "def f():\n    from pkg.left.a import y",
            "left/d.py": "from pkg.left import a",
        }
    )
    assert rules.falling(package, FLOORS) == []
    assert rules.circles(package) == ["circle: pkg.left.a <-> pkg.left.b <-> pkg.left.c"]


def test_a_part_that_imports_its_own_package_is_a_circle(write):
    package = write(
        {"left/__init__.py": "from pkg.left.a import x", "left/a.py": "from pkg.left import x"}
    )
    assert rules.circles(package) == ["circle: pkg.left <-> pkg.left.a"]


# --- sizes and names ---


def test_long_files_are_caught(write):
    package = write({"low.py": "x = 1\n" * 10, "high.py": "x = 1\n" * 11})
    assert rules.file_sizes(package, 10, 100, 99) == ["pkg.high: 11 lines, at most 10"]
    assert rules.file_sizes(package, 99, 10, 99) == []
    assert rules.file_sizes(package, 99, 10, 2) == ["median file has 10 lines, must be under 10"]


LONG = (
    "class A:\n    def f(self):\n        '''One.\n\n        Two.\n        '''\n"
    + "        x = 1\n" * 5
)


def test_long_functions_are_caught_and_docstrings_are_free(write):
    package = write({"low.py": LONG + "def g(): pass\n" * 30})
    assert rules.function_sizes(package, 5, 99) == ["pkg.low.A.f: 6 lines, at most 5"]
    assert rules.function_sizes(package, 6, 5) == []
    assert code_lines(dict(package.modules["pkg.low"].functions())["pkg.low.A.f"]) == 6


def test_many_long_functions_are_caught(write):
    package = write({"low.py": LONG + "def g(): pass\n" * 5})
    assert rules.function_sizes(package, 6, 5) == [
        "95th percentile of function lengths is 6 lines, at most 5"
    ]


def test_wide_constructors_are_caught(write):
    package = write(
        {
            "low.py": """
            class Wide:
                def __init__(self, a, b, *, c): ...
            class Swallows:
                def __init__(self, a, **kwargs): ...
            class Loose:
                def __init__(self, a, **kwargs: int): ...
            class Common:
                def __init__(self, a, b, **common: Unpack[Options]): ...
            """
        }
    )
    violations = rules.constructors(package, 2)
    assert [v.split(":")[0] for v in violations] == [
        "pkg.low.Wide.__init__",
        "pkg.low.Swallows.__init__",
        "pkg.low.Loose.__init__",
    ]


@pytest.mark.parametrize("name", ["utils.py", "left/_helpers.py", "plot_utils.py", "misc/a.py"])
def test_vague_names_are_caught(write, name):
    assert rules.vague_names(write({name: ""}))


def test_plain_names_pass(write):
    assert not rules.vague_names(write({"low.py": "", "left/utility.py": ""}))


def test_a_file_without_docstring_is_caught(write):
    package = write({"low.py": "x = 1", "high.py": "'''Why.'''\nx = 1"})
    assert rules.module_docstrings(package) == ["pkg.low: has no docstring"]


# --- classes ---

BASE = """
    from abc import ABC, abstractmethod
    class AbstractRule(ABC):
        @abstractmethod
        def update(self): ...
        def advance(self): return 1
        def step(self): return 1
    """


def test_good_classes_pass(write):
    good = """
    import enum, torch
    from dataclasses import dataclass
    from typing import Protocol, final
    from pkg.low import AbstractRule
    @final
    class Sgd(AbstractRule):
        def __init__(self): super().__init__()
        def update(self): return 2
        def advance(self): return 2
    class AbstractScaled(AbstractRule):
        def scale(self): return 1
    @dataclass(frozen=True)
    class Data: x: int
    class Kind(enum.Enum): A = 1
    class Likes(Protocol):
        def f(self): ...
    class Net(torch.nn.Module): pass
    class BadError(ValueError): pass
    class WorseError(BadError): pass
    """
    assert abstract_or_final(write({"low.py": BASE, "high.py": good}), {"advance"}) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("class A: pass", "neither named Abstract... nor declared @final"),
        (
            "@dataclass\nclass A: pass\n@final\nclass B(A): pass",
            "B: derives from A, which is not abstract",
        ),
        (
            "@final\nclass A(AbstractRule):\n    def step(self): return 2",
            "overrides the concrete method step of AbstractRule",
        ),
        ("class A(ABC):\n    @abstractmethod\n    def f(self): ...", "name it AbstractA"),
        ("class AbstractA: pass", "leaves nothing to fill"),
        ("@final\nclass AbstractA(ABC): pass", "named abstract and declared final"),
    ],
)
def test_bad_classes_are_caught(write, source, fault):
    package = write({"low.py": BASE, "high.py": "from pkg.low import AbstractRule\n" + source})
    violations = abstract_or_final(package, {"advance"})
    assert len(violations) == 1
    assert fault in violations[0]


def test_bases_are_found_through_a_package_and_never_by_name_alone(write):
    package = write(
        {
            "low/__init__.py": "from pkg.low.a import Adam",
            "low/a.py": "@final\nclass Adam: pass",
            "high.py": "import torch\nimport pkg.low as low\n@final\nclass A(low.Adam): pass\n"
            "@final\nclass B(torch.optim.Adam): pass",
        }
    )
    assert abstract_or_final(package, ()) == [
        "pkg.high.A: derives from Adam, which is not abstract"
    ]
