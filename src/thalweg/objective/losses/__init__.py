r"""Losses that know themselves: curvature in output space, and labels drawn from the prediction.

A mean loss is :math:`L(z) = \frac{1}{c}\sum_n \ell(z_n, y_n)` with outputs z, targets y and a
normaliser c: the number of samples, of entries, of counted tokens or the sum of their class
weights. Sums over batches weight each batch by its own c, so that they equal the loss of the
concatenated data exactly.
"""

from thalweg.objective.losses.base import AbstractOutputLoss, Loss
from thalweg.objective.losses.binary_cross_entropy import BinaryCrossEntropy
from thalweg.objective.losses.cross_entropy import CrossEntropy
from thalweg.objective.losses.half_squares import HalfSquares
from thalweg.objective.losses.per_sample import per_sample
from thalweg.objective.losses.recognise import output_loss
from thalweg.objective.losses.squared_error import SquaredError
from thalweg.objective.losses.unknown import UnknownLoss


__all__ = [
    "AbstractOutputLoss",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "HalfSquares",
    "Loss",
    "SquaredError",
    "UnknownLoss",
    "output_loss",
    "per_sample",
]
