"""Condition numbers are exact, minima are where they are said to be."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from thalweg.problems import linear, load, logistic
from thalweg.problems.losses import bernoulli_divergence, half_square


def solved(problem):
    """The solution by least squares on the logits or the targets, and the Hessian there."""
    x, y = problem.data.train
    exact = torch.logit(y) if problem.loss is bernoulli_divergence else y
    solution = torch.linalg.lstsq(x, exact).solution

    def loss(weights):
        return problem.loss(x @ weights[:, None], y)

    return solution.flatten(), torch.autograd.functional.hessian(loss, solution.flatten())


@pytest.mark.parametrize("condition", [1.0, 37.0, 1e4, 1e6])
@pytest.mark.parametrize("make", [linear, logistic])
def test_the_hessian_at_the_minimum_has_the_stated_eigenvalues(make, condition):
    _, hessian = solved(make(condition))
    found = torch.linalg.eigvalsh(hessian).flip(0).numpy()
    expected = condition ** -np.linspace(0, 1, 50)
    np.testing.assert_allclose(found, expected, rtol=1e-8 * condition**0.5)


@pytest.mark.parametrize("make", [linear, logistic])
def test_the_minimum_has_loss_zero_on_every_split(make):
    problem = make(1e3)
    solution, _ = solved(problem)
    model = problem.build(0)
    with torch.no_grad():
        model.weight.copy_(solution)
    for split in ("train", "validation", "test"):
        assert abs(problem.evaluate(model, split)["loss"]) < 1e-14
    gradient = torch.autograd.functional.jacobian(
        lambda w: problem.loss(problem.data.train[0] @ w[:, None], problem.data.train[1]), solution
    )
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("make", [linear, logistic])
def test_every_eigenvector_has_the_same_share(make):
    solution, hessian = solved(make(1e4))
    values, vectors = torch.linalg.eigh(hessian)
    shares = (values * (vectors.T @ solution) ** 2).numpy()
    np.testing.assert_allclose(shares, shares.mean(), rtol=1e-6)


def test_held_out_inputs_come_from_the_same_distribution():
    data = linear(1e4).data
    x, fresh = data.train[0], torch.cat([data.validation[0], data.test[0]])
    second = x.T @ x / len(x)
    values, vectors = torch.linalg.eigh(second)
    along = (fresh @ vectors).square().mean(0) / values
    assert ((along - 1).abs() < 5 * (2 / len(fresh)) ** 0.5).all()


def test_the_divergence_is_that_of_scipy_and_never_negative():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 1, generator=draws, dtype=torch.float64)
    targets = torch.rand(40, 1, generator=draws, dtype=torch.float64)
    p, q = targets.numpy(), logits.sigmoid().numpy()
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()
    assert bernoulli_divergence(logits, targets).item() == pytest.approx(expected, rel=1e-10)
    assert half_square(logits, targets).item() == pytest.approx(
        0.5 * ((logits - targets) ** 2).mean().item()
    )


def test_gradient_descent_contracts_by_the_known_factor_and_newton_ends_at_once():
    problem = linear(100.0)
    solution, hessian = solved(problem)
    x, y = problem.data.train
    weights = torch.zeros(50, dtype=torch.float64)
    rate = 2 / (1 + 1 / 100.0)  # the best constant rate: 2 / (largest + smallest)
    for _ in range(50):
        weights = weights - rate * (x.T @ (x @ weights[:, None] - y)).flatten() / len(x)
    factor = ((100 - 1) / (100 + 1)) ** 50
    _, vectors = torch.linalg.eigh(hessian)
    left = ((solution - weights) @ vectors) / (solution @ vectors)
    assert left[0].item() == pytest.approx(factor, rel=1e-6)  # the flattest direction, and
    assert left[-1].item() == pytest.approx(factor, rel=1e-6)  # the steepest, which alternates
    assert left[1:-1].abs().max() < factor
    step = torch.linalg.solve(hessian, (x.T @ y).flatten() / len(x))
    torch.testing.assert_close(step, solution)


@pytest.mark.parametrize("make", [linear, logistic])
@pytest.mark.parametrize("condition", [0.5, float("nan"), "ten", 1e20])
def test_condition_numbers_out_of_range(make, condition):
    with pytest.raises(ValueError, match=r"condition must be a number in \[1, 1e12\]"):
        make(condition)


def test_names_say_the_condition_number():
    assert [linear(c).name for c in (10.0, 1e3, 1e4, 250.0, 1e6)] == [
        "linear-10",
        "linear-1e3",
        "linear-1e4",
        "linear-250",
        "linear-1e6",
    ]
    assert load("logistic-1e4").name == "logistic-1e4"
    assert linear(1e3).fingerprint != linear(1e4).fingerprint
