"""What optimizers are run on.

A :class:`Problem` is everything that an optimizer does not choose: a model, a loss, data in three
disjoint splits, a batch size, a metric and a target. It is immutable, and its fingerprint changes
with any ingredient, so that results of different problems are never mixed. One seed gives the
initial weights and the order of the data from two separate streams: runs are paired over
optimizers.

One's own problem takes a model, a loss and data::

    problem = Problem("mine", model=lambda: Net(), loss=F.cross_entropy, data=(X, y)).check()

:func:`load` gives the built-in ones of :func:`catalogue`: images, tables and text, small problems
made from a seed, and two-dimensional functions (:class:`TestFunction`), whose minima and saddles
are known. Nothing is fetched unless it is asked for; :class:`Source` says where data are sought.

For methods that minimise functions there are the classical sets, which are no such problems but
functions with starts and known minima: :func:`least_squares_set`, :func:`quadratic_set` and
:func:`bounded_set`.
"""

from thalweg.problems.box import BoundedProblem
from thalweg.problems.catalogue import Entry, catalogue, load
from thalweg.problems.conditioned import linear, logistic
from thalweg.problems.data import Data
from thalweg.problems.functions import (
    BEALE,
    BOOTH,
    HIMMELBLAU,
    MONKEY_SADDLE,
    RASTRIGIN,
    RAVINE,
    ROSENBROCK,
    SADDLE,
    quadratic,
)
from thalweg.problems.least_squares import Certified, LeastSquaresProblem
from thalweg.problems.measures import (
    ACCURACY,
    EXPLAINED_VARIANCE,
    MEAN_SQUARED_ERROR,
    PIXEL_ERROR,
)
from thalweg.problems.metric import Metric, Scores, Target
from thalweg.problems.problem import Problem, TestFunction
from thalweg.problems.quadratics import QuadraticProblem
from thalweg.problems.sets import bounded_set, least_squares_set, listed_sets, quadratic_set
from thalweg.problems.sources import Source


__all__ = [
    "ACCURACY",
    "BEALE",
    "BOOTH",
    "EXPLAINED_VARIANCE",
    "HIMMELBLAU",
    "MEAN_SQUARED_ERROR",
    "MONKEY_SADDLE",
    "PIXEL_ERROR",
    "RASTRIGIN",
    "RAVINE",
    "ROSENBROCK",
    "SADDLE",
    "BoundedProblem",
    "Certified",
    "Data",
    "Entry",
    "LeastSquaresProblem",
    "Metric",
    "Problem",
    "QuadraticProblem",
    "Scores",
    "Source",
    "Target",
    "TestFunction",
    "bounded_set",
    "catalogue",
    "least_squares_set",
    "linear",
    "listed_sets",
    "load",
    "logistic",
    "quadratic",
    "quadratic_set",
]
