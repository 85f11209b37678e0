"""The price of 53,940 diamonds from their measures and grades: a regression of real size.

The table comes inside the package plotnine, of which only this file is read. Inputs are
standardised by the training data; no row is left out, the few with a length of zero included.
"""

from __future__ import annotations

import csv
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.measures import EXPLAINED_VARIANCE
from thalweg.problems.metric import Target
from thalweg.problems.networks import perceptron
from thalweg.problems.problem import Problem
from thalweg.problems.sources import Source


__all__ = ["DIAMONDS", "diamonds"]

DIAMONDS: Final = Source(
    "diamonds",
    ("diamonds.csv",),
    "plotnine",
    'The table comes inside this package; install it with: pip install "thalweg[data]".',
    under=("diamonds",),
    package="plotnine/data",
)
"""One CSV file; plotnine itself is not imported."""

_NUMBERS = ("carat", "depth", "table", "x", "y", "z")
_GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": tuple("DEFGHIJ"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}


@cache
def diamonds_data(root: str | Path | None = None) -> Data:
    """Six measures and twenty indicators of grades; the logarithm of the price, about its mean.

    Raises:
        ImportError: If plotnine is not installed.
        ValueError: If the table has another shape or an unknown grade.
    """
    path = DIAMONDS.file(DIAMONDS.locate(root), "diamonds.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        inputs = [
            [float(row[name]) for name in _NUMBERS]
            + [float(i == g.index(row[name])) for name, g in _GRADES.items() for i in range(len(g))]
            for row in rows
        ]
        prices = np.log([[float(row["price"])] for row in rows])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: not the table of diamonds: {error}.") from error
    data = Data.split(
        np.array(inputs),
        prices,
        validation=0.1,
        test=0.1,
        source="plotnine diamonds.csv: prices of 53,940 round cut diamonds, H. Wickham, ggplot2",
        licence="MIT (plotnine, ggplot2)",
    )
    return data.standardised(slice(0, len(_NUMBERS))).centred()


def diamonds(root: str | Path | None = None, download: bool = False) -> Problem:
    """The price of a diamond, by a perceptron.

    Raises:
        ImportError: If plotnine is not installed.
    """
    del download  # there is nothing to fetch it from
    return Problem(
        "diamonds",
        partial(perceptron, 26, 128, 128, 1),
        F.mse_loss,
        diamonds_data(root),
        batch_size=256,
        metric=EXPLAINED_VARIANCE,
        target=Target("validation_loss", 0.0117),
        steps=1500,
        probe=8192,
        title="Diamond prices, perceptron",
        description="The logarithm of the price of a diamond from its measures and grades; a "
        "perceptron 26-128-128-1 with tanh.",
    )
