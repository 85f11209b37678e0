"""Thalweg: optimize a network, inspect its curvature, see its landscape, compare fairly.

The rooms: :mod:`thalweg.objective` (what is minimised), :mod:`thalweg.curvature` (operators,
estimates, advice), :mod:`thalweg.landscape` (surfaces, lines and paths), :mod:`thalweg.optim`
(the methods), :mod:`thalweg.minimization` (the scipy user's door), :mod:`thalweg.problems`,
:mod:`thalweg.study` and :mod:`thalweg.report` (fair races and what may be said of them),
:mod:`thalweg.reproduce` (claims of the literature as experiments).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


__version__ = "0.1.0"

from thalweg import curvature, landscape, optim, problems
from thalweg.landscape.drawing import drawn_by
from thalweg.minimization import least_squares, minimize
from thalweg.objective import Closure, Ledger, Objective, Risk
from thalweg.problems import Problem
from thalweg.vectors import Vector


if TYPE_CHECKING:
    from thalweg.compare import Study
    from thalweg.study import Budget

__all__ = [
    "Budget",
    "Closure",
    "Ledger",
    "Objective",
    "Problem",
    "Risk",
    "Study",
    "Vector",
    "__version__",
    "curvature",
    "landscape",
    "least_squares",
    "minimize",
    "optim",
    "problems",
]

# Rooms that draw and score: half of the time of an import, which a training loop need not spend.
_LATE = {"Study": "thalweg.compare", "Budget": "thalweg.study"}

# A surface is drawn by a room above it, which is loaded when it is.
drawn_by(lambda: importlib.import_module("thalweg.report.landscapes"))


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    if name in {"study", "report", "compare", "reproduce", "doctor", "atlas"}:
        return importlib.import_module(f"thalweg.{name}")
    raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
