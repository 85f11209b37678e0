"""The house rules. Each takes a package and returns its violations, one line each."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import ceil

from architecture.source import Import, Package, code_lines, dotted_name


VAGUE = {"util", "utils", "misc", "helper", "helpers"}


# --- imports ---


def falling(package: Package, floors: Sequence[Collection[str]]) -> list[str]:
    """Imports fall: from one floor to a lower one, or stay within one room.

    Rooms of one floor are siblings, which may not import each other. The package's own ``__init__``
    gathers the public names and stands above every floor; its ``__version__`` is a constant and may
    be read from anywhere.
    """
    level = {room: height for height, floor in enumerate(floors) for room in floor}
    level |= {package.name: len(floors), "__main__": len(floors)}
    rooms = {package.room(name) for name in package.modules}
    found = [f"room {room!r} has no floor: add it to FLOORS" for room in sorted(rooms - set(level))]
    for i in _between_modules(package):
        above, below = package.room(i.source), package.room(i.target)
        if above == below or not {above, below} <= set(level):
            continue
        if level[above] == level[below]:
            found.append(
                f"{_where(i)}: {above} and {below} are siblings and may not import each other"
            )
        elif level[above] < level[below]:
            found.append(f"{_where(i)}: {above} is below {below}; imports fall only")
    return found


def ignorance(package: Package, strangers: Mapping[str, Collection[str]]) -> list[str]:
    """Rooms that may not know certain lower rooms, though their floor would let them."""
    return [
        f"{_where(i)}: {package.room(i.source)} does not know {package.room(i.target)}"
        for i in package.imports
        if package.room(i.target) in strangers.get(package.room(i.source), ())
    ]


def circles(package: Package) -> list[str]:
    """Groups of modules that import one another, however far round."""
    arrows: dict[str, set[str]] = {name: set() for name in package.modules}
    for i in _between_modules(package):
        arrows[i.source].add(i.target)
    reach = {name: _reachable(name, arrows) for name in arrows}
    rings = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in arrows if a in reach[a]}
    return [f"circle: {' <-> '.join(ring)}" for ring in sorted(rings)]


def _between_modules(package: Package) -> Iterator[Import]:
    for i in package.imports:
        version = i.target == package.name and i.name == "__version__"
        if i.source != i.target and i.target in package.modules and not version:
            yield i


def _reachable(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = list(arrows[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead.extend(arrows[name])
    return seen


def _where(i: Import) -> str:
    return f"{i.source}:{i.line} imports {i.target}"


# --- sizes and names ---


def file_sizes(package: Package, longest: int, median: int, median_from: int) -> list[str]:
    """No file is over ``longest`` lines; of more than ``median_from``, the median is small."""
    sizes = {m.name: m.lines for m in package.modules.values()}
    found = [f"{name}: {n} lines, at most {longest}" for name, n in sizes.items() if n > longest]
    if len(sizes) > median_from and statistics.median(sizes.values()) >= median:
        found.append(
            f"median file has {statistics.median(sizes.values())} lines, must be under {median}"
        )
    return found


def function_sizes(package: Package, longest: int, p95: int) -> list[str]:
    """No function is over ``longest`` lines, 19 of 20 at most ``p95``; docstrings are free."""
    sizes = [(name, code_lines(f)) for m in package.modules.values() for name, f in m.functions()]
    found = [f"{name}: {n} lines, at most {longest}" for name, n in sizes if n > longest]
    if sizes:
        ranked = sorted(n for _, n in sizes)
        high = ranked[ceil(0.95 * len(ranked)) - 1]
        if high > p95:
            found.append(f"95th percentile of function lengths is {high} lines, at most {p95}")
    return found


def constructors(package: Package, most: int) -> list[str]:
    """``__init__`` takes few arguments, and no ``**kwargs`` unless typed by ``Unpack[...]``."""
    found = []
    for module in package.modules.values():
        for name, function in module.functions():
            if function.name != "__init__":
                continue
            a = function.args
            count = (
                len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) + (a.vararg is not None) - 1
            )
            if count > most:
                found.append(
                    f"{name}: {count} arguments, at most {most}; group some in a strategy object"
                )
            if a.kwarg is not None and not _unpacked(a.kwarg):
                found.append(
                    f"{name}: **{a.kwarg.arg} swallows misspelt names; type it by Unpack[...]"
                )
    return found


def _unpacked(kwarg: ast.arg) -> bool:
    return kwarg.annotation is not None and dotted_name(kwarg.annotation).endswith("Unpack")


def vague_names(package: Package) -> list[str]:
    """No file or folder is named utils, misc or helpers: it is named by what it holds."""
    return [
        f"{name}: name it by what it holds"
        for name in package.modules
        if VAGUE & set(re.split(r"[._]", name))
    ]


def module_docstrings(package: Package) -> list[str]:
    """Every file says what it is and why."""
    return [
        f"{m.name}: has no docstring"
        for m in package.modules.values()
        if m.text.strip() and ast.get_docstring(m.tree) is None
    ]
