"""The page of a surface: one offline HTML file, and its figures beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from matplotlib.figure import Figure

from thalweg.landscape import Line, Surface
from thalweg.report import canvas, svg
from thalweg.report.files import replace
from thalweg.report.landscapes.convexity import convexity
from thalweg.report.landscapes.interactive import interactive
from thalweg.report.landscapes.plane import plane
from thalweg.report.landscapes.player import player
from thalweg.report.landscapes.profile import profile
from thalweg.report.landscapes.relief import relief
from thalweg.report.landscapes.statements import facts, statements
from thalweg.report.landscapes.templates import POLICY, environment
from thalweg.report.landscapes.words import title


__all__ = ["Account", "landscape_html", "write_landscape"]

_NO_PLOTLY = (
    'Made without Plotly. With it (pip install "thalweg[view]") the page holds the surface to turn.'
)


@final
@dataclass(frozen=True)
class Account:
    """What a page says beside its pictures.

    Args:
        title: The heading; empty: from the surface.
        sentences: Said first, before what the surface itself says.
        facts: How it came about, as pairs of term and text.
        notes: What a reader should know.
        command: What to type to get it.

    Example:
        >>> Account("Digits").facts
        ()
    """

    title: str = ""
    sentences: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    command: str = ""


@final
@dataclass(frozen=True)
class _Drawn:
    """Figures by file name, with their headings, and each one's SVG drawn once."""

    figures: dict[str, tuple[str, Figure]]
    svgs: dict[str, bytes] = field(default_factory=dict)

    def svg(self, name: str) -> bytes:
        if name not in self.svgs:
            self.svgs[name] = canvas.render(self.figures[name][1], "svg")
        return self.svgs[name]


def landscape_html(
    surface: Surface,
    *,
    lines: Mapping[str, Line] | None = None,
    account: Account | None = None,
    ceiling: float | None = None,
    turn: bool | None = None,
) -> str:
    """The page as text; nothing outside of itself is loaded.

    Args:
        surface: The surface.
        lines: Lines by name, drawn on one axis under the surface.
        account: What the page says beside its pictures.
        ceiling: Where the class ">" begins.
        turn: Whether the page holds the surface to turn, by Plotly (4.6 MB). Default: where Plotly
            is installed; else the surface in space is a still picture.

    Raises:
        ImportError: If ``turn`` is asked for and Plotly is not installed.
    """
    drawn = _draw(surface, lines, ceiling)
    return _page(surface, drawn, account or Account(), ceiling, turn, files=False)


def write_landscape(
    folder: str | Path,
    surface: Surface,
    *,
    lines: Mapping[str, Line] | None = None,
    account: Account | None = None,
    ceiling: float | None = None,
    turn: bool | None = None,
) -> list[Path]:
    """Write landscape.html, and each figure as PNG and SVG, into a folder.

    Arguments as :func:`landscape_html` takes them.

    Returns:
        The files, the page first.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    drawn = _draw(surface, lines, ceiling)
    page = _page(surface, drawn, account or Account(), ceiling, turn, files=True)
    files = {root / "landscape.html": page.encode()}
    for name, (_, figure) in drawn.figures.items():
        files[root / f"{name}.png"] = canvas.render(figure, "png")
        files[root / f"{name}.svg"] = drawn.svg(name)
    for path, content in files.items():
        replace(path, content)
    return list(files)


def _draw(surface: Surface, lines: Mapping[str, Line] | None, ceiling: float | None) -> _Drawn:
    figures = {
        "landscape": ("From above", plane(surface, ceiling=ceiling)),
        "relief": ("In space", relief(surface, ceiling=ceiling)),
    }
    if "convexity" in surface.metrics:
        figures["convexity"] = ("Convexity", convexity(surface))
    if lines:
        figures["profile"] = ("Along the path", profile(lines))
    return _Drawn(figures)


def _page(
    surface: Surface,
    drawn: _Drawn,
    account: Account,
    ceiling: float | None,
    turn: bool | None,
    *,
    files: bool,
) -> str:
    if turn is None:
        turn = importlib.util.find_spec("plotly") is not None
    still = [name for name in drawn.figures if name != "relief" or not turn]
    notes = [*account.notes, *([] if turn else [_NO_PLOTLY])]
    moves = "along" not in surface.meta and any(
        len(path) > 1 and path.steps[-1] > 0 for path in surface.paths
    )
    return (
        environment()
        .get_template("landscape.html.j2")
        .render(
            title=account.title or title(surface),
            policy=POLICY,
            sentences=[*account.sentences, *statements(surface)],
            drawings=[
                (drawn.figures[name][0], name, svg.inline(drawn.svg(name), name, name))
                for name in still
            ],
            interactive=interactive(surface, ceiling=ceiling) if turn else "",
            player=player(surface, ceiling=ceiling, autoplay=False) if moves else "",
            facts=[*account.facts, *facts(surface)],
            notes=notes,
            command=account.command,
            files=files,
            light=svg.variables(),
            dark=svg.variables(dark=True),
        )
    )
