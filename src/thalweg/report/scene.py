"""The landscape in a study's report: read from the study's folder, drawn, and put into words."""

from __future__ import annotations

from pathlib import Path

from thalweg.landscape import Surface
from thalweg.report import words
from thalweg.report.gallery import Picture
from thalweg.report.landscapes import plane, relief
from thalweg.report.landscapes.statements import statements


__all__ = ["pictures", "read", "sentences"]


def read(folder: str | Path) -> Surface | None:
    """The surface of a study; None where there is none."""
    place = Path(folder) / "landscape" / "surface.npz"
    return Surface.load(place) if place.is_file() else None


def pictures(surface: Surface | None) -> list[Picture]:
    """From above, with the residual strips, and in space; in the active theme."""
    if surface is None:
        return []
    held = surface.meta.get("study", {})
    title = f"Around the solution of {held['best']}" if held.get("best") else "Loss landscape"
    drawn = {"landscape": plane(surface, title=title), "relief": relief(surface, title=title)}
    return [Picture(name, "landscape", title, figure) for name, figure in drawn.items()]


def sentences(surface: Surface | None) -> list[str]:
    """What is drawn, and how far it is from the paths."""
    if surface is None:
        return []
    held = surface.meta.get("study", {})
    found = []
    if held.get("best"):
        both = f"{held['best']} (the best)"
        if held.get("baseline"):
            both += f" and {held['baseline']} (the baseline: the first other optimizer listed)"
        found.append(
            f"The paths of {both} on {words.seeds([held['seed']])}, run again as they ran in the "
            f"race, in the plane in which they vary most; the training loss over "
            f"{surface.meta.get('samples', 0):,} samples, at {len(surface.x)} × {len(surface.y)} "
            "points."
        )
    if held.get("differs"):
        found.append(
            f"Run again, {' and '.join(held['differs'])} did not end at the training loss of the "
            "record: the run is not repeatable here."
        )
    return found + statements(surface)
