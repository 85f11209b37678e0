"""Long computations that can be killed: a state on disk, and a progress bar."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import torch
from rich.progress import Progress
from torch import Tensor


__all__ = ["Session", "digest"]

FILE: Final = "connection.pt"
INTERVAL: Final = 30.0  # seconds from one save to the next


def digest(settings: Mapping[str, Any], *points: Tensor) -> str:
    """What a computation is of: its settings and the tensors that it starts from.

    Example:
        >>> digest({"steps": 1}, torch.ones(2)) == digest({"steps": 2}, torch.ones(2))
        False
    """
    found = hashlib.sha256(repr(sorted(settings.items())).encode())
    for point in points:
        found.update(point.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@final
class Session:
    """A state that is saved every half minute, at the end, and where the computation is broken off.

    Args:
        folder: Where the state is kept; None: nowhere.
        key: What the computation is of (:func:`digest`).
        steps: How many steps it may take, for the progress bar.
        progress: Whether there is one.

    Raises:
        ValueError: If the folder holds the state of another computation.

    Example:
        >>> with Session(None, "key", 3) as session:
        ...     session.tick({"step": 1})
        >>> session.state
        {'step': 1}
    """

    def __init__(
        self, folder: str | Path | None, key: str, steps: int, *, progress: bool = False
    ) -> None:
        self.path = None if folder is None else Path(folder) / FILE
        self.key = key
        self.state: dict[str, Any] = {}
        self._bar = Progress(transient=True) if progress else None
        self._task = self._bar.add_task("path", total=steps) if self._bar else None
        self._saved = time.monotonic()
        if self.path is not None and self.path.exists():
            found = torch.load(self.path, weights_only=True)
            if found["key"] != key:
                raise ValueError(
                    f"{self.path}: another connection is here, of other weights or settings. Take "
                    "another folder."
                )
            self.state = found["state"]

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self.save()

    def tick(self, state: dict[str, Any], steps: int = 1) -> None:
        """Some steps are done, and from this state it can be gone on."""
        self.state = state
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, steps)
        if time.monotonic() - self._saved > INTERVAL:
            self.save()

    def save(self) -> None:
        """Write the state, at once or not at all."""
        self._saved = time.monotonic()
        if self.path is None or not self.state:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            torch.save({"key": self.key, "state": self.state}, part)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
