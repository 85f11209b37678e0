"""The command ``thalweg landscape``: its options, and what it prints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from thalweg.atlas.chart import EXTRAS, PARTIAL, RECORD, Chart
from thalweg.atlas.connecting import between
from thalweg.atlas.views import Frame, View, around
from thalweg.atlas.walking import along, recorded, trained
from thalweg.compare import data_places, open_problem
from thalweg.errors import bad_argument, one_of
from thalweg.landscape import Surface
from thalweg.problems import Problem
from thalweg.setting import Setting, check_folder, prepare
from thalweg.setting.preparation import arm_of
from thalweg.study.arms import Arm, parse_arms
from thalweg.study.records import finite


__all__ = ["EPILOG", "landscape"]

EPILOG = """**Examples**

`thalweg landscape digits --train 400` (around a solution, filter-normalised)

`thalweg landscape my_problem.py --checkpoint weights.pt --resolution 51 --out page`

`thalweg landscape digits --trajectory --optimizer sgd:lr=0.3,adam --extras gif`

`thalweg landscape my_problem.py --connect a.pt b.pt`

`thalweg landscape rosenbrock --trajectory --optimizer sgd:lr=0.001,adam:lr=0.05`

`thalweg landscape page/surface.npz` (a measured surface, drawn again)"""

_ABOUT = "thalweg landscape"


def landscape(
    problem: Annotated[
        str,
        typer.Argument(
            help="A problem of `thalweg list`, a file with a problem(), or a measured surface.npz."
        ),
    ] = "digits",
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights: a state dictionary, or one under 'model'."),
    ] = None,
    directions: Annotated[
        str | None,
        typer.Option(
            help="filter, layer, model, weight, unit, none (random); hessian, hessian-ends. "
            "[default: filter]"
        ),
    ] = None,
    resolution: Annotated[int, typer.Option(help="Points along each axis.")] = 51,
    span: Annotated[
        str | None, typer.Option(help="Half-width of the axes, or auto. [default: by directions]")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Beside the loss: accuracy, error; dearer: gradient_norm, lambda_max, lambda_min, "
            "convexity. [default: accuracy for classes]"
        ),
    ] = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Train, and draw the path in its PCA plane.")
    ] = False,
    recordings: Annotated[
        list[str] | None,
        typer.Option(
            "--recorded", metavar="[NAME=]FOLDER", help="Draw a recorded Trajectory; repeatable."
        ),
    ] = None,
    connect: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.pt B.pt", help="Draw what lies between two checkpoints."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Of --connect: bezier, polygon, neb, autoneb.")
    ] = "bezier",
    optimizer: Annotated[
        str | None,
        typer.Option(help="The optimizer, as in `compare`; with --trajectory, several."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Its learning rate.")] = None,
    train: Annotated[
        int | None, typer.Option(help="Steps to train first. [default: 0; the problem's own]")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Training samples to look at. [default: what is quick]")
    ] = None,
    batchnorm: Annotated[
        str, typer.Option(help="BatchNorm's statistics: kept, or recalibrated at each point.")
    ] = "kept",
    ceiling: Annotated[
        float | None, typer.Option(help="Loss above which the picture is cut off.")
    ] = None,
    extras: Annotated[
        str | None, typer.Option(help=f"Also written: {', '.join(EXTRAS)} (comma-separated).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, data order, samples, directions.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder. [default: thalweg-out/landscape/PROBLEM]")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a landscape that is in --out.")] = False,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of data sets.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """See the loss: around a point, along optimizers' paths, or between two sets of weights.

    Writes one offline page, each figure as PNG and SVG, and the numbers. Interrupted, the same
    command goes on.
    """
    wanted = _words(extras)
    for extra in wanted:
        one_of(*EXTRAS).check(_ABOUT, "extras", extra)
    named = sum((trajectory or bool(recordings), connect is not None))
    if named > 1 or (named and directions is not None):
        raise ValueError(
            f"{_ABOUT}: give one of --directions, --trajectory (or --recorded) and --connect."
        )
    if out is not None:
        check_folder(out, RECORD, "a landscape", force=force, partial=[PARTIAL])
    with data_places(data_root):
        if problem.endswith(".npz"):
            chart, name = _again(Path(problem)), Path(problem).resolve().parent.name
        else:
            _check_problem(problem, checkpoint)
            opened = open_problem(problem, root=data_root)
            name = opened.name
            folder = out or _default(name)
            frame = Frame(
                directions,
                resolution,
                _span(span),
                _metrics(metrics, opened),
                batchnorm,
                seed,
                _store(folder),
            )
            options = {"lr": lr, "optimizer": optimizer, "samples": samples, "seed": seed}
            walking = trajectory or bool(recordings)
            setting = _setting(opened, checkpoint, options, 0 if walking else train or 0)
            if walking:
                walks = recorded(recordings or [])
                if trajectory:
                    arms = _arms(optimizer, lr)
                    steps = opened.steps if train is None else train
                    walks |= trained(
                        setting, arms, steps, seed=seed, checkpoint=checkpoint, progress=True
                    )
                view = along(setting, walks, frame)
            elif connect is not None:
                view = between(setting, *connect, method, frame)
            else:
                view = around(setting, frame)
            chart = _chart(setting, view)
    folder = out or _default(name)
    files = chart.write(folder, force=force or out is None, ceiling=ceiling, extras=wanted)
    _show(chart, files, json_=json_)


def _setting(
    problem: Problem, checkpoint: Path | None, options: dict[str, Any], train: int
) -> Setting:
    """The point that is looked at, in evaluation mode; paths bring optimizers of their own."""
    return prepare(
        problem,
        checkpoint=checkpoint,
        optimizer=options["optimizer"] if train else None,
        lr=options["lr"] if train else None,
        train=train,
        samples=options["samples"],
        seed=options["seed"],
        training_mode=False,
        where=_ABOUT,
        progress=True,
    )


def _arms(optimizer: str | None, lr: float | None) -> list[Arm]:
    if optimizer is not None and "," in optimizer:
        if lr is not None:
            raise ValueError(f"{_ABOUT}: with several optimizers, write rates as sgd:lr={lr:g}.")
        return parse_arms(optimizer)
    arm = arm_of(_ABOUT, optimizer, lr, None, needed=True)
    assert arm is not None
    return [arm]


def _check_problem(problem: str, checkpoint: Path | None) -> None:
    if problem.endswith((".pt", ".pth", ".ckpt")) and checkpoint is None:
        raise ValueError(
            f"{_ABOUT} {problem}: a checkpoint holds weights, but no model and no data. Give the "
            f"problem first: {_ABOUT} my_problem.py --checkpoint {problem} (`thalweg new-problem` "
            "writes a file to begin with)."
        )


def _span(text: str | None) -> Any:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise bad_argument(_ABOUT, "span", text, "a number > 0 or auto") from None


def _metrics(text: str | None, problem: Problem) -> tuple[str, ...]:
    if text is not None:
        return tuple(_words(text))
    named = problem.metric is not None and problem.metric.name == "accuracy"
    return ("accuracy",) if named else ()


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _default(name: str) -> Path:
    return Path("thalweg-out", "landscape", name)


def _store(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / PARTIAL


def _again(file: Path) -> Chart:
    """The chart of a surface that was measured before."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file.")
    return Chart(View(Surface.load(file)), "Loss landscape", command=_command())


def _chart(setting: Setting, view: View) -> Chart:
    facts = tuple(pair for pair in setting.facts if pair[0] != "Point" or not view.surface.paths)
    notes = setting.notes if not view.surface.paths else ()
    return Chart(view, setting.problem.title, facts, notes, _command())


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
