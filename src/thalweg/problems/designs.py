"""Inputs whose second moment, or curvature under the logistic loss, has a set condition number."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

from thalweg.problems.data import Data, Pair
from thalweg.problems.streams import generator


__all__ = ["COUNT", "DIMENSION", "linear_data", "logistic_data"]

DIMENSION: Final = 50
COUNT: Final = 500
HELD_OUT: Final = 500


def _design(condition: float, first: Tensor | None, draws: torch.Generator) -> tuple[Tensor, ...]:
    """Inputs with second moment of the given condition number, and the solution.

    With ``first``, a vector of ``COUNT`` numbers, the inputs are such that the solution's products
    with them are proportional to it.
    """
    options = {"generator": draws, "dtype": torch.float64}
    columns = torch.randn(COUNT, DIMENSION, **options)
    shares = torch.randn(DIMENSION, **options).sign() / DIMENSION**0.5
    turn, _ = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, **options))
    if first is not None:
        columns[:, 0] = first
    basis, _ = torch.linalg.qr(columns)
    if first is not None:
        # Turn the basis so that ``shares`` in it is its first vector, which is along ``first``; a
        # sign that is turned round by both factorisations, or by one, makes no difference.
        frame, _ = torch.linalg.qr(torch.column_stack([shares, turn[:, 1:]]))
        basis = basis @ frame.T
    eigenvalues = condition ** -torch.linspace(0, 1, DIMENSION, dtype=torch.float64)
    inputs = COUNT**0.5 * (basis * eigenvalues.sqrt()) @ turn.T
    return inputs, turn @ (shares / eigenvalues.sqrt())


def _held_out(inputs: Tensor, draws: torch.Generator) -> list[Tensor]:
    """Fresh inputs with the same second moment, twice."""
    mixing = torch.randn(2 * HELD_OUT, COUNT, generator=draws, dtype=torch.float64)
    return list((mixing @ inputs / COUNT**0.5).split(HELD_OUT))


@cache
def linear_data(condition: float) -> Data:
    """Inputs of shape ``(500, 50)`` and targets without noise."""
    draws = generator(0, "linear")
    inputs, solution = _design(condition, None, draws)
    parts = [inputs, *_held_out(inputs, draws)]
    pairs: list[Pair] = [(x, (x @ solution)[:, None]) for x in parts]
    return Data(pairs[0], pairs[1], pairs[2], "made from a seed", "MIT", f"condition {condition:g}")


@cache
def logistic_data(condition: float) -> Data:
    """Inputs of shape ``(500, 50)`` and probabilities of the class 1, without noise."""
    draws = generator(0, "logistic")
    logits = 1.5 * torch.randn(COUNT, generator=draws, dtype=torch.float64)
    chance = logits.sigmoid()
    weight = (chance * (1 - chance)).sqrt()  # the root of the loss's curvature in each logit
    scaled, direction = _design(condition, weight * logits, draws)
    inputs = scaled / weight[:, None]
    solution = direction * (weight * logits).norm() / (scaled @ direction).norm()
    parts = [inputs, *_held_out(inputs, draws)]
    pairs: list[Pair] = [(x, (x @ solution).sigmoid()[:, None]) for x in parts]
    return Data(pairs[0], pairs[1], pairs[2], "made from a seed", "MIT", f"condition {condition:g}")
