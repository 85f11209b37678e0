"""Thalweg: optimize a network, inspect its curvature, see its landscape, compare fairly.

The rooms: :mod:`thalweg.objective` (what is minimised), :mod:`thalweg.optim` (the methods),
:mod:`thalweg.problems`, :mod:`thalweg.study` and :mod:`thalweg.report` (fair races and what may be
said of them), :mod:`thalweg.reproduce` (claims of the literature as experiments).
"""

__version__ = "0.1.0"

from thalweg import optim, problems
from thalweg.compare import Study
from thalweg.objective import Closure, Ledger, Objective, Risk
from thalweg.problems import Problem
from thalweg.study import Budget
from thalweg.vectors import Vector


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
    "optim",
    "problems",
]
