"""Experiments on disk: a folder each, with the claims as JSON and the figures as PNG and SVG.

``claims.json`` is written last and whole, so that where it is, everything is.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from thalweg.errors import unknown_name
from thalweg.report import canvas
from thalweg.reproduce.claims import Experiment, Outcome
from thalweg.study.provenance import machine, versions
from thalweg.study.records import write_json


__all__ = ["as_dict", "current", "find", "perform", "read", "write", "write_failure"]

RECORD = "claims.json"


def find(name: str, experiments: Mapping[str, Experiment]) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in experiments:
        raise unknown_name("reproduce", "experiment", name, experiments)
    return experiments[name]


def as_dict(
    experiment: Experiment, outcome: Outcome, seconds: float | None = None
) -> dict[str, Any]:
    """An outcome as plain data."""
    return {
        **_heading(experiment, "finished", seconds),
        "holds": outcome.holds,
        "as_recorded": outcome.as_recorded,
        "claims": [claim.as_dict() for claim in outcome.claims],
        "settings": dict(outcome.settings),
        "figures": [{"name": k, "title": _title(v)} for k, v in outcome.figures.items()],
    }


def write(
    folder: Path, experiment: Experiment, outcome: Outcome, seconds: float | None = None
) -> list[Path]:
    """Write ``claims.json`` and the figures into a folder; the files, claims first."""
    record = folder / RECORD
    record.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    figures = [
        canvas.save(figure, folder / f"{name}.{kind}")
        for name, figure in outcome.figures.items()
        for kind in ("png", "svg")
    ]
    write_json(record, as_dict(experiment, outcome, seconds))
    return [record, *figures]


def perform(folder: Path, experiment: Experiment) -> tuple[Outcome, list[Path]]:
    """Run an experiment and write what it found into a folder, with the seconds that it took."""
    start = time.perf_counter()
    outcome = experiment.run()
    return outcome, write(folder, experiment, outcome, time.perf_counter() - start)


def write_failure(
    folder: Path, experiment: Experiment, error: Exception, seconds: float
) -> dict[str, Any]:
    """Record that an experiment ended with an error; the record."""
    content = {
        **_heading(experiment, "failed", seconds),
        "holds": False,
        "as_recorded": False,
        "claims": [],
        "settings": {},
        "figures": [],
        "message": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
    }
    write_json(folder / RECORD, content)
    return content


def read(folder: Path) -> dict[str, Any] | None:
    """What a folder says about its experiment, or None where there is nothing whole."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def current(record: Mapping[str, Any] | None, experiment: Experiment) -> bool:
    """Whether a record is a finished one of this version of the package and the experiment."""
    return (
        record is not None
        and record.get("status") == "finished"
        and record.get("fingerprint") == experiment.fingerprint
        and record["versions"]["thalweg"] == versions()["thalweg"]
    )


def _heading(experiment: Experiment, status: str, seconds: float | None) -> dict[str, Any]:
    return {
        "format": 1,
        "experiment": experiment.name,
        "title": experiment.title,
        "summary": experiment.summary,
        "fingerprint": experiment.fingerprint,
        "status": status,
        "seconds": seconds,
        "machine": machine(),
        "versions": versions(),
    }


def _title(figure: Figure) -> str:
    return figure.get_suptitle() or next(
        (axes.get_title("left") for axes in figure.axes if axes.get_title("left")), ""
    )
