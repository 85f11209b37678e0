"""Loss landscapes: surfaces and lines through real weights, and paths on them.

:class:`Surface`, :class:`Line` and :class:`PlanePath` are plain data, which
:mod:`thalweg.report` draws.
"""

from thalweg.landscape.barriers import barrier_of
from thalweg.landscape.batch_norm import recalibrated
from thalweg.landscape.interpolation import Interpolation, interpolate
from thalweg.landscape.recording import Recording
from thalweg.landscape.surface import Line, PlanePath, Surface
from thalweg.landscape.trajectory import Trajectory


__all__ = [
    "Interpolation",
    "Line",
    "PlanePath",
    "Recording",
    "Surface",
    "Trajectory",
    "barrier_of",
    "interpolate",
    "recalibrated",
]
