"""Which figures a study has, by name: what its records hold decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from matplotlib.figure import Figure

from thalweg.report import canvas, figures
from thalweg.report.forest import final_results
from thalweg.report.tuning import tunable, tuning_curves


__all__ = ["Picture", "gallery"]


@final
@dataclass(frozen=True)
class Picture:
    """A figure with its file name (no suffix), the section it belongs to and what it shows."""

    name: str
    section: str
    title: str
    figure: Figure

    @cached_property
    def svg(self) -> bytes:
        """The figure as an SVG file, drawn once."""
        return canvas.render(self.figure, "svg")


def gallery(study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """All figures that these records allow, in reading order; in the active theme."""
    pictures = []

    def add(name: str, section: str, figure: Figure) -> None:
        title = figure.axes[0].get_title(loc="left")
        pictures.append(Picture(name, section, title, figure))

    if any(run["stage"] == "confirm" for run in runs):
        add("final", "results", final_results(study, runs))
    if study["problem"].get("surface"):
        add("paths", "paths", figures.paths(study, runs))
    present = figures.quantities(runs)
    for quantity, against in [(q, "step") for q in present] + [(q, "seconds") for q in present[:1]]:
        drawn = figures.learning_curves(study, runs, quantity=quantity, against=against)
        add(_slug("curve", quantity, against), "curves", drawn)
    if present and _costs_differ(runs):
        drawn = figures.learning_curves(study, runs, quantity=present[0], against="gradients")
        add(_slug("curve", present[0], "gradients"), "curves", drawn)
    for parameter in tunable(study):
        tried = {run["hyperparameters"].get(parameter) for run in runs if run["stage"] == "tune"}
        if len(tried - {None}) > 1:
            drawn = tuning_curves(study, runs, parameter=parameter)
            add(_slug("tuning", parameter), "tuning", drawn)
    return pictures


def _costs_differ(runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some optimizer's step costs something other than one gradient."""
    confirm = [run["curve"] for run in runs if run["stage"] == "confirm"]
    return any(
        abs(gradients - step) > 0.01 * step
        for curve in confirm
        for step, gradients in zip(curve["step"], curve["gradients"], strict=True)
    )


def _slug(*parts: str) -> str:
    return "-".join(parts).replace("_", "-").replace(" ", "-")
