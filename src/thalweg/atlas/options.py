"""The options of ``thalweg landscape``, with what each says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thalweg.atlas.chart import EXTRAS


ProblemName = Annotated[
    str,
    typer.Argument(
        help="A problem of `thalweg list`, a file with a problem(), or a measured surface.npz."
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights: a state dictionary, or one under 'model'."),
]
DirectionsName = Annotated[
    str | None,
    typer.Option(
        help="filter, layer, model, weight, unit, none (random); hessian, hessian-ends. "
        "[default: filter]"
    ),
]
Resolution = Annotated[int, typer.Option(help="Points along each axis.")]
SpanText = Annotated[
    str | None, typer.Option(help="Half-width of the axes, or auto. [default: by directions]")
]
MetricNames = Annotated[
    str | None,
    typer.Option(
        help="Beside the loss: accuracy, error; dearer: gradient_norm, lambda_max, lambda_min, "
        "convexity. [default: accuracy for classes]"
    ),
]
BatchNorm = Annotated[
    str, typer.Option(help="BatchNorm's statistics: kept, or recalibrated at each point.")
]
Trained = Annotated[
    bool, typer.Option("--trajectory", help="Train, and draw the path in its PCA plane.")
]
Recorded = Annotated[
    list[str] | None,
    typer.Option(
        "--recorded", metavar="[NAME=]FOLDER", help="Draw a recorded Trajectory; repeatable."
    ),
]
Ends = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="A.pt B.pt", help="Draw what lies between two checkpoints."),
]
Method = Annotated[str, typer.Option(help="Of --connect: bezier, polygon, neb, autoneb.")]
OptimizerName = Annotated[
    str | None, typer.Option(help="The optimizer, as in `compare`; with --trajectory, several.")
]
Rate = Annotated[float | None, typer.Option(help="Its learning rate.")]
Steps = Annotated[
    int | None,
    typer.Option(help="Steps to train first. [default: 0; with --trajectory the problem's own]"),
]
Samples = Annotated[
    int | None, typer.Option(help="Training samples to look at. [default: what is quick]")
]
Seed = Annotated[int, typer.Option(help="Of weights, data order, samples, directions.")]
Ceiling = Annotated[
    float | None, typer.Option(help="Loss above which the picture is cut off. [default: measured]")
]
Extras = Annotated[
    str | None, typer.Option(help=f"Also written, comma-separated: {', '.join(EXTRAS)}.")
]
Out = Annotated[Path | None, typer.Option(help="Folder. [default: thalweg-out/landscape/PROBLEM]")]
Force = Annotated[bool, typer.Option(help="Replace a landscape that is in --out.")]
DataRoot = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of data sets.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
