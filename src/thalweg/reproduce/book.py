"""Running experiments and keeping what they found: claims as JSON, figures as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import unknown_name
from thalweg.report import canvas
from thalweg.reproduce.claims import Experiment, Outcome
from thalweg.study.provenance import machine, versions
from thalweg.study.records import write_json


__all__ = ["as_dict", "find", "write"]


def find(name: str, experiments: Mapping[str, Experiment]) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in experiments:
        raise unknown_name("reproduce", "experiment", name, experiments)
    return experiments[name]


def as_dict(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data."""
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "holds": outcome.holds,
        "claims": [claim.as_dict() for claim in outcome.claims],
        "settings": dict(outcome.settings),
        "machine": machine(),
        "versions": versions(),
    }


def write(folder: Path, experiment: Experiment, outcome: Outcome) -> list[Path]:
    """Write ``claims.json`` and the figures into a folder; the files, claims first."""
    files = [folder / "claims.json"]
    write_json(files[0], as_dict(experiment, outcome))
    for name, figure in outcome.figures.items():
        files += [canvas.save(figure, folder / f"{name}.{kind}") for kind in ("png", "svg")]
    return files
