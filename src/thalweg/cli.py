"""The command line: parse, call, print."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg import __version__, compare as comparison, optim, problems, reproduce as reproduction
from thalweg.atlas.command import EPILOG as LANDSCAPE_HELP, landscape
from thalweg.doctor.command import EPILOG as INSPECT_HELP, inspect
from thalweg.errors import bad_argument
from thalweg.report import results
from thalweg.reproduce import Book, Outcome
from thalweg.study import Budget, LocalProcesses, Summary
from thalweg.study.arms import parse_arms


app = typer.Typer(
    help="Optimize a network, inspect its curvature, see its landscape, compare fairly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Batch = Annotated[str | None, typer.Option(help="Samples a step, or full. [default: its own]")]
Landscape = Annotated[
    bool,
    typer.Option(
        "--landscape/--no-landscape",
        help="Two more runs, for a picture of the loss with both paths.",
    ),
]
Schedule = Annotated[
    str,
    typer.Option(
        help="The learning rate over a run: constant, cosine, linear, step; or tuned: "
        "each trial draws one of them, the winner's is kept."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of data sets, laid out as torchvision does (or THALWEG_DATA=DIR).",
    ),
]

_FETCH = "Fetch data that are not on this machine, and say so first (or THALWEG_DOWNLOAD=1)."
Download = Annotated[bool, typer.Option("--download", help=_FETCH)]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"thalweg {__version__}")
        raise typer.Exit


@app.command(
    epilog="""**Examples**

`thalweg compare` (eight methods on handwritten digits)

`thalweg compare rosenbrock --optimizers sgd,momentum,adam --steps 500`

`thalweg compare digits-cnn --optimizers adam,sgd:momentum=0.9:nesterov=true,torch.optim.NAdam`

`thalweg compare digits --trials 16 --seeds 10 --schedule tuned --out study --json`

`thalweg compare digits-logistic --batch full --optimizers lbfgs,newton-cg,adam --evaluations 500`

`thalweg compare fashion-mlp --download` or `--data-root /data`

`thalweg new-problem my_problem.py && thalweg compare my_problem.py`

The same command again does what is missing and nothing else."""
)
def compare(
    problem: Annotated[
        str, typer.Argument(help="A problem of `thalweg list`, or a file with a problem().")
    ] = "digits",
    optimizers: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: names of `thalweg list`, settings after colons "
            "(sgd:momentum=0.9), dotted paths of importable classes; 'all' for those that take "
            "batches, 'deterministic' for those that search (best with --batch full)."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps a run.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Gradient evaluations a run.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds of training a run.")] = None,
    trials: Annotated[int, typer.Option(help="Tuning trials for each optimizer.")] = 8,
    seeds: Annotated[int, typer.Option(help="Fresh seeds for each tuned optimizer.")] = 5,
    defaults: Annotated[
        bool, typer.Option(help="Also run each optimizer at its own defaults.")
    ] = True,
    schedule: Schedule = "constant",
    batch: Batch = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time. [default: cores]")] = None,
    landscape_: Landscape = True,
    out: Annotated[Path | None, typer.Option(help="Folder. [default: thalweg-out/PROBLEM]")] = None,
    data_root: DataRoot = None,
    download: Download = False,
    json_: Json = False,
) -> None:
    """Race optimizers on a problem: the same tuning for each, then fresh seeds, then a report."""
    with comparison.data_places(data_root, download=download):
        study = comparison.Study(
            comparison.open_problem(problem, root=data_root, download=download, batch=batch),
            None if optimizers is None else parse_arms(optimizers),
            budget=_budget(steps, evaluations, seconds),
            trials=trials,
            seeds=seeds,
            defaults=defaults,
            schedule=schedule,
            out=out,
        )
        summary = study.run(
            command=_command(), executor=LocalProcesses(workers), landscape=landscape_
        )
    report = study.report()
    if json_:
        _print_json({**summary.to_dict(), "report": str(report), "folder": str(study.out)})
    else:
        _print_summary(summary, report)


app.command(epilog=INSPECT_HELP)(inspect)
app.command(epilog=LANDSCAPE_HELP)(landscape)


@app.command(epilog="**Example**\n\n`thalweg new-problem my_problem.py`")
def new_problem(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("my_problem.py"),
    force: Annotated[bool, typer.Option(help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a problem of your own to fill in: a commented file that runs as it is."""
    file = comparison.write_template(path, force=force)
    _console().print(Text(f"{file} is written. Race it with: thalweg compare {file}"))


@app.command("list", epilog="**Example**\n\n`thalweg list problems --json`")
def list_(
    what: Annotated[
        str, typer.Argument(help="optimizers, problems, sets, experiments, or nothing for all.")
    ] = "",
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """List optimizers, problems (and what data they miss here), classical sets, experiments."""
    with comparison.data_places(data_root):
        rooms = {"optimizers": _optimizers(), "problems": _problems()}
    rooms |= {"sets": problems.listed_sets(), "experiments": _experiments()}
    if what and what not in rooms:
        raise bad_argument("thalweg list", "what", what, f"one of {', '.join(rooms)}")
    shown = {name: rows for name, rows in rooms.items() if what in {"", name}}
    if json_:
        _print_json(shown)
        return
    for name, rows in shown.items():
        table = Table(
            box=None, pad_edge=False, header_style="dim", title_justify="left", title=name
        )
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(str(value)) for value in row.values()))
        _console().print(table, "")


