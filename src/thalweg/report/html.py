"""The report of a study: one offline HTML page, its figures as files, and the numbers as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from thalweg.landscape import Surface
from thalweg.report import canvas, facts, scene, svg, tables, words
from thalweg.report.files import replace
from thalweg.report.gallery import Picture, gallery
from thalweg.report.style import series
from thalweg.study.scoring import Row, Summary, summarize
from thalweg.study.statistics import column, number


__all__ = ["page", "write_report"]

Record = Mapping[str, Any]


def write_report(folder: str | Path, study: Record, runs: Sequence[Record]) -> list[Path]:
    """Write report.html, summary.csv and ``figures/*.png`` and ``*.svg`` into a study folder.

    Each file replaces an older one in one move, so a reader never sees half a page. Only the
    records are read: the report can be made again at any time, from an unfinished study too.

    Returns:
        The files written, report.html first.
    """
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    surface = scene.read(folder)
    summary = summarize(study, runs)
    pictures = gallery(study, runs) + scene.pictures(surface)
    files = {
        folder / "report.html": page(study, runs, summary, pictures, surface).encode(),
        folder / "summary.csv": summary.to_csv().encode(),
    }
    for picture in pictures:
        stem = folder / "figures" / picture.name
        files[stem.with_suffix(".png")] = canvas.render(picture.figure, "png")
        files[stem.with_suffix(".svg")] = picture.svg
    for path, content in files.items():
        replace(path, content)
    return list(files)


def page(
    study: Record,
    runs: Sequence[Record],
    summary: Summary | None = None,
    pictures: Sequence[Picture] | None = None,
    surface: Surface | None = None,
) -> str:
    """The page as text: no scripts, and no file or address outside of itself is loaded."""
    summary = summarize(study, runs) if summary is None else summary
    if pictures is None:
        pictures = gallery(study, runs) + scene.pictures(surface)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    drawings: dict[str, list[tuple[Picture, str]]] = {}
    for k, picture in enumerate(pictures):
        drawing = svg.inline(picture.svg, f"f{k}", picture.title)
        drawings.setdefault(picture.section, []).append((picture, drawing))
    return environment.get_template("report.html.j2").render(
        study=study,
        title=words.formula(study["problem"]["title"] or study["problem"]["name"]),
        summary=summary,
        rows=_rows(summary),
        has=_present(summary),
        drawings=drawings,
        facts=facts.measured(study, runs),
        landscape=scene.sentences(surface),
        target=words.target(study),
        failures=facts.failures(runs),
        records=_records(study, runs),
        spaces={entry["label"]: words.space(entry["space"]) for entry in study["optimizers"]},
        settings={
            entry["label"]: words.hyperparameters(entry["settings"])
            for entry in study["optimizers"]
        },
        schedules={row.label: row.schedule for row in summary.rows},
        light=svg.variables(),
        dark=svg.variables(dark=True),
    )


def _rows(summary: Summary) -> list[dict[str, Any]]:
    """The cells of the result and cost tables as text."""
    pairs = {
        name: [_pair(text) for text in column([getattr(row, name) for row in summary.rows])]
        for name in ("score", "test_loss", "default")
    }
    return [
        _row(row, summary) | {name: cells[k] for name, cells in pairs.items()}
        for k, row in enumerate(summary.rows)
    ]


def _row(row: Row, summary: Summary) -> dict[str, Any]:
    look, reached = series(row.label), row.reached
    costs = (reached.steps, reached.seconds, reached.gradients) if reached else (None,) * 3
    per_step = 1000 * row.seconds / row.steps if row.seconds is not None and row.steps else None
    return {
        "label": row.label,
        "tone": look.tone,
        "dash": "none" if look.dash == "-" else " ".join(str(3 * d) for d in look.dash[1]),
        "tied": row.label in summary.verdict.tied,
        "n": row.score.n if row.score else 0,
        "against": _against(row, summary),
        "hits": f"{reached.hits}/{reached.n}" if reached else "–",
        "to_target": [number(value, 3) for value in costs],
        "seconds": number(row.seconds, 3),
        "per_step": number(per_step, 3),
        "ledger": [number(row.ledger.get(key)) for key in ("forward", "backward", "product")],
        "lost_trials": tables.lost(row.tuning),
        "lost_runs": tables.lost(row.confirm),
        "tuned": words.recipe(row, summary.schedule),
    }


def _pair(text: str) -> tuple[str, str]:
    """Mean and half-width as two cells, so that a column lines up at the sign."""
    mean, sign, half = text.partition(" ± ")
    return mean, f"± {half}" if sign else ""


def _against(row: Row, summary: Summary) -> str:
    if row.label == summary.verdict.best:
        return "best"
    found = next((c for c in summary.verdict.comparisons if c.label == row.label), None)
    if found is None:
        return "–"
    if row.confirm.lost and found.p is None:
        return f"{tables.lost(row.confirm)} lost"
    if found.p is None:
        return found.reason
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.2g}"
    return p if found.separable else f"tied, {p}"


def _present(summary: Summary) -> dict[str, bool]:
    """Which optional columns have a number for some optimizer."""
    rows = summary.rows
    return {
        "loss": summary.quantity.key != "test_loss" and any(row.test_loss for row in rows),
        "default": any(row.default for row in rows),
        "target": any(row.reached for row in rows),
        "edge": any(row.edge for row in rows),
        "products": any(row.ledger.get("product") for row in rows),
    }


def _records(study: Record, runs: Sequence[Record]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Links by optimizer: the fresh runs by seed."""
    return [
        (
            entry["label"],
            [
                (f"seed {run['seed']}", facts.record(run))
                for run in sorted(runs, key=lambda run: run["seed"])
                if run["optimizer"] == entry["label"] and run["stage"] == "confirm"
            ],
        )
        for entry in study["optimizers"]
    ]
