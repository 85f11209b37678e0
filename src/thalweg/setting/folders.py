"""Folders of results: what is there already is replaced only where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


__all__ = ["check_folder"]


def check_folder(
    folder: str | Path, record: str, what: str, *, force: bool, partial: Iterable[str] = ()
) -> None:
    """Refuse a folder that holds such results already, or anything else.

    Args:
        folder: Where results are to be written.
        record: The file by which a folder of such results is known.
        what: What they are, for the message: "an inspection".
        force: Whether results that are there may be replaced.
        partial: Files of a run that was stopped, which may be there.

    Raises:
        FileExistsError: If the folder may not be written to.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> check_folder(folder, "inspection.json", "an inspection", force=False)
        >>> _ = Path(folder, "inspection.json").write_text("{}")
        >>> check_folder(folder, "inspection.json", "an inspection", force=True)
    """
    root = Path(folder)
    if root.is_file():
        raise FileExistsError(f"{root} is a file; give a folder.")
    if not root.is_dir():
        return
    if not {path.name for path in root.iterdir()} - set(partial):
        return
    if not (root / record).exists():
        raise FileExistsError(f"{root} is there and holds something else; give another folder.")
    if not force:
        raise FileExistsError(f"{root} holds {what}; give another --out, or --force.")
