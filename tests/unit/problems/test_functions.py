"""The facts stated about each function: values, gradients, curvature, nothing lower."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize
from torch import Tensor

from thalweg import problems
from thalweg.problems import TestFunction


FUNCTIONS = {
    entry.name: function
    for entry in problems.catalogue().values()
    if entry.title.startswith("function") and (function := entry.load().function)
}
BOUNDED = [name for name, function in FUNCTIONS.items() if function.minima]
TURNED = problems.quadratic((0.5, 20.0), angle=0.7, centre=(1.0, -2.0), start=(3.0, 2.0))
EVERY = [*FUNCTIONS.values(), TURNED]


def derivatives(function: TestFunction, point: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian by stacked double backward."""
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
    rows = [torch.autograd.grad(entry, x, retain_graph=True)[0] for entry in gradient]
    return gradient.detach(), torch.stack(rows)


def test_the_list_is_complete():
    assert set(FUNCTIONS) == {
        "quadratic",
        "rosenbrock",
        "beale",
        "himmelblau",
        "booth",
        "rastrigin",
        "saddle",
        "monkey-saddle",
        "ravine",
    }


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.name)
def test_minima_have_the_stated_value_zero_gradient_and_a_bowl(function):
    for point, value in function.minima:
        assert function(torch.tensor(point, dtype=torch.float64)).item() == pytest.approx(
            value, abs=1e-12
        )
        gradient, hessian = derivatives(function, point)
        assert gradient.abs().max() < 1e-9
        assert torch.linalg.eigvalsh(hessian).min() > 0


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.name)
def test_saddles_are_stationary_and_bend_both_ways(function):
    for point in function.saddles:
        gradient, hessian = derivatives(function, point)
        assert gradient.abs().max() < 1e-9
        low, high = torch.linalg.eigvalsh(hessian)
        if function.name == "monkey-saddle":
            assert low == high == 0
            around = torch.linspace(0, 2 * math.pi, 13, dtype=torch.float64)[:-1]
            signs = function(0.1 * torch.stack([around.cos(), around.sin()], -1)).sign()
            assert {-1.0, 1.0} <= set(signs.tolist())
        else:
            assert low < 0 < high


# Worked by hand from the formulas at the point (1, 2).
AT_ONE_TWO = {
    "quadratic": 200.5,
    "rosenbrock": 100.0,
    "beale": 2.5**2 + 5.25**2 + 9.625**2,
    "himmelblau": 68.0,
    "booth": 5.0,
    "rastrigin": 5.0,
    "saddle": -3.0,
    "monkey-saddle": -11.0,
    "ravine": 0.05 + 5 * (2 - math.sin(1)) ** 2,
}


@pytest.mark.parametrize("name", AT_ONE_TWO)
def test_values_of_the_formulas(name):
    point = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert FUNCTIONS[name](point).item() == pytest.approx(AT_ONE_TWO[name], rel=1e-12)


def test_every_saddle_of_the_polynomials_is_listed():
    assert len(FUNCTIONS["himmelblau"].saddles) == 4
    assert len(FUNCTIONS["beale"].saddles) == 1


@pytest.mark.parametrize("name", BOUNDED)
def test_nothing_lower_in_the_box(name):
    function = FUNCTIONS[name]
    lowest = min(value for _, value in function.minima)
    draws = np.random.default_rng(0)
    x, y, z = function.grid(41)
    row, column = divmod(int(z.argmin()), 41)
    starts: list[tuple[float, float]] = [(x[column].item(), y[row].item())]
    low, high = np.transpose(function.box)
    starts += [(x, y) for x, y in draws.uniform(low, high, (15, 2))]

    def value(point):
        return function(torch.from_numpy(np.asarray(point))).item()

    ends = [minimize(value, start, bounds=function.box, method="L-BFGS-B") for start in starts]
    assert min(end.fun for end in ends) >= lowest - 1e-9
    assert z.min() >= lowest
    best = min(ends, key=lambda end: end.fun)
    assert min(math.dist(best.x, point) for point, _ in function.minima) < 1e-2


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - set(BOUNDED)))
def test_unbounded_functions_say_so_and_fall_without_end(name):
    function = FUNCTIONS[name]
    assert "unbounded below" in function.formula
    assert function.problem().target is not None
    far = torch.tensor([[-1e3, 0.0], [0.0, 1e3]], dtype=torch.float64)
    assert function(far).min() < -1e5


