"""The command ``thalweg landscape``: what is asked for, and what it prints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from thalweg.atlas import options
from thalweg.atlas.chart import EXTRAS, PARTIAL, RECORD, Chart
from thalweg.atlas.order import ABOUT, Subject, Training, view_of
from thalweg.atlas.views import Frame, View
from thalweg.compare import data_places, open_problem
from thalweg.errors import bad_argument, one_of
from thalweg.landscape import Surface
from thalweg.problems import Problem
from thalweg.setting import check_folder
from thalweg.study.records import finite


__all__ = ["EPILOG", "landscape"]

EPILOG = """**Examples**

`thalweg landscape digits --train 400` (around a solution, filter-normalised)

`thalweg landscape my_problem.py --checkpoint weights.pt --resolution 51 --out page`

`thalweg landscape digits --trajectory --optimizer sgd:lr=0.3,adam --extras gif`

`thalweg landscape my_problem.py --connect a.pt b.pt`

`thalweg landscape rosenbrock --trajectory --optimizer sgd:lr=0.001,adam:lr=0.05`

`thalweg landscape page/surface.npz` (a measured surface, drawn again)"""


def landscape(
    problem: options.ProblemName = "digits",
    checkpoint: options.Checkpoint = None,
    directions: options.DirectionsName = None,
    resolution: options.Resolution = 51,
    span: options.SpanText = None,
    metrics: options.MetricNames = None,
    batchnorm: options.BatchNorm = "kept",
    trajectory: options.Trained = False,
    recordings: options.Recorded = None,
    connect: options.Ends = None,
    method: options.Method = "bezier",
    optimizer: options.OptimizerName = None,
    lr: options.Rate = None,
    train: options.Steps = None,
    samples: options.Samples = None,
    seed: options.Seed = 1,
    ceiling: options.Ceiling = None,
    extras: options.Extras = None,
    out: options.Out = None,
    force: options.Force = False,
    data_root: options.DataRoot = None,
    json_: options.Json = False,
) -> None:
    """See the loss: around a point, along optimizers' paths, or between two sets of weights.

    Writes one offline page, each figure as PNG and SVG, and the numbers. Interrupted, the same
    command goes on.
    """
    also = _words(extras)
    for extra in also:
        one_of(*EXTRAS).check(ABOUT, "extras", extra)
    if out is not None:
        check_folder(out, RECORD, "a landscape", force=force, partial=[PARTIAL])
    if problem.endswith(".npz"):
        folder = out or _folder(Path(problem).resolve().parent.name)
        chart = _again(Path(problem))
    else:
        subject = Subject(directions is not None, trajectory, tuple(recordings or ()), connect)
        subject.check()
        training = Training(optimizer, lr, train, checkpoint, samples, seed)
        with data_places(data_root):
            opened = _open(problem, checkpoint, data_root)
            folder = out or _folder(opened.name)
            folder.mkdir(parents=True, exist_ok=True)
            named = _metrics(metrics, opened)
            store = folder / PARTIAL
            frame = Frame(directions, resolution, _span(span), named, batchnorm, seed, store)
            setting, view = view_of(opened, subject, training, frame, method)
        facts = tuple(p for p in setting.facts if p[0] != "Point" or not view.surface.paths)
        notes = () if view.surface.paths else setting.notes
        chart = Chart(view, opened.title, facts, notes, _command())
    files = chart.write(folder, force=force or out is None, ceiling=ceiling, extras=also)
    _show(chart, files, json_=json_)


def _open(problem: str, checkpoint: Path | None, data_root: Path | None) -> Problem:
    if problem.endswith((".pt", ".pth", ".ckpt")) and checkpoint is None:
        raise ValueError(
            f"{ABOUT} {problem}: a checkpoint holds weights, but no model and no data. Give the "
            f"problem first: {ABOUT} my_problem.py --checkpoint {problem} (`thalweg new-problem` "
            "writes a file to begin with)."
        )
    return open_problem(problem, root=data_root)


def _span(text: str | None) -> Any:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise bad_argument(ABOUT, "span", text, "a number > 0 or auto") from None


def _metrics(text: str | None, problem: Problem) -> tuple[str, ...]:
    if text is not None:
        return tuple(_words(text))
    named = problem.metric is not None and problem.metric.name == "accuracy"
    return ("accuracy",) if named else ()


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _folder(name: str) -> Path:
    return Path("thalweg-out", "landscape", name)


def _again(file: Path) -> Chart:
    """The chart of a surface that was measured before."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file.")
    return Chart(View(Surface.load(file)), "Loss landscape", command=_command())


def _command() -> str:
    return shlex.join(["thalweg", *sys.argv[1:]])


def _show(chart: Chart, files: list[Path], *, json_: bool) -> None:
    if json_:
        content = {**chart.record, "page": str(files[0]), "files": [str(file) for file in files]}
        print(json.dumps(finite(content), indent=2, allow_nan=False))
        return
    console = Console()
    console.print("", Text(chart.title, style="bold"), "")
    for sentence in chart.record["sentences"]:
        console.print(Text(sentence))
    for note in chart.notes:
        console.print(Text(f"Note: {note}", style="dim"))
    console.print("", Text.assemble("page: ", (str(files[0]), "bold")))