@app.command(
    epilog="**Examples**\n\n`thalweg reproduce steep-valley`\n\n"
    "`thalweg reproduce steep-valley --out valley --json`\n\n"
    "`thalweg reproduce --all` (everything that fits in an hour, as one book; resumes)"
)
def reproduce(
    name: Annotated[str, typer.Argument(help="An experiment of `thalweg list experiments`.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Run all and write the book.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder. [default: thalweg-out/reproduce/NAME]")
    ] = None,
    json_: Json = False,
) -> None:
    """Run a published claim: claim, expected, measured, and whether it holds.

    Ends with 1 where a verdict is not the one on record: a claim that is known not to hold says
    why, and is no failure. No experiment reads a data set.
    """
    if all_ == bool(name):
        raise ValueError("thalweg reproduce: give the name of one experiment, or --all.")
    if all_:
        _reproduce_all(out or Path("thalweg-out", "reproduce"), json_=json_)
        return
    experiment = reproduction.find(name, reproduction.experiments())
    outcome = experiment.run()
    folder = out or Path("thalweg-out", "reproduce", experiment.name)
    files = reproduction.write(folder, experiment, outcome)
    if json_:
        paths = [str(file) for file in files]
        _print_json({**reproduction.as_dict(experiment, outcome), "files": paths})
    else:
        _print_claims(experiment.title, outcome, files)
    if not outcome.as_recorded:
        raise typer.Exit(1)


def _reproduce_all(folder: Path, *, json_: bool) -> None:
    """Run what is missing, say so as it goes, and write the book."""
    progress = Console(stderr=True)

    def tell(name: str, event: str) -> None:
        progress.print(Text(f"{name}: {event}"))

    book = reproduction.run_all(folder, listener=tell)
    if json_:
        rows = [dataclasses.asdict(entry) for entry in book.entries]
        verdicts = {"holds": book.holds, "as_recorded": book.as_recorded}
        _print_json({"page": str(book.page), **verdicts, "experiments": rows})
    else:
        _print_book(book)
    if not book.as_recorded:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line: 0 done, 1 a run failed or a verdict is new, 2 a wrong argument, 130."""
    try:
        app()
    except SystemExit as ended:
        if ended.code != 130:  # how typer ends after Ctrl-C
            raise
        _fail("stopped; finished runs are kept, the same command goes on from there", 130)
    except (ValueError, TypeError, ImportError, OSError) as error:
        _fail(str(error), 2)
    except RuntimeError as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    if os.environ.get("THALWEG_DEBUG") and code != 130:
        raise
    Console(stderr=True).print(Text(f"thalweg: {message}", style="red"))
    sys.exit(code)


def _budget(steps: int | None, evaluations: int | None, seconds: float | None) -> Budget | None:
    given = {"steps": steps, "evaluations": evaluations, "seconds": seconds}
    chosen = [(kind, amount) for kind, amount in given.items() if amount is not None]
    if len(chosen) > 1:
        raise ValueError("thalweg compare: give one of --steps, --evaluations and --seconds.")
    return Budget(*chosen[0]) if chosen else None


def _command() -> str:
    return shlex.join(["thalweg", *sys.argv[1:]])


def _console() -> Console:
    return Console()


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))


def _print_summary(summary: Summary, report: Path) -> None:
    console = _console()
    console.print(
        "", Text(summary.verdict.text), "", results(summary, wide=console.width >= 130), ""
    )
    console.print(Text.assemble("report: ", (str(report), "bold")))


def _print_claims(title: str, outcome: Outcome, files: list[Path]) -> None:
    console = _console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("claim", ratio=1)
    table.add_column("expected", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("holds")
    reasons = []
    for claim in outcome.claims:
        verdict = Text("yes" if claim.holds else "no", style="green" if claim.holds else "bold")
        if claim.because and claim.as_recorded:
            reasons.append(claim.because)
            verdict.append(f" [{list(dict.fromkeys(reasons)).index(claim.because) + 1}]")
        elif not claim.as_recorded:
            verdict = Text(f"{verdict.plain}, not as recorded", style="bold red")
        table.add_row(Text(claim.claim), str(claim.expected), str(claim.measured), verdict)
    console.print(Text(title, style="bold"), "", table, "")
    for k, reason in enumerate(dict.fromkeys(reasons), start=1):
        console.print(Text(f"[{k}] known not to hold: {reason}"), "")
    for file in files:
        console.print(Text(str(file), style="dim"))


def _print_book(book: Book) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("experiment", "status", "holds", ""):
        table.add_column(column)
    words = {True: "every claim", False: "all but what is known not to", None: "-"}
    for entry in book.entries:
        new = entry.as_recorded is False and entry.status != "failed"
        holds = Text("not as recorded", style="bold red") if new else Text(words[entry.holds])
        table.add_row(entry.name, entry.status, holds, Text(entry.message))
    _console().print(table, "", Text.assemble("book: ", (str(book.page), "bold")))


def _optimizers() -> list[dict[str, str]]:
    return [
        {
            "name": entry.name,
            "what": entry.summary,
            "needs": entry.needs.value,
            "state": entry.state,
            "reference": f"{entry.reference.authors} {entry.reference.year}",
        }
        for entry in optim.catalogue().values()
    ]


def _problems() -> list[dict[str, str]]:
    return [
        {"name": e.name, "what": e.title, "missing": "" if e.available else str(e.needs)}
        for e in problems.catalogue().values()
    ]


def _experiments() -> list[dict[str, str]]:
    return [{"name": e.name, "what": e.title} for e in reproduction.experiments().values()]


if __name__ == "__main__":
    main()