@pytest.mark.parametrize(
    ("name", "condition"), [("rosenbrock", 2508), ("ravine", 402), ("booth", 9)]
)
def test_condition_numbers_that_the_text_states(name, condition):
    function = FUNCTIONS[name]
    _, hessian = derivatives(function, function.minima[0][0])
    low, high = torch.linalg.eigvalsh(hessian)
    assert (high / low).item() == pytest.approx(condition, rel=1e-3)


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.name)
def test_vectorised_over_leading_dimensions(function):
    points = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    values = function(points)
    assert values.shape == (3, 4)
    assert values.dtype == points.dtype
    torch.testing.assert_close(values[2, 1], function(points[2, 1]))


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.name)
def test_grid_covers_the_box_with_a_row_for_each_y(function):
    x, y, z = function.grid(7)
    assert ((x[0], x[-1]), (y[0], y[-1])) == function.box
    for row, column in [(0, 0), (2, 5), (6, 1)]:
        assert z[row, column] == function(torch.stack([x[column], y[row]]))


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.name)
def test_stationary_points_and_start_lie_in_the_box(function):
    for point in [function.start, *function.saddles, *(p for p, _ in function.minima)]:
        for value, (low, high) in zip(point, function.box, strict=True):
            assert low <= value <= high


@settings(max_examples=50, deadline=None)
@given(
    eigenvalues=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
    angle=st.floats(-7.0, 7.0),
    centre=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    start=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
)
def test_quadratic_has_the_given_eigenvalues_anywhere(eigenvalues, angle, centre, start):
    function = problems.quadratic(eigenvalues, angle, centre, start)
    for point in (centre, start):
        _, hessian = derivatives(function, point)
        expected = torch.tensor(sorted(eigenvalues), dtype=torch.float64)
        torch.testing.assert_close(
            torch.linalg.eigvalsh(hessian), expected, rtol=1e-6, atol=1e-9 * max(eigenvalues)
        )
    first_axis = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    torch.testing.assert_close(hessian @ first_axis, eigenvalues[0] * first_axis, atol=1e-9, rtol=0)
    assert function(torch.tensor(centre, dtype=torch.float64)) == 0


def test_quadratic_refuses_eigenvalues_that_are_not_positive():
    with pytest.raises(
        ValueError, match=r"quadratic\(eigenvalues=\(1.0, 0.0\)\): eigenvalues must"
    ):
        problems.quadratic((1.0, 0.0))


def test_start_must_lie_in_the_box():
    with pytest.raises(ValueError, match=r"TestFunction\(start=\(3.0, 0.0\)\): start must be insi"):
        TestFunction("f", torch.sum, (3.0, 0.0), ((-1, 1), (-1, 1)), (), "f", "none")


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.name)
def test_problem_starts_at_the_start_and_follows_the_function(function):
    problem = pickle.loads(pickle.dumps(function.problem(steps=7))).check()
    model = problem.build(seed=3)
    assert model.x.tolist() == list(function.start)
    assert model.x.dtype == torch.float64
    assert problem.steps == 7
    closure = problem.objective(model).closure(*next(problem.batches(seed=0)))
    value = function(torch.tensor(function.start, dtype=torch.float64))
    assert closure() == value
    torch.testing.assert_close(model.x.grad, derivatives(function, function.start)[0])
    assert problem.evaluate(model, "train") == {"loss": value.item(), "metric": None}


@pytest.mark.parametrize("name", BOUNDED)
def test_target_is_all_but_a_thousandth_of_the_way_down(name):
    function = FUNCTIONS[name]
    problem = function.problem()
    first = problem.evaluate(problem.build(0))["loss"]
    lowest = function.minima[0][1]
    assert problem.target is not None
    assert problem.target.value == pytest.approx(lowest + 1e-3 * (first - lowest))
    assert problem.reached(lowest)
    assert not problem.reached(first)
    assert not problem.reached(math.nan)


@pytest.mark.parametrize("name", ["saddle", "monkey-saddle"])
def test_a_fall_without_end_is_cut_off_at_the_boxs_lowest_value(name):
    function = problems.load(name).function
    floor = function.grid()[2].min().item()
    far = torch.tensor([1.0, 50.0], dtype=torch.float64)
    assert function(far) < floor
    assert function.raced(far) == floor
    inside = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert function.raced(inside) == function(inside)
    assert problems.load("rosenbrock").function.raced is problems.load("rosenbrock").function.fn
