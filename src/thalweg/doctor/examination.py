"""An inspection from the question to the files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from thalweg.curvature.examination import inspect
from thalweg.curvature.inspection import Inspection
from thalweg.errors import NonFiniteError
from thalweg.report.inspection_page import write_inspection
from thalweg.setting import Setting, check_folder as check_results
from thalweg.study.provenance import machine, versions
from thalweg.study.records import write_json


__all__ = ["Examination", "check_folder", "examine"]

RECORD = "inspection.json"


@final
@dataclass(frozen=True)
class Examination:
    """What was found, with all that its page says.

    Args:
        inspection: The findings.
        record: The findings and how they came about, as plain data.

    Example:
        >>> from thalweg.setting import prepare
        >>> from thalweg.problems import BOOTH
        >>> found = examine(prepare(BOOTH.problem()))
        >>> found.inspection.largest.value, found.record["problem"]
        (18.0, 'booth')
    """

    inspection: Inspection
    record: dict[str, Any]

    def write(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Write inspection.html, its figures and inspection.json.

        Args:
            folder: Where.
            force: Whether an inspection that is there is replaced.

        Returns:
            The files, the page first.

        Raises:
            FileExistsError: If the folder holds an inspection and ``force`` is not given, or
                something else.
        """
        root = Path(folder)
        check_folder(root, force=force)
        root.mkdir(parents=True, exist_ok=True)
        files = write_inspection(root, self.record)
        write_json(root / RECORD, self.record)
        return [*files, root / RECORD]


def examine(
    setting: Setting, *, seed: int = 0, command: str = "", progress: bool = False
) -> Examination:
    """Inspect a setting.

    Args:
        setting: From :func:`prepare`.
        seed: Of the random vectors of the estimators.
        command: What to type to get this, for the page.
        progress: Show progress bars.

    Returns:
        The findings.

    Raises:
        RuntimeError: If the loss is not finite where the model stands.
    """
    problem = setting.problem
    try:
        found = inspect(
            setting.objective,
            setting.batches,
            optimizer=setting.optimizer,
            population=setting.whole and problem.data is not None,
            batch_size=None if problem.data is None else _batch_size(setting),
            seed=seed,
            progress=progress,
        )
    except NonFiniteError as error:
        raise RuntimeError(str(error)) from error
    record = {
        "format": 1,
        "title": problem.title,
        "problem": problem.name,
        "inspection": found.to_dict(),
        "setting": [list(pair) for pair in setting.facts],
        "notes": list(setting.notes),
        "command": command,
        "version": versions()["thalweg"],
        "versions": versions(),
        "machine": machine(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return Examination(found, record)


def check_folder(root: Path, *, force: bool) -> None:
    """Refuse a folder that holds an inspection, or anything else.

    Raises:
        FileExistsError: If it does.
    """
    check_results(root, RECORD, "an inspection", force=force)


def _batch_size(setting: Setting) -> int:
    assert setting.problem.data is not None
    samples = len(setting.problem.data.train[0])
    return min(setting.problem.batch_size or samples, samples)
