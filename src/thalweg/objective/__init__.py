"""What is minimised, and the one currency that flows through the library.

An :class:`Objective` is a model with a loss, or a plain function of a tensor. Bound to a batch it
is a :class:`Closure`; summed over the batches of a loader it is a :class:`Risk`. Both are closures
in torch's own sense (``torch.optim.LBFGS`` accepts them), and both evaluate themselves at any point
of parameter space without touching the model: buffers are copied, random state is replayed.
What that cost is written in the :class:`Ledger`.

A loss of a known kind also knows its own curvature in output space and how to draw labels from the
model's prediction (:class:`AbstractOutputLoss`).
"""

from thalweg.objective.attempt import Attempt
from thalweg.objective.closure import AbstractClosure, Closure, Risk
from thalweg.objective.ledger import Ledger
from thalweg.objective.losses import (
    AbstractOutputLoss,
    BinaryCrossEntropy,
    CrossEntropy,
    HalfSquares,
    SquaredError,
    UnknownLoss,
    output_loss,
    per_sample,
)
from thalweg.objective.objective import FunctionObjective, Objective
from thalweg.objective.products import AbstractProducts
from thalweg.objective.residuals import ResidualObjective


__all__ = [
    "AbstractClosure",
    "AbstractOutputLoss",
    "AbstractProducts",
    "Attempt",
    "BinaryCrossEntropy",
    "Closure",
    "CrossEntropy",
    "FunctionObjective",
    "HalfSquares",
    "Ledger",
    "Objective",
    "ResidualObjective",
    "Risk",
    "SquaredError",
    "UnknownLoss",
    "output_loss",
    "per_sample",
]
