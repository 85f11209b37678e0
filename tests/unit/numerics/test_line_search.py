"""Line searches: published counts, the conditions on random lines, and what goes wrong."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import line_search as scipy_line_search

from thalweg.numerics.armijo import armijo
from thalweg.numerics.hager_zhang import hager_zhang
from thalweg.numerics.line_search import Trial
from thalweg.numerics.more_thuente import more_thuente
from thalweg.numerics.wolfe import Conditions
from unit.numerics.lines import STARTS, TABLES, first, random_line


WOLFE = {"more-thuente": more_thuente, "hager-zhang": hager_zhang}
BOTH = pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)


class Counted:
    """A line that counts and remembers its trials."""

    def __init__(self, line):
        self.line, self.trials = line, []

    def __call__(self, a):
        assert a > 0
        value, slope = self.line(a)
        self.trials.append(Trial(a, value, slope))
        return value, slope


# ---- published counts -----------------------------------------------------------------------
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("row", range(4))
def test_more_and_thuentes_tables(table, row):
    line, mu, eta, counts, steps, slopes = TABLES[table]
    counted = Counted(line)
    found = more_thuente(counted, *line(0.0), STARTS[row], Conditions(mu, eta))
    assert found.status == "wolfe"
    assert found.evaluations == len(counted.trials) == counts[row]
    assert found.alpha == pytest.approx(steps[row], rel=0.07)
    if (table, row) == ("II", 0):  # a slope of 1e-9 beside values of 1: other roundings
        assert abs(found.slope) < 1e-8
    elif (table, row) == ("II", 1):  # "10e-10" in print
        assert found.slope == pytest.approx(1.0e-10, rel=0.02)
    else:
        assert found.slope == pytest.approx(slopes[row], rel=0.03)


# Evaluations of the authors' algorithm as LineSearches.jl has it, with strong conditions that are
# tested at every trial: recorded by the tests of the R package mize.
HAGER_ZHANG = {
    "I": (8, 5, 1, None),
    "II": (18, 11, 18, 28),
    "III": (18, 5, 16, 16),
    "IV": (None, 1, 4, 8),
    "V": (6, 6, 12, 19),
    "VI": (20, 18, 11, 13),
}


@pytest.mark.parametrize("table", TABLES)
def test_hager_and_zhangs_search_takes_as_many_as_its_other_implementations(table):
    line, mu, eta, *_ = TABLES[table]
    for start, count in zip(STARTS, HAGER_ZHANG[table], strict=True):
        value, slope = line(0.0)
        found = hager_zhang(line, value, slope, start, Conditions(mu, eta, slack=1e-6 * abs(value)))
        assert found.success
        assert count is None or found.evaluations == count


# ---- the conditions -------------------------------------------------------------------------
@BOTH
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    start=st.floats(-6, 6),
    limits=st.sampled_from([(1e-4, 0.9), (1e-4, 0.1), (0.1, 0.4), (1e-3, 1e-2)]),
    strong=st.booleans(),
)
def test_wolfes_conditions_hold_on_random_lines(search, seed, start, limits, strong):
    line = Counted(random_line(seed))
    value, slope = line.line(0.0)
    if slope >= 0:
        assert search(line, value, slope).status == "uphill"
        assert not line.trials
        return
    c1, c2 = limits
    found = search(line, value, slope, 10**start, Conditions(c1, c2, strong=strong, most=100))
    assert found.status == "wolfe", found
    assert (found.value, found.slope) == line.line(found.alpha)
    assert found.value <= value + c1 * found.alpha * slope
    assert found.slope >= c2 * slope
    if strong:
        assert found.slope <= -c2 * slope
    assert found.evaluations == len(line.trials) < 60


@BOTH
def test_no_more_evaluations_than_scipys_search_on_the_whole(search):
    ours = theirs = 0
    for seed in range(200):
        line = random_line(seed)
        value, slope = line(0.0)
        if slope >= 0:
            continue
        counted = Counted(line)
        ours += search(counted, value, slope, 1.0, Conditions(most=100)).evaluations
        result = scipy_line_search(
            lambda x, line=line: line(x[0])[0],
            lambda x, line=line: np.array([line(x[0])[1]]),
            np.zeros(1), np.ones(1), np.array([slope]), value, maxiter=100,
        )  # fmt: skip
        theirs += result[1]
    assert ours < 1.02 * theirs


# ---- what goes wrong ------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wall", [1e-8, 0.03, 0.9, 7.0])
@pytest.mark.parametrize("start", [1e-3, 1.0, 1e9])
def test_a_wall_is_never_crossed_and_costs_little(search, bad, wall, start):
    def line(a):
        # A log barrier at the wall; its minimum is at two thirds of the way there.
        if a >= wall:
            return bad, bad
        u = a / wall
        return -2 * math.log1p(u) - 0.4 * math.log1p(-u), (-2 / (1 + u) + 0.4 / (1 - u)) / wall

    counted = Counted(line)
    found = search(counted, 0.0, -1.6 / wall, start, Conditions(curvature=0.1))
    assert found.status == "wolfe"
    assert found.alpha == pytest.approx(2 / 3 * wall, rel=0.2)
    assert found.evaluations == len(counted.trials) <= 30


@BOTH
def test_slopes_alone_may_be_missing(search):
    def line(a):
        return (a - 1) ** 2, 2 * (a - 1) if a < 1.2 else math.nan

    found = search(line, 1.0, -2.0, 5.0, Conditions(curvature=0.5))
    assert found.status == "wolfe"
    assert found.alpha < 1.2


@BOTH
def test_down_to_the_wall_the_nearest_useful_step_is_taken(search):
    found = search(
        lambda a: (-a, -1.0) if a < 1 else (math.nan, math.nan), 0.0, -1.0, 4.0, Conditions()
    )
    assert found.status == "decrease"
    assert 0.8 <= found.alpha < 1
    assert found.evaluations <= 12


@BOTH
def test_unbounded_below_ends_at_the_limits(search):
    found = search(lambda a: (-a, -1.0), 0.0, -1.0, 1.0, Conditions(longest=100.0))
    assert (found.alpha, found.status) == (100.0, "decrease")
    counted = Counted(lambda a: (-a, -1.0))
    found = search(counted, 0.0, -1.0, 1.0, Conditions(most=7))
    assert found.status == "decrease"
    assert found.evaluations == len(counted.trials) == 7
    assert found.alpha == max(t.alpha for t in counted.trials)


@BOTH
@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_on_failure_the_best_trial_is_returned(search, most):
    line = TABLES["II"][0]
    for start in STARTS:
        counted = Counted(line)
        value, slope = line(0.0)
        found = search(counted, value, slope, start, Conditions(0.1, 1e-6, most=most))
        assert found.evaluations == len(counted.trials) <= most
        enough = [t for t in counted.trials if t.value <= value + 0.1 * t.alpha * slope]
        assert found.status == ("decrease" if enough else "failed")
        kept = min(enough, key=lambda t: t.value, default=Trial(0.0, value, slope))
        assert (found.alpha, found.value, found.slope) == kept


@BOTH
def test_nothing_lower_is_a_failure_with_nothing_moved(search):
    counted = Counted(lambda a: (1.0 + a, 1.0))  # the slope at 0 was a lie
    found = search(counted, 1.0, -1.0)
    assert (found.alpha, found.value, found.status) == (0.0, 1.0, "failed")
    assert found.evaluations <= 41


@BOTH
@pytest.mark.parametrize("slope", [0.0, 1.0, math.nan, -math.inf])
def test_uphill_is_a_status(search, slope):
    found = search(lambda _: pytest.fail("called"), 1.0, slope)
    assert (found.alpha, found.evaluations, found.status) == (0.0, 0, "uphill")


@BOTH
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_the_trials_do_not_depend_on_the_scale_of_the_function(search, scale):
    for table in TABLES.values():
        line, mu, eta, *_ = table
        paths = []
        for size in (1.0, scale):
            counted = Counted(lambda a, size=size, line=line: tuple(size * z for z in line(a)))
            value, slope = (size * z for z in line(0.0))
            found = search(counted, value, slope, 0.1, Conditions(mu, eta))
            assert found.success
            paths.append([t.alpha for t in counted.trials])
        assert paths[0] == pytest.approx(paths[1], rel=1e-6)


@BOTH
@pytest.mark.parametrize("scale", [2.0**-80, 2.0**80])
def test_the_trials_scale_with_the_steps(search, scale):
    for table in TABLES.values():
        line, mu, eta, *_ = table
        paths = []
        for size in (1.0, scale):

            def stretched(a, size=size, line=line):
                value, slope = line(a / size)
                return value, slope / size

            counted = Counted(stretched)
            search(counted, *stretched(0.0), 0.125 * size, Conditions(mu, eta))
            paths.append([t.alpha / size for t in counted.trials])
        assert paths[0] == paths[1]


def near_the_minimum(a):
    """A parabola whose values are lost in the rounding of 1, and whose slopes are not."""
    x = 3e-9 * (1 - a)
    return 1.0 + 0.5 * x**2 + (4.4e-16 if a else 0.0), -3e-9 * x


@BOTH
def test_approximate_wolfe_goes_on_where_values_are_rounding(search):
    value, slope = near_the_minimum(0.0)
    plain = search(near_the_minimum, value, slope, 0.9, Conditions(curvature=0.5))
    assert plain.status == "failed"
    assert plain.evaluations > 10
    found = search(near_the_minimum, value, slope, 0.9, Conditions(curvature=0.5, slack=1e-12))
    assert (found.status, found.evaluations) == ("approximate", 1)
    # Slopes still decide: twice as far is as high as the start.
    far = search(near_the_minimum, value, slope, 2.1, Conditions(curvature=0.5, slack=1e-12))
    assert far.status == "approximate"
    assert abs(far.alpha - 1) <= 0.5


def test_a_step_with_slack_must_still_have_a_good_slope():
    conditions = Conditions(0.1, 0.9, slack=1e-3)
    start = Trial(0.0, 1.0, -1.0)
    assert conditions.holds(start, Trial(1.0, 1.0005, 0.0)) == "approximate"
    assert conditions.holds(start, Trial(1.0, 1.0005, 0.85)) == ""
    assert conditions.holds(start, Trial(1.0, 1.0005, -0.95)) == ""
    assert conditions.holds(start, Trial(1.0, 1.002, 0.0)) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("decrease", 0.0), ("decrease", 1.0), ("curvature", math.nan), ("slack", -1.0),
     ("width", math.nan), ("longest", 0.0), ("most", 0), ("most", 2.5), ("most", True)],
)  # fmt: skip
def test_conditions_refuse_what_cannot_be(name, value):
    with pytest.raises(ValueError, match=rf"^Conditions\({name}="):
        Conditions(**{name: value})


# ---- Armijo ---------------------------------------------------------------------------------
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), start=st.floats(-6, 6), decrease=st.floats(1e-4, 0.4))
def test_armijos_condition_holds_and_the_trials_shrink(seed, start, decrease):
    line = random_line(seed)
    value, slope = line(0.0)
    if slope >= 0:
        return
    trials = []
    found = armijo(
        lambda a: trials.append(a) or line(a)[0], value, slope, 10**start, decrease=decrease
    )
    assert found.status == "decrease"
    assert found.value == line(found.alpha)[0] <= value + decrease * found.alpha * slope
    assert found.evaluations == len(trials)
    assert trials[-1] == found.alpha
    for before, after in itertools.pairwise(trials):
        assert 0.1 * before * (1 - 1e-12) <= after <= 0.5 * before


def test_armijo_interpolates_a_parabola_then_a_cubic_exactly():
    found = armijo(lambda a: (a - 0.2) ** 2, 0.04, -0.4)
    assert (found.alpha, found.evaluations) == (pytest.approx(0.2), 2)


def test_armijos_second_interpolation_is_the_cubic_through_two_values():
    trials = []

    def line(a):
        trials.append(a)
        return 1 - a + 2 * a**2 - 0.5 * a**3

    # So much decrease is asked for that the minimum itself does not do.
    armijo(line, 1.0, -1.0, 1.0, decrease=0.9, shrink=(0.1, 0.99))
    assert trials[1] == pytest.approx(1 / 3)
    assert trials[2] == pytest.approx((4 - math.sqrt(10)) / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_armijo_does_not_interpolate_through_a_wall(bad):
    trials = []

    def line(a):
        trials.append(a)
        return bad if a > 1e-6 else (1e6 * a - 0.5) ** 2

    found = armijo(line, 0.25, -1e6)
    assert found.status == "decrease"
    assert found.alpha <= 1e-6
    assert len(trials) < 12


def test_armijo_on_failure_returns_the_lowest():
    found = armijo(lambda a: 1.0 - 1e-9 * a, 1.0, -1.0, most=5)
    assert (found.alpha, found.status, found.evaluations) == (1.0, "rounding", 5)
    found = armijo(lambda a: 1.0 + a, 1.0, -1.0, most=5)
    assert (found.alpha, found.value, found.status) == (0.0, 1.0, "failed")
    assert armijo(lambda _: 0.0, 1.0, 1.0).status == "uphill"
    assert armijo(lambda _: 1.0, 1.0, -1.0, slack=1e-3).alpha <= 1.0


def test_armijo_follows_negative_curvature_from_a_saddle():
    found = armijo(lambda a: -(a**2) + a**4, 0.0, 0.0, 1.0, bend=-2.0, decrease=0.1)
    assert found.status == "decrease"
    assert found.value <= -0.1 * found.alpha**2
    assert armijo(lambda _: 0.0, 0.0, 0.0).status == "uphill"


def test_a_reference_lets_the_function_rise():
    rising = armijo(lambda _: 1.5, 1.0, -1e-3, reference=2.0)
    assert (rising.alpha, rising.status) == (1.0, "decrease")
    assert armijo(lambda _: 1.5, 1.0, -1e-3, reference=0.5, most=3).status == "failed"


@pytest.mark.parametrize(
    "options",
    [{"decrease": 0.0}, {"start": 0.0}, {"shrink": (0.5, 0.1)}, {"shrink": (0.0, 0.5)}],
    ids=str,
)
def test_armijo_refuses_what_cannot_be(options):
    with pytest.raises(ValueError, match=rf"^armijo\({next(iter(options))}="):
        armijo(lambda _: 0.0, *(1.0, -1.0), **options)


def test_the_first_table_is_the_papers_function():
    assert first(0.0) == (0.0, -0.5)
