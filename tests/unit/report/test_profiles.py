"""Profiles on tables small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from thalweg.report import data_profile, performance_profile
from thalweg.report.canvas import render
from thalweg.report.profiles import efforts, ratios, share_within


# Four problems: a is cheapest on two, b on one and alone on one; none solves the last.
COSTS = {"a": [10, 30, math.inf, 40, math.inf], "b": [20, 15, 60, math.nan, math.inf]}
SIZES = [1, 2, 5, 3, 9]


def test_ratios_by_hand():
    found = ratios(COSTS)
    assert found["a"].tolist() == [1.0, 2.0, math.inf, 1.0, math.inf]
    assert found["b"].tolist() == [2.0, 1.0, 1.0, math.inf, math.inf]
    assert [share_within(found["a"], tau) for tau in (1.0, 1.9, 2.0, 1e9)] == [0.4, 0.4, 0.6, 0.6]
    assert [share_within(found["b"], tau) for tau in (1.0, 2.0)] == [0.4, 0.6]


def test_efforts_by_hand():
    found = efforts(COSTS, SIZES)
    assert found["a"].tolist() == [5.0, 10.0, math.inf, 10.0, math.inf]
    assert found["b"].tolist() == [10.0, 5.0, 10.0, math.inf, math.inf]


def curve(figure, name):
    line = next(k for k in figure.axes[0].lines if k.get_label().startswith(name))
    assert line.get_drawstyle() == "steps-post"
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def at(figure, name, x):
    """The height of a step curve: that of the last corner at or before x."""
    xs, ys = curve(figure, name)
    return ys[xs <= x][-1]


def test_the_performance_profile_draws_them():
    figure = performance_profile(COSTS, line="five made-up problems")
    for name in COSTS:
        for tau in (1.0, 1.5, 2.0):
            assert at(figure, name, tau) == pytest.approx(share_within(ratios(COSTS)[name], tau))
    assert figure.axes[0].get_xscale() == "log"
    assert "a (3 of 5)" in [k.get_label() for k in figure.axes[0].lines]
    render(figure, "png")


def test_the_data_profile_draws_them():
    figure = data_profile(COSTS, SIZES, unit="values")
    spent = efforts(COSTS, SIZES)
    for name in COSTS:
        for alpha in (5.0, 7.0, 10.0):
            assert at(figure, name, alpha) == pytest.approx(share_within(spent[name], alpha))
    assert figure.axes[0].get_xlabel() == "values / (n + 1) (log)"
    render(figure, "svg")


def test_curves_rise_and_end_at_the_share_that_is_solved():
    rng = np.random.default_rng(0)
    costs = {
        name: np.where(rng.random(30) < 0.2, math.inf, rng.integers(1, 500, 30)) for name in "xyz"
    }
    figure = performance_profile(costs)
    for name, row in costs.items():
        _, ys = curve(figure, name)
        assert (np.diff(ys) >= 0).all()
        assert ys[-1] == pytest.approx(np.isfinite(row).mean())


def test_nobody_solves_anything():
    figure = performance_profile({"a": [math.inf], "b": [math.nan]})
    assert at(figure, "a", 1.5) == 0.0
    render(data_profile({"a": [math.inf]}, [3]), "png")


def test_what_is_refused():
    with pytest.raises(ValueError, match="of as many problems for each solver"):
        ratios({"a": [1, 2], "b": [1]})
    with pytest.raises(ValueError, match="costs must be positive"):
        ratios({"a": [0.0]})
    with pytest.raises(ValueError, match="sizes must be one for each problem"):
        efforts({"a": [1.0]}, [1, 2])
