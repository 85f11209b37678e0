"""One step, digits that double, and what is not Newton's method is found out."""

from functools import partial

import numpy as np
import pytest

from thalweg.optim import SGD, Newton, NewtonCG, SaddleFreeNewton
from thalweg.reproduce import newton_one_step


def test_every_claim_holds():
    found = newton_one_step.claims()
    assert [claim.claim for claim in found if not claim.holds] == []


def test_the_errors_are_those_of_the_formula():
    """For exp(x) - x the step is x - 1 + exp(-x); for x^4 it is 2x/3."""
    found = newton_one_step.runs()
    x, errors = 0.8, []
    for _ in range(4):
        errors.append(abs(x))
        x = x + np.expm1(-x)
    assert found["exp(x) - x"][:4] == pytest.approx(errors, rel=1e-6)
    fourth = 0.8 * (2 / 3) ** np.arange(31)
    assert found["x^4"] == pytest.approx(fourth.tolist(), rel=1e-9)


@pytest.mark.parametrize(
    "broken",
    [partial(SGD, lr=0.01), NewtonCG, SaddleFreeNewton, partial(Newton, floor=0.1)],
    ids=["gradient descent", "truncated", "damped", "floor"],
)
def test_another_method_is_found_out(broken):
    assert not all(claim.holds for claim in newton_one_step.landing(broken)[1:])


def test_a_method_that_knows_the_units_of_coordinates_is_found_out():
    assert not newton_one_step.coordinates(partial(SGD, lr=0.1)).holds
