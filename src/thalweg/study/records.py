"""Results on disk: a folder a study, a folder a run, every file written whole.

A record is written to a temporary file and renamed, so that whatever is there is complete, also
after a power cut. Numbers that are not finite are null.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final


__all__ = ["Records", "load_run", "read", "write_json"]


@final
@dataclass(frozen=True)
class Records:
    """A study read back from its folder.

    Args:
        study: What ``study.json`` says.
        runs: The result of each run that the study's last plan names, in its order.

    Example:
        >>> Records({"trials": 8}, []).study["trials"]
        8
    """

    study: dict[str, Any]
    runs: list[dict[str, Any]]


def read(folder: str | Path) -> Records:
    """Read a study from its folder alone.

    Args:
        folder: Where ``study.json`` and ``runs/`` are.

    Returns:
        The study and those of its runs that are done.

    Raises:
        FileNotFoundError: If there is no study.
    """
    root = Path(folder)
    if not (root / "study.json").is_file():
        raise FileNotFoundError(f"{root}: no study here (study.json is missing).")
    study = json.loads((root / "study.json").read_text(encoding="utf-8"))
    done = (load_run(root, run_id) for run_id in study["runs"])
    return Records(study, [record for record in done if record is not None])


def load_run(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The result of a run, or None where it is not done."""
    try:
        return json.loads((folder / "runs" / run_id / "result.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole: to a temporary name beside it, to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(finite(content), file, allow_nan=False, separators=(",", ":"))
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def finite(value: Any) -> Any:
    """The same data with null in the place of numbers that are not finite.

    Example:
        >>> finite({"loss": [1.0, float("nan")]})
        {'loss': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [finite(item) for item in value]
    return value
