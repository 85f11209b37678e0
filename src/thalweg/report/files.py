"""Files that replace an older one in one move, so that a reader never sees half of one."""

from __future__ import annotations

import os
from pathlib import Path


__all__ = ["replace"]


def replace(path: Path, content: bytes) -> None:
    """Write a file whole: beside its place, then into it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)
