"""Newton's method: its step, its rate, its way out of saddles, and units that do not matter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import thalweg as tw
from thalweg.numerics.quadratic_model import diagonal_scale
from thalweg.optim import Newton, SaddleFreeNewton, TrustRegionNewton
from unit.optim.second_order_steps import matrix, run, tensor


HOW = ["eigen", "cholesky"]
ROSENBROCK = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2  # noqa: E731


def hessian_of(fn, x):
    return torch.autograd.functional.hessian(fn, x)


# ---- the step ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_step_lands_on_the_minimum_of_a_positive_quadratic(how, seed):
    A, target = matrix(np.geomspace(1e-3, 1e3, 9), seed), torch.linspace(-2, 2, 9).double()
    x = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    optimizer = Newton([x], modification=how)
    run(optimizer, lambda x: 0.5 * (x - target) @ A @ (x - target) + 7, x, 1)
    torch.testing.assert_close(x.detach(), target, rtol=0, atol=1e-9)
    assert optimizer.info.details["alpha"] == 1.0
    assert optimizer.info.details["predicted"] == pytest.approx(float(0.5 * target @ A @ target))


@pytest.mark.parametrize("how", HOW)
def test_one_step_is_enough_however_ill_conditioned_the_quadratic_is(how):
    A, target = matrix(np.geomspace(1e-11, 1, 9)), torch.linspace(-2, 2, 9).double()
    x = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    optimizer = Newton([x], modification=how)
    run(optimizer, lambda x: 0.5 * (x - target) @ A @ (x - target), x, 1)
    torch.testing.assert_close(x.detach(), target, rtol=0, atol=1e-3)


@pytest.mark.parametrize("how", HOW)
def test_correct_digits_double_at_each_step(how):
    """F = sum exp(x_i) - x_i + x_i^2 / 2 + (x_0 x_1)^2 / 4: its minimum is 0, where f''' is not."""
    x = tensor(0.3, -0.4, 0.5).requires_grad_()
    path = run(
        Newton([x], modification=how),
        lambda x: (x.exp() - x + x**2 / 2).sum() + (x[0] * x[1]) ** 2 / 4,
        x,
        6,
    )
    errors = [float(p.norm()) for p in path]
    falling = [e for e in errors if e > 1e-7]
    assert len(falling) >= 3
    for before, after in itertools.pairwise(errors):
        assert after <= 0.5 * before**2 + 1e-15
    assert errors[-1] < 1e-14


@pytest.mark.parametrize("how", HOW)
def test_the_step_where_the_hessian_is_indefinite(how):
    """Against a transcription with numpy: scaled, decomposed or shifted, and led aside."""
    H, g = matrix([-3.0, 0.5, 2.0, 9.0], seed=3).numpy(), np.array([0.3, -1.0, 2.0, 0.7])
    x = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def fn(x):  # what the model leaves out is small where the step goes
        return torch.from_numpy(g) @ x + 0.5 * x @ torch.from_numpy(H) @ x + (x**4).sum() / 50

    optimizer = Newton([x], modification=how)
    (_, after) = run(optimizer, fn, x, 1)
    D = np.sqrt(np.abs(np.diag(H)))
    values, vectors = np.linalg.eigh(H / D / D[:, None])
    if how == "eigen":
        c = vectors.T @ (g / D)
        p = -c / np.abs(values)
        p[0] = -np.sign(c[0]) * max(abs(p[0]), 0.1 * np.linalg.norm(p))
        expected = vectors @ p / D
    else:
        tau = optimizer.info.details["shift"]
        assert tau > -values[0]
        B = H + tau * np.diag(D**2)
        expected = -np.linalg.solve(B, g)
        v = vectors[:, 0] / D
        expected -= 0.1 * np.linalg.norm(D * expected) * np.sign(g @ v) * v
    step = after.numpy() / optimizer.info.details["alpha"]
    np.testing.assert_allclose(step, expected, rtol=1e-6)


def test_of_the_shifts_the_first_that_works_is_taken():
    H = matrix([-3.0, 0.5, 2.0, 9.0], seed=3)
    x = tensor(0.1, 0.2, -0.1, 0.4).requires_grad_()
    optimizer = Newton([x], modification="cholesky")
    run(optimizer, lambda x: x @ H @ x / 2, x, 1)
    D = H.diagonal().abs().sqrt()
    scaled = H / D / D[:, None]
    shift, first = optimizer.info.details["shift"], 1e-3 - min(0.0, float(scaled.diagonal().min()))
    low = float(torch.linalg.eigvalsh(scaled)[0])
    assert shift > -low
    assert shift == pytest.approx(first) or shift / 10 <= -low


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("start", [(0.5, 0.0), (0.5, 1e-9), (0.0, 0.0)])
def test_escapes_a_saddle(how, start):
    """Minima at (0, +-1); the stable manifold, beside it, and the saddle itself."""
    x = tensor(*start).requires_grad_()
    path = run(
        Newton([x], modification=how), lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2, x, 40
    )
    torch.testing.assert_close(path[-1].abs(), tensor(0.0, 1.0), rtol=0, atol=1e-7)


@pytest.mark.parametrize("how", HOW)
def test_a_step_that_is_too_long_is_shortened(how):
    """F = sqrt(1 + x^2): from 2, Newton's whole step goes to -8, where f is larger."""
    x = tensor(2.0).requires_grad_()
    optimizer = Newton([x], modification=how)
    run(optimizer, lambda x: (1 + x**2).sqrt().sum(), x, 1)
    assert 0 < optimizer.info.details["alpha"] < 1
    assert abs(x.item()) < 2
    run(optimizer, lambda x: (1 + x**2).sqrt().sum(), x, 12)
    assert abs(x.item()) < 1e-9


def test_a_flat_direction_is_not_followed_to_infinity():
    x = tensor(1.0, 1.0).requires_grad_()
    path = run(Newton([x]), lambda x: x[0] ** 2 + 1e-30 * x[1], x, 3)
    assert path[-1].isfinite().all()
    assert abs(x[0].item()) < 1e-12


# ---- units ------------------------------------------------------------------------------------

METHODS = {
    "eigen": lambda p: Newton(p),
    "cholesky": lambda p: Newton(p, modification="cholesky"),
    "trust region": lambda p: TrustRegionNewton(p, scale="diagonal"),
}
STARTS = {"indefinite": (0.6, -0.5, 0.3), "saddle": (0.0, 0.0, 0.0), "ridge": (0.4, 0.0, 0.0)}


def wells(x):
    """A saddle at 0 with two ways down, the same at -x."""
    quadratic = x[0] ** 2 - x[1] ** 2 - 0.3 * x[2] ** 2 + 0.5 * x[0] * x[1] + 0.4 * x[1] * x[2]
    return quadratic + (x**4).sum() - 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("units", [(1e-7, 1.0, 1e7), (1e9, 1e-9, 1.0), (1e-3, 1e3, 10.0)])
def test_units_of_parameters_do_not_change_the_path(method, start, units):
    paths, sizes = [], []
    for scale in (torch.ones(3, dtype=torch.float64), tensor(*units)):
        x = (tensor(*STARTS[start]) / scale).requires_grad_()
        path = run(METHODS[method]([x]), lambda x, s=scale: wells(s * x), x, 6)
        paths.append([p * scale for p in path])
        sizes.append(float(wells(paths[-1][-1])))
    side = torch.sign(paths[0][1] @ paths[1][1])  # an eigenvector's sign is nobody's
    assert side == 1 or start == "saddle"
    for one, other in zip(*paths, strict=True):
        torch.testing.assert_close(one, side * other, rtol=1e-6, atol=1e-7)
    assert sizes[0] < float(wells(tensor(*STARTS[start]))) - 0.1


@pytest.mark.parametrize("method", METHODS)
def test_units_of_the_function_do_not_change_the_way_out_of_a_saddle(method):
    paths = []
    for factor in (1.0, 2.0**40):
        x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        paths.append(run(METHODS[method]([x]), lambda x, c=factor: c * wells(x), x, 3))
    side = torch.sign(paths[0][1] @ paths[1][1])  # an eigenvector's sign is nobody's
    torch.testing.assert_close(paths[0], [side * x for x in paths[1]], rtol=1e-7, atol=1e-9)
    assert paths[0][1].any()


@pytest.mark.parametrize("name", ["Newton", "SaddleFreeNewton", "NewtonCG", "NewtonLanczos"])
@pytest.mark.parametrize("off", [1e-9, 1e-11, 1e-15])
def test_a_saddle_near_the_origin_is_left_though_the_parameters_have_no_length(name, off):
    """F = (1 - ab)^2 / 2: where a and b are so small, f does not show a step of their length."""
    x = tensor(off, off).requires_grad_()
    path = run(getattr(tw.optim, name)([x]), lambda x: 0.5 * (1 - x.prod()) ** 2, x, 40)
    assert float(path[-1].prod()) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("units", [(1.0, 1e12, 1e-12), (1e-9, 1e9, 1e9)])
@pytest.mark.parametrize(
    "H",
    [
        [[4.0, 1.0, 2.0], [1.0, -9.0, 0.5], [2.0, 0.5, 1.0]],
        [[0.0, 1.0, 2.0], [1.0, -9.0, 0.5], [2.0, 0.5, 1.0]],
        [[1e-20, 1.0, 2.0], [1.0, -9.0, 0.5], [2.0, 0.5, 1.0]],
    ],
    ids=["full", "zero", "drowned"],
)
def test_the_scale_has_the_inverse_units(H, units):
    H, s = tensor(*H), tensor(*units)
    if H[0, 0] == 1e-20:  # which of a pair is drowned is known by its units alone
        s = s[[0, 0, 0]]
    torch.testing.assert_close(diagonal_scale(s[:, None] * H * s), s * diagonal_scale(H))
    D = diagonal_scale(H)
    assert D[1:].tolist() == [3.0, 1.0]
    assert D[0] == 2.0  # by the diagonal, or by the entry beside the one of 1
    assert (H.abs() <= D[:, None] * D * 4).all()


def test_the_scale_of_entries_without_a_diagonal_of_their_own():
    assert diagonal_scale(tensor([0.0, 9.0], [9.0, 0.0])).tolist() == [3.0, 3.0]
    assert diagonal_scale(tensor([0.0, 0.0], [0.0, 0.0])).tolist() == [1.0, 1.0]
    assert diagonal_scale(torch.zeros(0, 0)).tolist() == []
    mixed = tensor([0.0, 9.0, 0.0], [9.0, 0.0, 2.0], [0.0, 2.0, 1.0])
    assert diagonal_scale(mixed).tolist() == [3.0, 2.0, 1.0]


def test_saddle_free_newton_leaves_alone_what_nothing_uses():
    x = torch.linspace(-1, 1, 12).double().requires_grad_()
    before = x.detach().clone()

    def fn(x):  # a saddle in the even entries; the odd ones are not used
        even = x[::2]
        return (even[:3] ** 2).sum() - (even[3:] ** 2).sum() + (even**4).sum()

    run(SaddleFreeNewton([x], dense=0, krylov=6), fn, x, 15)
    assert torch.equal(x.detach()[1::2], before[1::2])
    torch.testing.assert_close(
        x.detach()[::2].abs(), tensor(0, 0, 0, *[math.sqrt(0.5)] * 3), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("method", ["NewtonLanczos", "NewtonCG", "TrustRegionNewtonCG"])
def test_the_way_out_of_a_saddle_leaves_alone_what_nothing_uses(method):
    x = torch.zeros(40, dtype=torch.float64, requires_grad=True)
    run(
        getattr(tw.optim, method)([x]),
        lambda x: (torch.linspace(-1, 2, 20).double() * x[::2] ** 2 + x[::2] ** 4).sum(),
        x,
        2,
    )
    assert x.detach()[::2].any()
    assert not x.detach()[1::2].any()
