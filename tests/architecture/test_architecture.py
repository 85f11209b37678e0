"""The shape of the package, read from its source.

A new room gets its place in FLOORS before it gets its first import.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from architecture import rules
from architecture.classes import abstract_or_final
from architecture.source import Package


# Bottom first; rooms on one floor are siblings. The package's __init__.py and __main__.py stand
# above all.
FLOORS: list[set[str]] = [
    {"errors"},
    {"vectors"},
    {"numerics"},
    {"objective"},
    {"curvature", "problems"},
    {"optim", "landscape"},
    {"study", "minimization"},
    {"report"},
    {"compare", "setting"},
    {"reproduce", "play", "doctor", "atlas"},
    {"cli"},
]

# A report is rebuilt from its files alone: it reads records and surfaces, and never trains.
STRANGERS: dict[str, set[str]] = {
    "report": {"optim", "objective", "curvature", "problems"},
}

# Methods with a default that a subclass may replace; everything else concrete is left alone.
SEAMS = {"evaluate", "descend", "advance"}

LONGEST_FILE, MEDIAN_FILE, MEDIAN_FROM = 350, 130, 10
LONGEST_FUNCTION, P95_FUNCTION = 60, 40
CONSTRUCTOR_ARGUMENTS = 8


@pytest.fixture(scope="module")
def package() -> Package:
    return Package(Path(__file__).parents[2] / "src" / "thalweg")


def report(violations: list[str]) -> str:
    return "\n".join(["", *violations])


def test_imports_only_fall(package):
    violations = rules.falling(package, FLOORS)
    assert not violations, report(violations)


def test_a_report_never_trains(package):
    violations = rules.ignorance(package, STRANGERS)
    assert not violations, report(violations)


def test_no_circles(package):
    violations = rules.circles(package)
    assert not violations, report(violations)


def test_files_are_short(package):
    violations = rules.file_sizes(package, LONGEST_FILE, MEDIAN_FILE, MEDIAN_FROM)
    assert not violations, report(violations)


def test_functions_are_short(package):
    violations = rules.function_sizes(package, LONGEST_FUNCTION, P95_FUNCTION)
    assert not violations, report(violations)


def test_constructors_are_narrow(package):
    violations = rules.constructors(package, CONSTRUCTOR_ARGUMENTS)
    assert not violations, report(violations)


def test_names_say_something(package):
    violations = rules.vague_names(package)
    assert not violations, report(violations)


def test_files_say_what_they_are(package):
    violations = rules.module_docstrings(package)
    assert not violations, report(violations)


def test_classes_are_abstract_or_final(package):
    violations = abstract_or_final(package, SEAMS)
    assert not violations, report(violations)
