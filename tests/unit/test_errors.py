"""The one message form, did-you-mean, and the domains of hyper-parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from thalweg import errors
from thalweg.errors import (
    Domain,
    bad_argument,
    closest,
    integer_from,
    one_of,
    pair_of,
    unknown_name,
)


def test_names_place_argument_value_and_what_is_allowed():
    error = bad_argument("Adam", "lr", -1.0, "a number in [0, inf)")
    assert isinstance(error, ValueError)
    assert str(error) == "Adam(lr=-1.0): lr must be a number in [0, inf)."


def test_a_long_value_is_cut():
    message = str(bad_argument("f", "x", list(range(1000)), "short"))
    assert len(message) < 130
    assert "...): x must be short." in message


@pytest.mark.parametrize(("name", "hint"), [("adm", " Did you mean 'adam'?"), ("zzz", "")])
def test_unknown_names_get_the_nearest_and_the_list(name, hint):
    message = str(unknown_name("create", "optimizer", name, {"sgd", "adam"}))
    assert message == f"create: unknown optimizer {name!r}.{hint} Known: adam, sgd."


def test_closest_needs_likeness():
    assert closest("lr", ["learning_rate"]) is None
    assert closest("momentun", ["momentum", "moment"]) == "momentum"


NUMBERS = {
    "NON_NEGATIVE": ([0, 0.0, 1e300, 5, True and 1], [-1e-300, math.inf, math.nan]),
    "POSITIVE": ([1e-300, 1], [0, 0.0, -1, math.inf, math.nan]),
    "FRACTION": ([0, 0.999999], [1, 1.0, -0.1, math.nan]),
    "PROBABILITY": ([0, 0.5, 1.0], [1.0000001, -0.1, math.nan, math.inf]),
}
NO_NUMBERS = ["1", b"1", None, True, False, [0.5], (0.5, 0.5), {}, 1j, torch.ones(2) / 2, "nan"]


@pytest.mark.parametrize("name", NUMBERS)
def test_domains_of_numbers(name):
    domain = getattr(errors, name)
    inside, outside = NUMBERS[name]
    for value in inside:
        for kind in (float, np.float32, np.float64, torch.tensor):
            domain.check("f", "x", kind(value) if value in (0, 0.5, 1, 5) else value)
    for value in [*outside, *NO_NUMBERS]:
        with pytest.raises(ValueError, match=r"^f\(x=.*\): x must be a number in"):
            domain.check("f", "x", value)


@given(st.floats())
def test_an_interval_is_what_its_words_say(value):
    assert (0.0 <= value < 1.0) == _accepts(errors.FRACTION, value)
    assert (0.0 <= value <= 1.0) == _accepts(errors.PROBABILITY, value)
    assert (0.0 <= value < math.inf) == _accepts(errors.NON_NEGATIVE, value)
    assert (0.0 < value < math.inf) == _accepts(errors.POSITIVE, value)


def _accepts(domain: Domain, value: object) -> bool:
    try:
        domain.check("f", "x", value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (errors.FLAG, [True, False], [None, 1, 0, "yes"]),
        (errors.OPTIONAL_FLAG, [True, False, None], [1, 0, "yes"]),
        (pair_of(errors.FRACTION), [(0.9, 0.99), [0, 0.5]], [0.9, (0.9,), (0.9, 1.0), None, "ab"]),
        (integer_from(1), [1, 10**9], [0, -1, 1.0, True, None, "1"]),
        (one_of("a", "b"), ["a", "b"], ["c", None, 1, ["a"], {}]),
    ],
    ids=["flag", "optional", "pair", "integer", "choice"],
)
def test_other_domains(domain, inside, outside):
    assert all(_accepts(domain, value) for value in inside)
    assert not any(_accepts(domain, value) for value in outside)


def test_what_fails_inside_a_domain_is_no():
    def breaks(value):
        raise RuntimeError

    with pytest.raises(ValueError, match=r"f\(x=3\): x must be whole\."):
        Domain("whole", breaks).check("f", "x", 3)


def test_a_loss_that_is_not_finite_is_an_arithmetic_error():
    assert issubclass(errors.NonFiniteError, ArithmeticError)
