"""The book: one offline HTML page of all experiments, made from their files alone."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from thalweg import report
from thalweg.report import svg
from thalweg.reproduce import records
from thalweg.study.statistics import number


__all__ = ["write_page"]

CONTENTS = "book.json"
TEMPLATES = [Path(__file__).parent / "templates", Path(report.__file__).parent / "templates"]


def write_page(folder: str | Path) -> Path:
    """Write ``book.html`` into a folder of experiments, from what is in it.

    The page has no script and loads nothing: the figures are part of it.

    Args:
        folder: Where ``book.json`` and a folder for each experiment are.

    Returns:
        The page.

    Raises:
        FileNotFoundError: If there is no ``book.json``.
    """
    root = Path(folder)
    contents = json.loads((root / CONTENTS).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    chapters = [_chapter(root, listed) for listed in contents["experiments"]]
    text = environment.get_template("book.html.j2").render(
        chapters=chapters,
        summary=_summary(chapters),
        versions=contents["versions"],
        light=svg.variables(),
        dark=svg.variables(dark=True),
    )
    file = root / "book.html"
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
    return file


def _chapter(root: Path, listed: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment as the template shows it."""
    name = listed["name"]
    record = records.read(root / name) or {}
    claims = [_row(claim) for claim in record.get("claims", [])]
    return {
        "name": name,
        "title": listed["title"],
        "summary": listed["summary"],
        "command": f"thalweg reproduce {name}",
        "verdict": _verdict(record),
        "holding": sum(claim["holds"] for claim in claims),
        "claims": claims,
        "settings": {key: shown(value) for key, value in record.get("settings", {}).items()},
        "figures": [
            _figure(root / name, k, figure) for k, figure in enumerate(record.get("figures", []))
        ],
        "stale": bool(record) and record.get("fingerprint") != listed["fingerprint"],
        "record": record,
        "took": f"{number(record['seconds'], 2)} s" if record.get("seconds") else "–",
        "needs": f"{number(listed['seconds'], 2)} s",
    }


def _verdict(record: Mapping[str, Any]) -> str:
    if not record:
        return "not run"
    if record["status"] == "failed":
        return "failed"
    if not record.get("as_recorded", True):
        return "not as recorded"
    return "holds" if record["holds"] else "not all hold"


def _row(claim: Mapping[str, Any]) -> dict[str, Any]:
    interval, n = claim["interval"], claim["n"]
    ends = f"{shown(interval[0])} to {shown(interval[1])}" if interval else ""
    return {
        "claim": claim["claim"],
        "source": claim["source"],
        "expected": shown(claim["expected"]),
        "measured": shown(claim["measured"]),
        "interval": ends + (f", n = {n}" if ends and n else ""),
        "holds": claim["holds"],
        "because": claim.get("because", ""),
        "as_recorded": claim.get("as_recorded", True),
    }


def _figure(folder: Path, k: int, figure: Mapping[str, str]) -> dict[str, Any]:
    file = folder / f"{figure['name']}.svg"
    title = html.escape(figure["title"] or figure["name"])
    drawing = svg.inline(file.read_bytes(), f"{folder.name}-{k}", title)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    wide = box is not None and float(box[1]) > 1.7 * float(box[2])
    return {"drawing": drawing, "name": figure["name"], "wide": wide}


def _summary(chapters: list[dict[str, Any]]) -> str:
    """The first sentence of the page."""
    told = [chapter for chapter in chapters if chapter["claims"]]
    claims = sum(len(chapter["claims"]) for chapter in told)
    holding = sum(chapter["holding"] for chapter in told)
    text = f"{holding} of {claims} claims hold, in {len(told)} experiments."
    known = sum(bool(row["because"]) and row["as_recorded"] for c in told for row in c["claims"])
    if known:
        text += f" {known} {'is' if known == 1 else 'are'} known not to, and why is said."
    others = (
        ("not as recorded", "a verdict is not the one on record"),
        ("failed", "ended with an error"),
        ("not run", "not run"),
    )
    for verdict, words in others:
        count = sum(chapter["verdict"] == verdict for chapter in chapters)
        text += f" {words[:1].upper()}{words[1:]}: {count}." if count else ""
    return text


def shown(value: Any) -> str:
    """A value of a record as text.

    Example:
        >>> shown(0.123456), shown([1, 0.5]), shown({"lr": 0.1}), shown(True)
        ('0.1235', '1, 0.5', 'lr 0.1', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)
