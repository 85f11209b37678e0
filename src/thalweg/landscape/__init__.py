"""Loss landscapes: surfaces and lines through real weights, and paths on them.

:func:`plane` and :func:`line` measure, along axes that :func:`random_axes`, :func:`hessian_axes`,
:func:`pca_axes`, :func:`axes_through` and :func:`axes_along` make. :class:`Trajectory` records an
optimizer, :func:`interpolate` looks between two sets of weights, and :func:`connect` finds a path
of low loss between them. What is measured (:class:`Surface`, :class:`Line`, :class:`PlanePath`) is
plain data, which :mod:`thalweg.report` draws. Sharpness has several definitions
(:func:`sharpness`, :func:`keskar`, :func:`flatness`); :func:`rescaled` shows which of them are of
the function and which of its weights.
"""

from thalweg.landscape.alignment import Aligned, align
from thalweg.landscape.alignment_spec import PermutationSpec
from thalweg.landscape.band_methods import AutoNEB, NudgedElasticBand
from thalweg.landscape.barriers import barrier_of
from thalweg.landscape.batch_norm import recalibrated
from thalweg.landscape.connection import Connection, Saddle, connect
from thalweg.landscape.curves import Curve
from thalweg.landscape.directions import Axes, axes_along, axes_through, state_vector
from thalweg.landscape.directions_hessian import hessian_axes
from thalweg.landscape.directions_pca import pca_axes, random_walk_variance
from thalweg.landscape.directions_random import normalised, random_axes
from thalweg.landscape.directions_walks import thinned, walks_axes
from thalweg.landscape.interpolation import Interpolation, interpolate
from thalweg.landscape.line import line
from thalweg.landscape.plane import plane
from thalweg.landscape.plane_grid import AutoSpan
from thalweg.landscape.plane_paths import project
from thalweg.landscape.recording import Recording
from thalweg.landscape.rescaling import rescaled
from thalweg.landscape.sharpness import Flatness, flatness, keskar, sharpness
from thalweg.landscape.store import read_store
from thalweg.landscape.surface import Line, PlanePath, Surface
from thalweg.landscape.trajectory import Trajectory


__all__ = [
    "Aligned",
    "AutoNEB",
    "AutoSpan",
    "Axes",
    "Connection",
    "Curve",
    "Flatness",
    "Interpolation",
    "Line",
    "NudgedElasticBand",
    "PermutationSpec",
    "PlanePath",
    "Recording",
    "Saddle",
    "Surface",
    "Trajectory",
    "align",
    "axes_along",
    "axes_through",
    "barrier_of",
    "connect",
    "flatness",
    "hessian_axes",
    "interpolate",
    "keskar",
    "line",
    "normalised",
    "pca_axes",
    "plane",
    "project",
    "random_axes",
    "random_walk_variance",
    "read_store",
    "recalibrated",
    "rescaled",
    "sharpness",
    "state_vector",
    "thinned",
    "walks_axes",
]
