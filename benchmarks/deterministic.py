"""Methods that search, beside scipy, torchmin and torch.optim.LBFGS, on the classical sets.

    python benchmarks/deterministic.py [--parts least-squares,nist,mgh,...] [--methods bfgs,...]
                                       [--seconds 20] [--json FILE] [--out DIR]

Solved: of NIST's sets, every parameter to six certified digits for fits and to four for
`minimize`; of MGH's and of the bounded ones, |f - f*| <= 1e-8 max(|f*|, 1e-6); of a quadratic, a
relative residual of 1e-10; of a trust-region problem, the least value to 1e-8. All at the point
that was returned. "False" are runs that called themselves a success and were none. Counts do not
depend on the machine, seconds do. torchmin (`pip install pytorch-minimize`) takes part where it is
installed. With --json a part's records replace those that the file holds of it; --out draws data
profiles (More and Wild) and performance profiles (Dolan and More) of all that the file holds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classical_parts as parts
import classical_time
import torch
from classical_solvers import METHODS, TORCHMIN

from thalweg.report import canvas
from thalweg.report.profiles import data_profile, performance_profile


PARTS = ("least-squares", "nist", "mgh", "quadratics", "subproblems", "bounded", "time")
Row = dict[str, Any]


def runs(part: str, methods: list[str], seconds: float) -> Iterator[Row]:
    """The records of a part, as they are made."""
    if part == "least-squares":
        return parts.squares(seconds)
    if part == "subproblems":
        return parts.subproblems()
    if part == "bounded":
        return parts.bounded(seconds)
    if part == "time":
        return classical_time.rows()
    made = {"nist": parts.nist, "mgh": parts.mgh, "quadratics": parts.quadratics}
    return made[part](methods, seconds)


def versions() -> str:
    """What took part."""
    names = ["thalweg", "torch", "scipy", "numpy", *(["pytorch-minimize"] if TORCHMIN else [])]
    told = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return told if TORCHMIN else f"{told}; torchmin is not installed"


def key(row: Row) -> tuple[Any, ...]:
    """What a table is of."""
    return row["part"], row["tight"]


def group(row: Row) -> tuple[str, str]:
    """What is replaced as one in a file of records."""
    return row["part"], row["family"]


def ratio(mine: list[Row], theirs: list[Row]) -> str:
    """Their evaluations over ours, as a geometric mean where both solve."""
    own = {row["problem"]: row["values"] for row in mine if row["solved"]}
    both = [row["values"] / own[row["problem"]] for row in theirs
            if row["solved"] and row["problem"] in own]  # fmt: skip
    return f"{statistics.geometric_mean(both):.2f} ({len(both)})" if both else "-"


def line(name: str, rows: list[Row], mine: list[Row]) -> str:
    """A solver in a table."""
    solved = [row for row in rows if row["solved"]]
    false = sum(row["success"] and not row["solved"] for row in rows)
    values = statistics.median(row["values"] for row in solved) if solved else math.nan
    slopes = statistics.median(row["derivatives"] for row in solved) if solved else math.nan
    shown = name if " " in name else f"**{name}**"
    beside = "1" if rows is mine else ratio(mine, rows)
    return (
        f"| {shown} | {len(solved)} of {len(rows)} | {false} | {values:.0f} | {slopes:.0f} "
        f"| {beside} |"
    )


def table(rows: list[Row]) -> str:
    """A part at one kind of tolerance."""
    part, tight = key(rows[0])
    head = f"{part}, {'tight' if tight else 'default'} tolerances"
    lines = [
        f"\n{head}\n",
        "| solver | solved | false | values | derivatives | values over ours |",
        "|---|---|---|---|---|---|",
    ]
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["family"], row["solver"]), []).append(row)
    for (family, solver), found in grouped.items():
        mine = grouped.get((family, family), found)
        lines.append(line(solver, found, mine))
    return "\n".join(lines)


def tables(rows: list[Row]) -> None:
    """Print every table of counts."""
    counted = [row for row in rows if row["part"] != "time"]
    for which in dict.fromkeys(map(key, counted)):
        print(table([row for row in counted if key(row) == which]))
    timed = [row for row in rows if row["part"] == "time"]
    if timed:
        print(classical_time.table(timed))


def missed(rows: list[Row]) -> None:
    """Which problems our own methods did not solve, and what they said."""
    for row in rows:
        mine = row["part"] != "time" and " " not in row["solver"]
        if mine and not row["solved"]:
            word = "FALSE" if row["success"] else "missed"
            print(f"{word}: {row['part']} {row['solver']} {row['problem']}: {row['message']}")


def profiles(rows: list[Row], out: Path) -> None:
    """Draw a data and a performance profile of each part with more than one solver."""
    out.mkdir(parents=True, exist_ok=True)
    for which in dict.fromkeys(key(row) for row in rows if row["part"] != "time"):
        part, tight = which
        here = [row for row in rows if key(row) == which]
        names = list(dict.fromkeys(row["problem"] for row in here))
        sizes = {row["problem"]: row["n"] for row in here}
        groups = {"ours": [row for row in here if " " not in row["solver"]]}
        for family in dict.fromkeys(row["family"] for row in here):
            groups[family] = [row for row in here if row["family"] == family]
        for group, mine in groups.items():
            costs: dict[str, dict[str, float]] = {}
            for row in mine:
                spent = float(row["values"]) if row["solved"] else math.inf
                costs.setdefault(row["solver"], {})[row["problem"]] = spent
            if len(costs) < 2 or part == "subproblems":
                continue
            table = {solver: [row[name] for name in names] for solver, row in costs.items()}
            words = f"{part}, {'tight' if tight else 'default'} tolerances, {len(names)} problems"
            stem = f"{part}-{'tight' if tight else 'default'}-{group}"
            figure = performance_profile(table, line=words)
            canvas.save(figure, out / f"{stem}-performance.png")
            figure = data_profile(table, [sizes[name] for name in names], line=words)
            canvas.save(figure, out / f"{stem}-data.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of: %(default)s")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of one run at most")
    parser.add_argument("--json", type=Path, help="a file for the records, added to")
    parser.add_argument("--out", type=Path, help="a folder for profiles")
    options = parser.parse_args()
    chosen = options.parts.split(",")
    if not set(chosen) <= set(PARTS):
        parser.error(f"--parts: some of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    rows: list[Row] = []
    if options.json and options.json.exists():
        rows = json.loads(options.json.read_text())["records"]
    methods = options.methods.split(",")
    for part in chosen:
        made = runs(part, methods, options.seconds)
        for (name, family), found in itertools.groupby(made, key=group):
            print(f"{name}: {family} ...", file=sys.stderr, flush=True)
            new = list(found)
            rows = [row for row in rows if group(row) != (name, family)] + new
            if options.json:  # after each family, so that what is done is kept
                content = {"versions": versions(), "records": rows}
                options.json.write_text(json.dumps(content, indent=1))
    print(versions())
    here = [row for row in rows if any(row["part"].startswith(part) for part in chosen)]
    tables(here)
    missed(here)
    if options.out:
        profiles(rows, options.out)


if __name__ == "__main__":
    main()
