"""A log of records, a line of JSON each, that survives being cut off at any byte."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final


__all__ = ["Journal", "read_journal"]


def read_journal(path: str | Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that was cut off is left out.

    Args:
        path: The file; one that does not exist has no records.

    Returns:
        The records, oldest first.

    Raises:
        ValueError: If a line before the last is not a record.

    Example:
        >>> read_journal("missing.jsonl")
        []
    """
    file = Path(path)
    if not file.exists():
        return []
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}: line {number} is not a record: {error}.") from error
    return records


@final
class Journal:
    """Appends to such a log.

    Args:
        path: The file; None keeps records in memory only.

    Example:
        >>> journal = Journal(None)
        >>> journal.append({"step": 1})
        >>> journal.records
        [{'step': 1}]
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self.records = [] if self.path is None else read_journal(self.path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record: on disk when this returns."""
        plain = {name: _plain(value) for name, value in record.items()}
        self.records.append(plain)
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            _cut_tail(file)
            file.write(json.dumps(plain, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_until(self, step: int) -> None:
        """Drop what is past a step: a resumed run will write it again."""
        kept = [record for record in self.records if record["step"] <= step]
        if len(kept) == len(self.records):
            return
        self.records = kept
        if self.path is not None:
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
            lines = (json.dumps(record, allow_nan=False) + "\n" for record in kept)
            part.write_text("".join(lines), encoding="utf-8")
            part.replace(self.path)


def _cut_tail(file: Any) -> None:
    """Remove a last line without its end: the run that wrote it was killed."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(max(0, size - 2**20))
    tail = file.read()
    if not tail.endswith(b"\n"):
        file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
