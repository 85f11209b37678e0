"""Fetching data, which happens only where the caller asks for it, and says so first."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import final

from thalweg.errors import bad_argument


__all__ = ["Remote", "cache_folder", "consent", "fetch"]


@final
@dataclass(frozen=True)
class Remote:
    """A file that can be fetched.

    Args:
        url: Where it is.
        md5: Its hash, as torchvision states it: a check of the transfer.
        size: How large it is, in words.
    """

    url: str
    md5: str
    size: str


def cache_folder() -> Path:
    """Where downloads go: ``THALWEG_DATA``, else ``~/.cache/thalweg`` (``XDG_CACHE_HOME``)."""
    given = os.environ.get("THALWEG_DATA")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "thalweg"


def consent(download: bool) -> bool:
    """Whether something may be fetched: by the argument, or by ``THALWEG_DOWNLOAD``.

    Raises:
        ValueError: If ``THALWEG_DOWNLOAD`` is anything but 0, 1 or empty.
    """
    value = os.environ.get("THALWEG_DOWNLOAD", "")
    if value not in {"", "0", "1"}:
        raise bad_argument("environment", "THALWEG_DOWNLOAD", value, "0 or 1")
    return download or value == "1"


def fetch(remote: Remote, root: Path, folder: Path) -> None:
    """Fetch a file into ``folder``, or unpack an archive into ``root``; say so first.

    Raises:
        OSError: If it cannot be fetched, or its hash is not the stated one.
    """
    is_archive = remote.url.endswith(".tar.gz")
    path = (root if is_archive else folder) / remote.url.rsplit("/", 1)[1]
    print(f"thalweg: fetching {remote.url} ({remote.size}) to {path}", file=sys.stderr, flush=True)
    _download(remote, path)
    if is_archive:
        with tarfile.open(path) as archive:
            archive.extractall(root, filter="data")
        path.unlink()


def _download(remote: Remote, path: Path) -> None:
    """Fetch to a file beside ``path`` and move it there once its hash is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(remote.url, timeout=60) as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file)
        with part.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != remote.md5:
            raise OSError(f"{remote.url}: the md5 is {md5}, and should be {remote.md5}.")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
