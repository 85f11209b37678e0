"""The value of houses in California, by the census of 1990.

scikit-learn fetches the table and keeps it; it is used where that was done, or on request. Inputs
are standardised by the training data. There is no target: nobody has tuned the baselines here yet.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.downloads import consent
from thalweg.problems.measures import EXPLAINED_VARIANCE
from thalweg.problems.networks import perceptron
from thalweg.problems.problem import Problem
from thalweg.problems.sources import Source


__all__ = ["CALIFORNIA", "california"]

CALIFORNIA: Final = Source(
    "california",
    ("cal_housing_py3.pkz",),
    "scikit-learn's copy of the California housing data",
    "Let scikit-learn fetch it (0.4 MB) into its own cache: download=True, or THALWEG_DOWNLOAD=1.",
    system=("$SCIKIT_LEARN_DATA", "~/scikit_learn_data"),
)
"""The file that scikit-learn's fetch_california_housing keeps."""


@cache
def california_data(root: str | Path | None = None, download: bool = False) -> Data:
    """Eight measures of a block group; the median value of its houses in 100,000 dollars.

    Raises:
        FileNotFoundError: If scikit-learn has not fetched it, and may not.
    """
    folder = CALIFORNIA.find(root)
    if folder is None and not consent(download):
        raise CALIFORNIA.missing(root)
    from sklearn.datasets import fetch_california_housing  # takes a second to import

    home = folder or root
    inputs, values = fetch_california_housing(
        data_home=None if home is None else str(home),
        download_if_missing=folder is None,
        return_X_y=True,
    )
    data = Data.split(
        np.asarray(inputs),
        np.asarray(values)[:, None],
        validation=0.1,
        source="scikit-learn fetch_california_housing: 20,640 block groups of the census of 1990, "
        "R. K. Pace and R. Barry, Sparse Spatial Autoregressions, 1997",
        licence="public domain (census); BSD-3-Clause (scikit-learn)",
    )
    return data.standardised().centred()


def california(root: str | Path | None = None, download: bool = False) -> Problem:
    """The value of houses, by a perceptron. No target: the data are not here to tune on.

    Raises:
        FileNotFoundError: If scikit-learn has not fetched the data, and may not.
    """
    return Problem(
        "california",
        partial(perceptron, 8, 64, 64, 1),
        F.mse_loss,
        california_data(root, download),
        batch_size=128,
        metric=EXPLAINED_VARIANCE,
        steps=1500,
        title="California house values, perceptron",
        description="Median value of houses in a block group from eight measures of the census; "
        "a perceptron 8-64-64-1 with tanh.",
    )
