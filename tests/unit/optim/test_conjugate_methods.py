"""Linear and nonlinear conjugate gradients: conjugacy, n steps, one method on quadratics."""

from __future__ import annotations

import pytest
import torch

import thalweg as tw
from thalweg import problems
from thalweg.optim import ConjugateGradient, NonlinearCG
from unit.optim.test_quasi_newton import CLASSICAL, bowl, leaf, walk


RULES = ("fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan", "hager-zhang")
EXACT = {"curvature": 1e-9, "decrease": 1e-10}


@pytest.mark.parametrize("condition", [10.0, 1e3])
def test_directions_are_conjugate_and_n_of_them_are_enough(condition):
    matrix, fn = bowl(6, condition)
    x = leaf([2.0, -1.0, 0.0, 3.0, 0.5, 1.5])
    optimizer, closure, directions = ConjugateGradient([x]), tw.Objective.of(fn).closure(x), []
    start = (x.detach() - 1).norm()
    for _ in range(6):
        optimizer.step(closure)
        d = optimizer.memory["direction"]
        directions.append(d / (d @ matrix @ d).sqrt())
    basis = torch.stack(directions)
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(basis @ matrix @ basis.T, eye, rtol=0, atol=1e-12 * condition**2)
    assert (x.detach() - 1).norm() < 1e-8 * start


def test_k_distinct_eigenvalues_take_k_steps_and_a_product_each():
    values = torch.tensor([1.0, 1.0, 1.0, 7.0, 7.0, 50.0], dtype=torch.float64)
    x = leaf([2.0, -1.0, 0.0, 3.0, 0.5, 1.5])
    optimizer = ConjugateGradient([x])
    closure = tw.Objective.of(lambda x: 0.5 * (values * (x - 1) ** 2).sum()).closure(x)
    walk(optimizer, closure, x, 3)
    assert (x.detach() - 1).norm() < 1e-13
    assert optimizer.counts.nhvp == 3
    assert optimizer.counts.ngev == 4


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_curvature_that_is_not_positive_is_reported_and_nothing_moves(low):
    x = leaf([0.0, 2.0])
    closure = tw.Objective.of(lambda x: 0.5 * low * x[1] ** 2 + x[1]).closure(x)
    optimizer = ConjugateGradient([x])
    optimizer.step(closure)
    assert optimizer.info.outcome == "failed"
    assert optimizer.info.rejected
    assert optimizer.info.details["curvature"] == pytest.approx(low)
    assert x.tolist() == [0.0, 2.0]


def test_it_says_how_far_a_function_is_from_a_quadratic():
    deviations = []
    for fn in (lambda x: (x**2).sum(), lambda x: (x**2).sum() + 0.1 * (x**4).sum()):
        x = leaf([1.0, -2.0])
        optimizer = ConjugateGradient([x])
        optimizer.step(tw.Objective.of(fn).closure(x))
        deviations.append(optimizer.info.details["deviation"])
    assert deviations[0] < 1e-12
    assert deviations[1] > 0.01


@pytest.mark.parametrize("rule", RULES)
def test_on_a_quadratic_with_exact_searches_every_rule_is_linear_cg(rule):
    _, fn = bowl(5, 100.0)
    paths = []
    for make in (lambda p: NonlinearCG(p, rule=rule, **EXACT), ConjugateGradient):
        x = leaf([2.0, -1.0, 0.0, 3.0, 0.5])
        paths.append(walk(make([x]), tw.Objective.of(fn).closure(x), x, 5))
    assert len(paths[0]) == len(paths[1]) == 6
    assert (paths[0] - paths[1]).norm() < 1e-6 * (paths[0][0] - 1).norm()


def betas(new, old, d):
    """The rules as they stand in the papers."""
    y = new - old
    bend, both = d @ y, new @ new
    lowest = 0.4 * (d @ old) / (d @ d)
    return {
        "fletcher-reeves": both / (old @ old),
        "polak-ribiere": max(0.0, new @ y / (old @ old)),
        "hestenes-stiefel": max(0.0, new @ y / bend),
        "dai-yuan": both / bend,
        "hager-zhang": max((y - 2 * d * (y @ y) / bend) @ new / bend, lowest),
    }


@pytest.mark.parametrize("rule", RULES)
def test_the_weight_is_the_papers(rule):
    x = leaf([-1.2, 1.0])
    closure = tw.Objective.of(problems.ROSENBROCK.fn).closure(x)
    optimizer = NonlinearCG([x], rule=rule, restart=0)
    checked = 0
    for _ in range(12):
        old = closure.value_and_grad(x.detach())[1][0].clone()
        optimizer.step(closure)
        d, new = optimizer.memory["direction"], x.grad
        expected = float(betas(new, old, d)[rule])
        assert optimizer.memory["beta"] == pytest.approx(expected, rel=1e-8, abs=1e-12)
        checked += expected != 0.0
    assert checked >= 6


@pytest.mark.parametrize("search", ["more-thuente", "hager-zhang", "armijo"])
def test_hager_and_zhangs_directions_go_down_whatever_the_search(search):
    x = leaf([-1.2, 1.0])
    closure = tw.Objective.of(problems.ROSENBROCK.fn).closure(x)
    optimizer = NonlinearCG([x], line_search=search, restart=0)
    for _ in range(40):
        grad = closure.value_and_grad(x.detach())[1][0]
        optimizer.step(closure)
        if optimizer.info.outcome != "moved":
            break
        assert optimizer.info.details["slope"] <= -0.01 * float(grad @ grad)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_the_minima_of_the_classical_functions(rule):
    for function in CLASSICAL:
        x = leaf(list(function.start))
        closure = tw.Objective.of(function.fn).closure(x)
        walk(NonlinearCG([x], rule=rule), closure, x, 600, gtol=1e-8)
        low = min(value for _, value in function.minima)
        assert closure.value().item() <= low + 1e-10, function.name


def test_it_starts_again_when_told_to():
    x = leaf([-1.2, 1.0])
    closure = tw.Objective.of(problems.ROSENBROCK.fn).closure(x)
    optimizer = NonlinearCG([x], restart=3)
    weights = []
    for _ in range(9):
        optimizer.step(closure)
        weights.append(optimizer.memory["beta"])
    assert weights[2] == weights[5] == weights[8] == 0.0
    assert weights[0] != 0.0


def test_fletcher_and_reeves_need_a_search_that_is_close():
    with pytest.raises(ValueError, match=r"curvature must be below 0\.5"):
        NonlinearCG([leaf([1.0])], rule="fletcher-reeves", curvature=0.9)
