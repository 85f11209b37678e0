"""What optimizers are run on.

A :class:`Problem` is everything that an optimizer does not choose: a model, a loss, data in three
disjoint splits, a batch size, a metric and a target. It is immutable, and its fingerprint changes
with any ingredient, so that results of different problems are never mixed. One seed gives the
initial weights and the order of the data from two separate streams: runs are paired over
optimizers.

One's own problem takes a model, a loss and data::

    problem = Problem("mine", model=lambda: Net(), loss=F.cross_entropy, data=(X, y)).check()

:func:`load` gives the built-in ones of :func:`catalogue`: real digits in two sizes, and
two-dimensional functions (:class:`TestFunction`), whose minima and saddles are known.
"""

from thalweg.problems.catalogue import Entry, catalogue, load
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
from thalweg.problems.metric import ACCURACY, MEAN_SQUARED_ERROR, Metric, Scores, Target
from thalweg.problems.problem import Problem, TestFunction


__all__ = [
    "ACCURACY",
    "BEALE",
    "BOOTH",
    "HIMMELBLAU",
    "MEAN_SQUARED_ERROR",
    "MONKEY_SADDLE",
    "RASTRIGIN",
    "RAVINE",
    "ROSENBROCK",
    "SADDLE",
    "Data",
    "Entry",
    "Metric",
    "Problem",
    "Scores",
    "Target",
    "TestFunction",
    "catalogue",
    "load",
    "quadratic",
]
