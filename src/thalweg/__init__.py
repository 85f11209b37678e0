"""Thalweg: optimize a network, inspect its curvature, see its landscape, compare fairly."""

from thalweg import optim
from thalweg.objective import Closure, Ledger, Objective, Risk
from thalweg.vectors import Vector


__version__ = "0.1.0"

__all__ = ["Closure", "Ledger", "Objective", "Risk", "Vector", "__version__", "optim"]
