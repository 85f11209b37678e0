"""A chart: a view with all that its page says, and its files."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from thalweg.atlas.views import View
from thalweg.errors import one_of
from thalweg.report.landscapes import Account, animate, write_landscape, write_vtk
from thalweg.report.landscapes.statements import facts, statements
from thalweg.setting import check_folder
from thalweg.study.provenance import machine, versions
from thalweg.study.records import write_json


__all__ = ["EXTRAS", "PARTIAL", "RECORD", "Chart"]

RECORD = "landscape.json"
PARTIAL = "landscape.partial"  # the store of a picture that was interrupted
EXTRAS = ("gif", "mp4", "vtk")


@final
@dataclass(frozen=True, eq=False)
class Chart:
    """A view of a landscape, and what is said of it.

    Args:
        view: What was measured.
        title: The page's heading.
        facts: How it came about, as pairs of term and text.
        notes: What a reader should know.
        command: What to type to get it.

    Example:
        >>> from thalweg.atlas.views import Frame, around
        >>> from thalweg.problems import BOOTH
        >>> from thalweg.setting import prepare
        >>> seen = around(prepare(BOOTH.problem()), Frame(resolution=3, progress=False))
        >>> Chart(seen, "Booth").record["sentences"]
        ['No point of the grid is lower than its centre, where the loss is 74.']
    """

    view: View
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """What is said, and how it came about, as plain data."""
        surface = self.view.surface
        return {
            "format": 1,
            "title": self.title,
            "sentences": [*self.view.sentences, *statements(surface)],
            "facts": [list(pair) for pair in (*self.facts, *self.view.facts, *facts(surface))],
            "notes": list(self.notes),
            "meta": surface.meta,
            "paths": [path.name for path in surface.paths],
            "lines": list(self.view.lines),
            "command": self.command,
            "versions": versions(),
            "machine": machine(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def write(
        self,
        folder: str | Path,
        *,
        force: bool = False,
        ceiling: float | None = None,
        extras: Iterable[str] = (),
    ) -> list[Path]:
        """Write the page, its figures, the numbers and what else is asked for.

        Args:
            folder: Where.
            force: Whether a landscape that is there is replaced.
            ceiling: Where the class ">" begins.
            extras: Of ``"gif"``, ``"mp4"`` (the paths moving) and ``"vtk"`` (for ParaView).

        Returns:
            The files, the page first.

        Raises:
            ValueError: If an extra is unknown, or there is nothing that moves.
            FileExistsError: If the folder may not be written to.
        """
        root = Path(folder)
        wanted = list(extras)
        for extra in wanted:
            one_of(*EXTRAS).check("thalweg landscape", "extras", extra)
        check_folder(root, RECORD, "a landscape", force=force, partial=[PARTIAL])
        root.mkdir(parents=True, exist_ok=True)
        surface = self.view.surface
        account = Account(
            self.title,
            self.view.sentences,
            (*self.facts, *self.view.facts),
            self.notes,
            self.command,
        )
        files = write_landscape(
            root, surface, lines=self.view.lines, account=account, ceiling=ceiling
        )
        surface.save(root / "surface.npz")
        files.append(root / "surface.npz")
        for name, line in self.view.lines.items():
            line.save(root / f"line-{name}.npz")
            files.append(root / f"line-{name}.npz")
        for kind in ("gif", "mp4"):
            if kind in wanted:
                files.append(animate(surface, root / f"paths.{kind}", ceiling=ceiling))
        if "vtk" in wanted:
            files += write_vtk(surface, root / "surface.vts")
        write_json(root / RECORD, self.record)
        return [*files, root / RECORD]
