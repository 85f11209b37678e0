"""All experiments in one go: what is there is kept, the rest runs, and one page tells all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from thalweg.reproduce import catalogue, page, records
from thalweg.reproduce.claims import Experiment
from thalweg.study.provenance import versions
from thalweg.study.records import write_json


__all__ = ["Book", "Entry", "run_all"]

Listener = Callable[[str, str], None]


@final
@dataclass(frozen=True)
class Entry:
    """What became of one experiment.

    Args:
        name: Its name.
        status: ``"finished"``, ``"kept"`` (it was there), ``"failed"`` (it raised), or
            ``"skipped"`` (it did not fit into the time).
        holds: Whether every claim does; None where nothing was measured.
        message: What went wrong, or why it was left out.
        as_recorded: Whether every claim has the verdict on record; None where nothing was measured.

    Example:
        >>> Entry("ravine", "kept", True).message
        ''
    """

    name: str
    status: str
    holds: bool | None = None
    message: str = ""
    as_recorded: bool | None = None


@final
@dataclass(frozen=True)
class Book:
    """The page, and what became of each experiment, in the order of the page.

    Args:
        page: The HTML file.
        entries: One an experiment.

    Example:
        >>> Book(Path("book.html"), (Entry("ravine", "skipped"),)).holds
        True
    """

    page: Path
    entries: tuple[Entry, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing failed and every claim that was measured holds."""
        return all(entry.holds is not False for entry in self.entries)

    @property
    def as_recorded(self) -> bool:
        """Whether nothing failed and every claim that was measured has the verdict on record."""
        return all(entry.as_recorded is not False for entry in self.entries)


def run_all(
    folder: str | Path,
    names: Iterable[str] | None = None,
    *,
    listener: Listener | None = None,
    limit_seconds: float = 3600.0,
    experiments: Mapping[str, Experiment] | None = None,
) -> Book:
    """Run what is not yet in the folder, cheapest first, and write ``book.html``.

    An experiment is not run again where ``NAME/claims.json`` is of this version of the package and
    of the experiment's source; one that failed is. An experiment is begun only if its stated
    seconds fit into what is left of the limit, and one that has begun is finished. One that raises
    is recorded with its error, and the others go on. Stopped at any point, the same call goes on
    from there; the page is written in any case.

    Args:
        folder: Where each experiment has a folder of its name, and the page is written.
        names: Which experiments; default: all.
        listener: Told (name, event): ``"started"``, then ``"finished"`` or ``"failed"``; or
            ``"kept"``; or ``"skipped"``.
        limit_seconds: Wall-clock seconds for the runs of this call.
        experiments: Where the names are looked up; default: those of the package.

    Returns:
        The page and what became of each experiment.

    Raises:
        ValueError: If there is no experiment of a name.
    """
    root, known = Path(folder), catalogue.experiments() if experiments is None else experiments
    chosen = [
        records.find(name, known) for name in (known if names is None else dict.fromkeys(names))
    ]
    tell = listener or _silent
    write_json(root / page.CONTENTS, _contents(chosen))
    entries: dict[str, Entry] = {}
    deadline = time.monotonic() + limit_seconds
    try:
        for experiment in sorted(chosen, key=lambda e: e.seconds):
            entry = _run(root / experiment.name, experiment, deadline - time.monotonic(), tell)
            entries[experiment.name] = entry
            tell(experiment.name, entry.status)
    finally:
        file = page.write_page(root)
    return Book(file, tuple(entries[experiment.name] for experiment in chosen))


def _silent(name: str, event: str) -> None:
    del name, event


def _run(folder: Path, experiment: Experiment, left: float, tell: Listener) -> Entry:
    record = records.read(folder)
    if record is not None and records.current(record, experiment):
        kept = record.get("as_recorded", record["holds"])
        return Entry(experiment.name, "kept", record["holds"], "", kept)
    if experiment.seconds > left:
        message = f"needs about {experiment.seconds:.0f} s, {max(left, 0):.0f} s were left"
        return Entry(experiment.name, "skipped", None, message)
    tell(experiment.name, "started")
    start = time.perf_counter()
    try:
        outcome, _ = records.perform(folder, experiment)
    except Exception as error:  # whatever it is, the other experiments can still run
        failure = records.write_failure(folder, experiment, error, time.perf_counter() - start)
        return Entry(experiment.name, "failed", False, failure["message"], as_recorded=False)
    return Entry(experiment.name, "finished", outcome.holds, "", outcome.as_recorded)


def _contents(chosen: Iterable[Experiment]) -> dict[str, Any]:
    """What the book is to hold, so that its page can be made from the folder alone."""
    return {
        "format": 1,
        "versions": versions(),
        "experiments": [
            {
                "name": experiment.name,
                "title": experiment.title,
                "summary": experiment.summary,
                "seconds": experiment.seconds,
                "fingerprint": experiment.fingerprint,
            }
            for experiment in chosen
        ],
    }
