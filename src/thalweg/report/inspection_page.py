"""The pages of an inspection: for a terminal, as one offline HTML file, and as figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from thalweg.report import canvas, inspection_figures, svg
from thalweg.report.files import replace
from thalweg.report.inspection_words import answers, facts, quantity, share
from thalweg.study.statistics import number


__all__ = ["inspection_html", "inspection_terminal", "write_inspection"]

Record = Mapping[str, Any]


def write_inspection(folder: str | Path, record: Record) -> list[Path]:
    """Write inspection.html, inspection.png and .svg, and ``figures/`` into a folder.

    Args:
        folder: Where.
        record: ``title``, ``inspection`` (plain data), ``setting`` (pairs of term and text) and
            ``command``.

    Returns:
        The files, the page first.
    """
    root = Path(folder)
    (root / "figures").mkdir(parents=True, exist_ok=True)
    drawn = _figures(record["inspection"])
    files = {root / "inspection.html": _page(record, drawn).encode()}
    page = inspection_figures.overview(record)
    for kind in ("png", "svg"):
        files[root / f"inspection.{kind}"] = canvas.render(page, kind)
    for name, (figure, drawing) in drawn.items():
        files[root / "figures" / f"{name}.png"] = canvas.render(figure, "png")
        files[root / "figures" / f"{name}.svg"] = drawing
    for path, content in files.items():
        replace(path, content)
    return list(files)


def inspection_html(record: Record) -> str:
    """The page as text: no scripts, and nothing outside of itself is loaded.

    Args:
        record: As :func:`write_inspection` takes it.

    Returns:
        HTML.
    """
    return _page(record, _figures(record["inspection"]))


def inspection_terminal(record: Record, *, wide: bool = True) -> Group:
    """The page for a terminal.

    Args:
        record: As :func:`write_inspection` takes it.
        wide: Whether there is room for what a number is and cost.

    Returns:
        A ``rich`` renderable.
    """
    inspection = record["inspection"]
    parts: list[Any] = [Text(record["title"], style="bold"), Text("")]
    for title, given in answers(inspection):
        parts.append(Text(title, style="bold"))
        for advice in given:
            parts.append(Padding(Text(advice["text"]), (0, 0, 0, 2)))
            parts.append(Padding(Text(advice["evidence"], style="dim"), (0, 0, 0, 4)))
        parts.append(Text(""))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("quantity", "value", "cost", "") if wide else ("quantity", "value"):
        table.add_column(name, overflow="fold")
    for fact in facts(inspection):
        cells = (fact.name, fact.value, fact.cost, fact.note)
        table.add_row(*(Text(cell) for cell in (cells if wide else cells[:2])))
    rows = Table(box=None, pad_edge=False, header_style="dim")
    rows.add_column("layer", overflow="fold")
    for name in ("parameters", "sharpness", "top direction", "gradient norm"):
        rows.add_column(name, justify="right")
    for row in inspection["layers"]:
        cells = (row["name"], *_layer(row))
        rows.add_row(*(Text(cell) for cell in cells))
    notes = [Text(f"Note: {note}", style="dim") for note in _notes(record)]
    return Group(*parts, table, Text(""), rows, *notes)


def _layer(row: Record) -> tuple[str, str, str, str]:
    return (
        f"{row['parameters']:,}",
        quantity(row["sharpness"]),
        share(row["share"]),
        number(row["gradient_norm"], 3),
    )


def _notes(record: Record) -> list[str]:
    return [*record.get("notes", []), *record["inspection"]["notes"]]


def _figures(inspection: Record) -> dict[str, tuple[Any, bytes]]:
    drawn = {
        "gauge": inspection_figures.gauge(inspection),
        "density": inspection_figures.density(inspection),
        "layers": inspection_figures.layers(inspection),
    }
    return {name: (figure, canvas.render(figure, "svg")) for name, figure in drawn.items()}


def _page(record: Record, drawn: Mapping[str, tuple[Any, bytes]]) -> str:
    inspection = record["inspection"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["marked"] = _marked
    titles = {"gauge": "Stable learning rates", "density": "Spectrum", "layers": "Layers"}
    return environment.get_template("inspection.html.j2").render(
        title=record["title"],
        answers=answers(inspection),
        facts=facts(inspection),
        layers=[(row["name"], *_layer(row)) for row in inspection["layers"]],
        drawings={
            name: svg.inline(drawing, name, titles[name]) for name, (_, drawing) in drawn.items()
        },
        setting=record["setting"],
        notes=_notes(record),
        command=record["command"],
        version=record["version"],
        products=inspection["products"],
        seconds=number(inspection["seconds"], 3),
        light=svg.variables(),
        dark=svg.variables(dark=True),
    )


def _marked(text: str) -> Markup:
    """Names in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
