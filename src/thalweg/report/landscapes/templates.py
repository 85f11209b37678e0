"""The pages' templates, and what keeps a page from loading anything from outside of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from thalweg.study.records import finite


__all__ = ["POLICY", "embedded", "environment", "script"]

FOLDER = Path(__file__).parents[1] / "templates"

# A browser that opens a page with this policy fetches nothing, whatever a script in it asks for.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


def environment() -> jinja2.Environment:
    """Templates that escape what they are given."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def embedded(content: Any) -> str:
    r"""Plain data as JSON that may stand inside a script element: nothing in it can end one.

    Example:
        >>> embedded({"name": "</script>", "loss": float("nan")})
        '{"name":"\\u003c/script>","loss":null}'
    """
    text = json.dumps(finite(content), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def script(name: str) -> str:
    """A script of the templates' folder."""
    return (FOLDER / name).read_text(encoding="utf-8")
