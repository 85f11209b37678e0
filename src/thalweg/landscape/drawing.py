"""Who draws: measured data has figures without knowing the room that makes them.

This room lies below the report. What stands above both says where the figures are
(:func:`drawn_by`), and a surface asks for them only when it is drawn, so that measuring needs no
drawing library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


__all__ = ["drawer", "drawn_by"]

_ROOMS: list[Callable[[], Any]] = []


def drawn_by(room: Callable[[], Any]) -> None:
    """Say who draws from now on.

    Args:
        room: Returns what has the functions ``plane``, ``relief``, ``profile`` and
            ``landscape_html``; called when something is drawn.
    """
    _ROOMS[:] = [room]


def drawer() -> Any:
    """Whoever draws.

    Raises:
        RuntimeError: If nobody has been named.

    Example:
        >>> drawer().__name__
        'thalweg.report.landscapes'
    """
    if not _ROOMS:
        raise RuntimeError("landscape: nobody draws; see thalweg.landscape.drawing.drawn_by.")
    return _ROOMS[0]()
