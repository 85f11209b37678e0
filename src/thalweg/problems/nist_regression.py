"""Ten data sets of NIST's Statistical Reference Datasets, read from NIST's own files.

A file holds the model in words, two starting points, certified parameters with their standard
deviations, the certified residual sum of squares, and the data. All numbers are taken from it; only
the ten model formulas are written down, in another file.
"""

from __future__ import annotations

import re
from functools import cache, partial
from importlib.resources import files
from typing import Final

import torch
from torch import Tensor

from thalweg.errors import unknown_name
from thalweg.problems.least_squares import Certified, LeastSquaresProblem
from thalweg.problems.nist_models import MODELS, Model


__all__ = ["nist", "nist_names"]

FIRST_DATA_LINE: Final = 60  # counted from 0: all files agree
NUMBER: Final = r"[-+]?[\d.]+(?:[Ee][-+]?\d+)?"
PARAMETER: Final = re.compile(rf"^\s*b\d+\s*=\s*({NUMBER})\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})")


def nist_names() -> tuple[str, ...]:
    """The ten sets, from the easier to the harder.

    Example:
        >>> nist_names()[0], len(nist_names())
        ('Misra1a', 10)
    """
    return tuple(MODELS)


@cache
def nist(name: str) -> LeastSquaresProblem:
    r"""One of the ten sets: residuals :math:`y_i - f(x_i; b)`, two starts, certified values.

    Args:
        name: As NIST writes it.

    Raises:
        ValueError: If it is not one of the ten.

    Example:
        >>> problem = nist("Misra1a")
        >>> problem.start(1).tolist(), problem.m
        ([250.0, 0.0005], 14)
        >>> problem.digits(torch.tensor([238.94, 5.5e-4], dtype=torch.float64))
        3.5...
    """
    if name not in MODELS:
        raise unknown_name("nist", "data set", name, MODELS)
    text = files("thalweg.problems").joinpath("nist", f"{name}.dat").read_text("ascii")
    rows = [tuple(map(float, found.groups())) for found in map(PARAMETER.match, text.splitlines())
            if found]  # fmt: skip
    first, second, parameters, deviations = map(tuple, zip(*rows, strict=True))
    level = re.search(r"(Lower|Average|Higher) Level of Difficulty", text)
    assert level is not None
    return LeastSquaresProblem(
        name,
        partial(_residuals, MODELS[name], *_data(name, text)),
        (first, second),
        (_stated(text, "Residual Sum of Squares"),),
        _formula(text),
        f"NIST Statistical Reference Datasets, nonlinear regression, {name}",
        Certified(
            parameters,
            deviations,
            _stated(text, "Residual Standard Deviation"),
            level.group(1).lower(),
        ),
    )


def _residuals(model: Model, x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return y.to(b) - model(b, x.to(b))


def _data(name: str, text: str) -> tuple[Tensor, Tensor]:
    """Predictors, one column or of shape (m, 2), and responses."""
    lines = [line.split() for line in text.splitlines()[FIRST_DATA_LINE:] if line.strip()]
    table = torch.tensor([[float(entry) for entry in line] for line in lines], dtype=torch.float64)
    y = table[:, 0].log() if name == "Nelson" else table[:, 0]  # its model is of log y
    return (table[:, 1:] if table.shape[1] > 2 else table[:, 1]), y


def _stated(text: str, label: str) -> float:
    found = re.search(rf"{label}:\s*({NUMBER})", text)
    assert found is not None
    return float(found.group(1))


def _formula(text: str) -> str:
    """The lines under "Model:" from the response to the error ``e``, on one line."""
    found = re.search(r"Model:.*?((?:y|log\[y\])\s*=.*?\+\s*e\s*)$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return " ".join(found.group(1).split())
