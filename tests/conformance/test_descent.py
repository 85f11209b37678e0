"""Every method gets down: a quadratic, Rosenbrock's valley, a small network."""

from __future__ import annotations

from functools import partial

import pytest

from conformance.subjects import NETWORK, descend, evaluating, quadratic, rosenbrock
from conformance.table import CASES, ROWS


@pytest.mark.parametrize("name", CASES)
def test_descends_a_quadratic(name):
    row = CASES[name]
    build = partial(row.build, **row.quadratic)
    before, after = descend(build, quadratic, [1.0, -2.0, 1.0, 0.5, 1.5], 150)
    assert after < 0.02 * before


@pytest.mark.parametrize("name", ROWS)
def test_descends_rosenbrocks_valley(name):
    row = ROWS[name]
    before, after = descend(partial(row.build, **row.rosenbrock), rosenbrock, [-1.2, 1.0], 1000)
    assert before == pytest.approx(24.2)
    assert after < 0.6


@pytest.mark.parametrize("name", CASES)
def test_descends_a_network(name):
    row = CASES[name]
    model = NETWORK.model()
    optimizer = row.build(model.parameters(), **row.network)

    def loss() -> float:
        return sum(NETWORK.closure(model, t).value().item() for t in range(NETWORK.batches))

    before = loss()
    NETWORK.walk(optimizer, model, 120)
    with evaluating(optimizer):
        assert loss() < 0.4 * before


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if "maximize" in row.choices])
def test_maximize_climbs(name):
    row = ROWS[name]
    build = partial(row.build, maximize=True, **row.quadratic)
    before, after = descend(build, lambda x: -quadratic(x), [1.0, -2.0, 1.0], 150)
    assert before < 0
    assert after > 0.02 * before
