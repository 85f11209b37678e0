"""BFGS and L-BFGS against dense formulas, conjugate gradients, scipy and torch's L-BFGS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

import thalweg as tw
from thalweg import problems
from thalweg.optim import BFGS, LBFGS, ConjugateGradient
from thalweg.optim.bfgs import _damped, _updated


CLASSICAL = [problems.ROSENBROCK, problems.BEALE, problems.HIMMELBLAU, problems.BOOTH]


def walk(optimizer, closure, x, steps, gtol=0.0):
    path = [x.detach().clone()]
    for _ in range(steps):
        optimizer.step(closure)
        if optimizer.info.outcome != "moved":
            break
        path.append(x.detach().clone())
        if float(x.grad.abs().max()) <= gtol:
            break
    return torch.stack(path)


def leaf(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def bowl(n=6, condition=100.0, seed=3):
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    values = torch.logspace(0, float(np.log10(condition)), n, dtype=torch.float64)
    matrix = turn @ torch.diag(values) @ turn.T
    return matrix, lambda x: 0.5 * (x - 1) @ matrix @ (x - 1)


# ---- the matrices ---------------------------------------------------------------------------
def test_the_update_is_the_product_form():
    matrix, _ = bowl()
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(6, generator=generator, dtype=torch.float64)
    y, eye = matrix @ s, torch.eye(6, dtype=torch.float64)
    before = 0.2 * eye + 0.1
    after = _updated(before, s, y, float(s.dot(y)))
    left = eye - torch.outer(s, y) / s.dot(y)
    torch.testing.assert_close(after, left @ before @ left.T + torch.outer(s, s) / s.dot(y))
    torch.testing.assert_close(after @ y, s)
    assert torch.equal(after, after.T)


def test_lbfgs_goes_where_dense_bfgs_of_the_same_pairs_goes():
    x = leaf([-1.2, 1.0, 0.5, 2.0])

    def fn(x):
        return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()

    closure, optimizer = tw.Objective.of(fn).closure(x), LBFGS([x], memory=3, scaling="last")
    eye, pairs = torch.eye(4, dtype=torch.float64), []
    for _ in range(9):
        _, g = closure.value_and_grad(x.detach())
        before, grad = x.detach().clone(), g[0].clone()
        optimizer.step(closure)
        s = x.detach() - before
        if pairs:
            inverse = (pairs[-1][0].dot(pairs[-1][1]) / pairs[-1][1].square().sum()) * eye
            for a, b in pairs:
                left = eye - torch.outer(a, b) / a.dot(b)
                inverse = left @ inverse @ left.T + torch.outer(a, a) / a.dot(b)
            expected = -optimizer.info.step_length * (inverse @ grad)
            torch.testing.assert_close(s, expected, rtol=1e-6, atol=1e-10)
        pairs = [*pairs, (s, x.grad - grad)][-3:]


def test_with_memory_for_all_lbfgs_is_bfgs():
    paths = []
    for make in (BFGS, lambda p: LBFGS(p, memory=50, scaling="first")):
        x = leaf([-1.2, 1.0])
        closure = tw.Objective.of(problems.ROSENBROCK.fn).closure(x)
        paths.append(walk(make([x]), closure, x, 20))
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("condition", [10.0, 1e3])
def test_with_exact_searches_bfgs_ends_in_n_steps_and_is_conjugate_gradients(condition):
    matrix, fn = bowl(5, condition)
    exact = {"curvature": 1e-9, "decrease": 1e-10}
    paths = []
    for make in (lambda p: BFGS(p, **exact), ConjugateGradient):
        x = leaf([2.0, -1.0, 0.0, 3.0, 0.5])
        paths.append(walk(make([x]), tw.Objective.of(fn).closure(x), x, 5))
    start = (paths[0][0] - 1).norm()
    assert len(paths[0]) == len(paths[1]) == 6
    assert (paths[0] - paths[1]).norm() < 1e-6 * start
    assert (paths[0][-1] - 1).norm() < 1e-9 * condition * start
    del matrix


def test_the_matrix_becomes_the_inverse_hessian_of_a_quadratic():
    matrix, fn = bowl(4, 50.0)
    x = leaf([2.0, -1.0, 0.0, 3.0])
    optimizer = BFGS([x], curvature=1e-9, decrease=1e-10)
    walk(optimizer, tw.Objective.of(fn).closure(x), x, 4)
    torch.testing.assert_close(
        optimizer.memory["inverse"], torch.linalg.inv(matrix), rtol=1e-5, atol=1e-7
    )


def test_damping_leaves_a_fifth_of_the_models_curvature():
    s = torch.tensor([1.0, 2.0], dtype=torch.float64)
    before = -torch.tensor([3.0, 1.0], dtype=torch.float64)  # B s = -alpha g
    image = -0.5 * before
    bad = -torch.tensor([1.0, 1.0], dtype=torch.float64)
    mended = _damped(s, bad, before, 0.5)
    assert s.dot(mended) == pytest.approx(0.2 * float(s.dot(image)))
    good = image.clone()
    assert _damped(s, good, before, 0.5) is good


# ---- against others -------------------------------------------------------------------------
def scipys(function, start, method):
    counts = []

    def both(z):
        counts.append(1)
        x = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        value = function(x)
        (grad,) = torch.autograd.grad(value, x)
        return float(value.detach()), grad.numpy()

    options = {"gtol": 1e-8} if method == "BFGS" else {"gtol": 1e-8, "ftol": 0.0}
    found = optimize.minimize(both, start, jac=True, method=method, options=options)
    return found.fun, len(counts)


def ours(make, function, start):
    x = leaf(start)
    closure, optimizer = tw.Objective.of(function).closure(x), make([x])
    walk(optimizer, closure, x, 400, gtol=1e-8)
    return closure.value().item(), optimizer.counts.nfev


@pytest.mark.parametrize(("make", "method"), [(BFGS, "BFGS"), (LBFGS, "L-BFGS-B")])
def test_as_low_as_scipy_with_comparable_evaluations(make, method):
    mine = theirs = 0
    for function in CLASSICAL:
        value, count = ours(make, function.fn, list(function.start))
        low, evaluations = scipys(function.fn, function.start, method)
        assert value <= low + 1e-12, function.name
        mine, theirs = mine + count, theirs + evaluations
    assert mine <= 1.5 * theirs  # five of them for the short first trial, which grows


def extended_rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


@pytest.mark.parametrize("n", [10, 40])
def test_fewer_evaluations_than_torchs_lbfgs(n):
    start = [-1.2, 1.0] * (n // 2)
    value, count = ours(lambda p: LBFGS(p, memory=10), extended_rosenbrock, start)
    x, calls = leaf(start), []
    optimizer = torch.optim.LBFGS(
        [x], max_iter=2000, max_eval=5000, history_size=10, tolerance_grad=1e-8,
        tolerance_change=0.0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = extended_rosenbrock(x)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert value < 1e-12
    assert count < 1.1 * len(calls)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_minima_near_zero_are_found_whatever_the_scale(make, scale):
    # Absolute thresholds on curvature or decrease end such runs at once.
    x = leaf([-1.2, 1.0])
    closure = tw.Objective.of(lambda x: scale * problems.ROSENBROCK.fn(x)).closure(x)
    walk(make([x]), closure, x, 60)
    assert (x.detach() - 1).abs().max() < 1e-8


@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_slopes_go_on_where_values_are_rounding(make):
    # The values are 1e6 and their differences are lost at errors of 1e-5; the gradient's are not.
    matrix, fn = bowl(6, 100.0)
    x = leaf([2.0, -1.0, 0.0, 3.0, 0.5, 1.5])
    closure = tw.Objective.of(lambda x: 1e6 + fn(x)).closure(x)
    walk(make([x]), closure, x, 200)
    assert (matrix @ (x.detach() - 1)).norm() < 1e-10


@pytest.mark.parametrize("search", ["more-thuente", "hager-zhang", "armijo"])
@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_every_search_gets_there(make, search):
    for function in CLASSICAL:
        low = min(value for _, value in function.minima)
        value, _ = ours(lambda p: make(p, line_search=search), function.fn, list(function.start))
        assert value <= low + 1e-12, function.name


def test_pairs_are_never_of_two_closures():
    # Two batches with gradients far apart: a pair of both would have no curvature.
    x = leaf([0.0, 0.0])
    matrix, _ = bowl(2, 10.0)
    closures = [
        tw.Objective.of(lambda x, c=c: 0.5 * (x - c) @ matrix @ (x - c)).closure(x)
        for c in (-5.0, 5.0)
    ]
    optimizer = LBFGS([x], memory=5)
    for t in range(8):
        optimizer.step(closures[t % 2])
        for slot in optimizer.memory["order"]:
            s, y = optimizer.memory["rows"][:, slot]
            torch.testing.assert_close(y, matrix @ s, rtol=1e-6, atol=1e-9)


def test_decrease_must_be_below_curvature():
    for make in (BFGS, LBFGS):
        with pytest.raises(ValueError, match=r"decrease must be below curvature, 0\.3"):
            make([leaf([1.0])], decrease=0.5, curvature=0.3)
