"""The command ``thalweg inspect``: its options, and what it prints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from thalweg.compare import data_places, open_problem
from thalweg.curvature.journal import read_journal
from thalweg.doctor.examination import check_folder, examine
from thalweg.report.inspection_page import inspection_terminal
from thalweg.report.monitor_page import write_monitor
from thalweg.setting import prepare


__all__ = ["EPILOG", "inspect"]

EPILOG = """**Examples**

`thalweg inspect digits --optimizer sgd --lr 0.5 --train 400`

`thalweg inspect digits --optimizer adam --train 400 --out page --json`

`thalweg inspect my_problem.py --checkpoint weights.pt --optimizer sgd:momentum=0.9 --lr 0.1`

`thalweg inspect run/curvature.jsonl` (the log of a CurvatureMonitor as a page)"""


def inspect(
    problem: Annotated[
        str,
        typer.Argument(
            help="A problem of `thalweg list`, a file with a problem(), or a monitor's .jsonl log."
        ),
    ] = "digits",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights: a state dictionary, or a dictionary with 'model' and 'optimizer'.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="The optimizer in use, as in `compare`: adam, sgd:momentum=0.9, ..."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Its learning rate.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Its momentum.")] = None,
    train: Annotated[int, typer.Option(help="Steps to train first.")] = 0,
    samples: Annotated[
        int | None,
        typer.Option(help="Training samples to look at. [default: what a minute or two allow]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, data order and samples.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder. [default: thalweg-out/inspect/PROBLEM]")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an inspection that is in --out.")] = False,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of data sets.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look at the curvature: is the learning rate too high, is this a minimum, what would help?"""
    if problem.endswith(".jsonl"):
        _monitor(Path(problem), out, json_=json_)
        return
    if out is not None:
        check_folder(out, force=force)
    with data_places(data_root):
        opened = open_problem(problem, root=data_root)
        setting = prepare(
            opened,
            checkpoint=checkpoint,
            optimizer=optimizer,
            lr=lr,
            momentum=momentum,
            train=train,
            samples=samples,
            seed=seed,
            progress=True,
        )
        found = examine(setting, command=shlex.join(["thalweg", *sys.argv[1:]]), progress=True)
    folder = out or Path("thalweg-out", "inspect", opened.name)
    page = found.write(folder, force=force or out is None)[0]
    if json_:
        print(json.dumps({**found.record, "page": str(page)}, indent=2, allow_nan=False))
    else:
        _show(found.record, page)


def _show(record: dict[str, Any], page: Path) -> None:
    console = Console()
    console.print("", inspection_terminal(record, wide=console.width >= 110), "")
    console.print(Text.assemble("page: ", (str(page), "bold")))


def _monitor(log: Path, out: Path | None, *, json_: bool) -> None:
    """The page of a monitor's log."""
    if not log.is_file():
        raise FileNotFoundError(f"{log}: no such log.")
    records = read_journal(log)
    if not records:
        raise ValueError(f"{log}: no measurement in it yet.")
    page = write_monitor(out or log.parent, records, name=log.stem)[0]
    if json_:
        print(json.dumps({"records": records, "page": str(page)}, indent=2, allow_nan=False))
        return
    Console().print(Text.assemble("page: ", (str(page), "bold")))
