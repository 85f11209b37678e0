"""The scipy user's door: a function and a start in, a minimum and how it was found out.

Both functions run the optimizer classes of :mod:`thalweg.optim`, step by step; what stands here is
when to stop and what to say.
"""

from thalweg.minimization.angles import AngleTolerances
from thalweg.minimization.least_squares import FITS, least_squares
from thalweg.minimization.least_squares_result import LeastSquaresResult
from thalweg.minimization.minimize import METHODS, minimize
from thalweg.minimization.result import MinimizeResult, Status
from thalweg.minimization.stopping import Tolerances


__all__ = [
    "FITS",
    "METHODS",
    "AngleTolerances",
    "LeastSquaresResult",
    "MinimizeResult",
    "Status",
    "Tolerances",
    "least_squares",
    "minimize",
]
