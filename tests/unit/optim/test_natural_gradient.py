"""The natural gradient against dense solves, and what makes it natural: the same for any basis."""

from __future__ import annotations

import copy
import io
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, EmpiricalFisher, Fisher
from thalweg.optim import NaturalGradient, NaturalOptions


def network(*extra) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3), *extra).double()


def batch(rows=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=g, dtype=torch.float64)
    return x, torch.randint(0, 3, (rows,), generator=g)


def closure_of(model, rows=4, seed=0):
    return Objective(model, F.cross_entropy).closure(*batch(rows, seed))


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


MATRICES = {
    "exact": GGN,
    "monte-carlo": lambda c: Fisher(c, 1, seed=5),
    "empirical": EmpiricalFisher,
}


@pytest.mark.parametrize("fisher", MATRICES)
@pytest.mark.parametrize("solver", ["samples", "cg"])
def test_a_step_is_the_dense_solve(fisher, solver):
    model = network()
    closure = closure_of(model)
    matrix = MATRICES[fisher](closure).to_dense()
    gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
    d = torch.linalg.solve(matrix + 0.01 * torch.eye(len(matrix), dtype=torch.float64), gradient)
    expected = flat(model) - 0.02 * d  # so short that nothing shortens it
    options = NaturalOptions(solver=solver, progress=0.0, iterations=200, seed=5)
    optimizer = NaturalGradient(model.parameters(), 0.02, 0.01, 0.0, fisher, options)
    optimizer.step(closure)
    torch.testing.assert_close(flat(model), expected, rtol=1e-8, atol=1e-10)
    exact = GGN(closure_of(network())).to_dense()  # of predictions, whatever the labels
    assert optimizer.info.details["kl"] == pytest.approx(float(2e-4 * d @ exact @ d), rel=1e-6)
    assert ("rows" in optimizer.info.details) == (solver == "samples")


def test_groups_have_dampings_and_rates_of_their_own():
    model = network()
    closure = closure_of(model)
    head = list(model[2].parameters())
    groups = [{"params": model[0].parameters()}, {"params": head, "damping": 0.5, "lr": 0.1}]
    damping = torch.tensor([0.01] * 20 + [0.5] * 18, dtype=torch.float64)
    rate = torch.tensor([1.0] * 20 + [0.1] * 18, dtype=torch.float64)
    gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
    d = torch.linalg.solve(GGN(closure).to_dense() + torch.diag(damping), gradient)
    expected = flat(model) - rate * d
    NaturalGradient(groups, 1.0, damping=0.01, radius=0.0).step(closure)
    torch.testing.assert_close(flat(model), expected, rtol=1e-8, atol=1e-10)


def test_few_samples_are_solved_exactly_and_many_by_products():
    model = network()
    optimizer = NaturalGradient(model.parameters())
    optimizer.step(closure_of(model, rows=4))
    assert optimizer.info.details["rows"] == 12
    optimizer.step(closure_of(model, rows=40))
    assert optimizer.info.details["products"] > 0


def test_samples_that_see_each_other_are_solved_by_products():
    model = network(nn.BatchNorm1d(3))
    optimizer = NaturalGradient(model.parameters())
    optimizer.step(closure_of(model))
    assert "products" in optimizer.info.details
    options = NaturalOptions(solver="samples")
    with pytest.raises(ValueError, match="taken apart"):
        NaturalGradient(model.parameters(), options=options).step(closure_of(model))


def test_batches_add_up():
    first, second = network(), network()
    x, y = batch(6)
    parts = [(x[:2], y[:2]), (x[2:], y[2:])]
    NaturalGradient(first.parameters()).step(Objective(first, F.cross_entropy).over(parts))
    NaturalGradient(second.parameters()).step(closure_of(second, 6))
    torch.testing.assert_close(flat(first), flat(second))


def test_the_trust_region_bounds_the_divergence_of_predictions():
    model = network()
    closure = closure_of(model, 40)
    before = model(batch(40)[0]).detach().log_softmax(1)
    optimizer = NaturalGradient(model.parameters(), 1.0, radius=1e-6)
    optimizer.step(closure)
    after = model(batch(40)[0]).detach().log_softmax(1)
    divergence = float((before.exp() * (before - after)).sum(1).mean())
    assert optimizer.info.details["kl"] == pytest.approx(1e-6)
    assert divergence == pytest.approx(1e-6, rel=0.05)
    assert (optimizer.info.step_length or 1.0) < 1.0


def test_on_a_linear_softmax_model_it_is_newtons_step():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3).double()
    closure = closure_of(layer, 30)
    gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
    theta = torch.cat([p.detach().reshape(-1) for p in layer.parameters()])

    def loss(v):
        x, y = batch(30)
        return F.cross_entropy(x @ v[:9].view(3, 3).T + v[9:], y)

    hessian = torch.autograd.functional.hessian(loss, theta)
    eye = torch.eye(12, dtype=torch.float64)
    expected = theta - torch.linalg.solve(hessian + 1e-6 * eye, gradient)
    options = NaturalOptions(solver="cg", progress=0.0, iterations=200)
    NaturalGradient(layer.parameters(), 1.0, damping=1e-6, radius=0.0, options=options).step(
        closure
    )
    torch.testing.assert_close(flat(layer), expected, rtol=1e-5, atol=1e-6)


class Rescaled(nn.Module):
    """The same functions with other coordinates: W = V S."""

    def __init__(self, layer, scale):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(layer.weight.detach() / scale)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale)


@pytest.mark.parametrize("natural", [True, False])
def test_a_small_step_does_not_depend_on_the_coordinates(natural):
    torch.manual_seed(0)
    plain = nn.Linear(3, 3, bias=False).double()
    scale = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    other = Rescaled(plain, scale)
    x = batch(30)[0]
    start, moves = plain(x).detach(), []
    for model in (plain, other):
        rate = 1e-3
        if natural:
            # What no data tells apart (a shift of all logits) keeps the damping small, not zero.
            options = NaturalOptions(solver="cg", progress=0.0, iterations=500)
            optimizer = NaturalGradient(model.parameters(), rate, 1e-9, 0.0, options=options)
        else:
            optimizer = torch.optim.SGD(model.parameters(), rate)
        optimizer.step(closure_of(model, 30))
        moves.append((model(x).detach() - start).log_softmax(1))
    gap = (moves[0] - moves[1]).norm() / (moves[0] - moves[0].mean()).norm()
    assert (gap < 1e-4) == natural


def test_frozen_and_foreign_parameters_stay():
    model = network()
    model[0].weight.requires_grad_(False)
    kept, bias = model[0].weight.clone(), model[0].bias.detach().clone()
    NaturalGradient(model[2].parameters()).step(closure_of(model))
    assert torch.equal(model[0].weight, kept)
    assert torch.equal(model[0].bias, bias)


@pytest.mark.parametrize("solver", ["cg", "samples"])
def test_a_checkpoint_resumes_exactly(solver):
    def made(model):
        options = NaturalOptions(solver=solver, iterations=4)
        return NaturalGradient(model.parameters(), 0.3, fisher="monte-carlo", options=options)

    whole, model = network(), network()
    one, first = made(whole), made(model)
    for seed in range(6):
        one.step(closure_of(whole, 12, seed))
        if seed < 3:
            first.step(closure_of(model, 12, seed))
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    resumed = copy.deepcopy(model)
    second = made(resumed)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for seed in range(3, 6):
        second.step(closure_of(resumed, 12, seed))
    assert torch.equal(flat(resumed), flat(whole))


@pytest.mark.parametrize("fisher", MATRICES)
def test_large_steps_are_safe(fisher):
    model = network()
    # Undamped, these steps move predictions by hundreds of times the radius.
    optimizer = NaturalGradient(model.parameters(), 1.0, 0.001, 0.1, fisher)
    x, losses = batch(30)[0], []
    for _ in range(40):
        before = model(x).detach().log_softmax(1)
        losses.append(float(optimizer.step(closure_of(model, 30))))
        after = model(x).detach().log_softmax(1)
        divergence = float((before.exp() * (before - after)).sum(1).mean())
        assert divergence <= 0.1501
        if divergence > 1e-6:
            assert optimizer.info.details["divergence"] == pytest.approx(divergence, rel=1e-3)
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]


def test_a_step_that_nothing_saves_is_refused():
    model = network()
    closure = closure_of(model, 30)
    optimizer = NaturalGradient(model.parameters(), 1.0, 0.5)
    before = flat(model)

    def uphill(p):
        p.grad.neg_()

    for p in model.parameters():  # so that no length lowers the loss
        p.register_post_accumulate_grad_hook(uphill)
    optimizer.step(closure)
    assert optimizer.info.rejected
    assert torch.equal(flat(model), before)
    optimizer.step(closure)
    assert optimizer.info.details["damping"] == 2.0


def test_the_damping_rises_where_the_model_is_wrong_and_comes_back():
    model = network()
    optimizer = NaturalGradient(model.parameters(), 1.0, 0.001, 0.1)
    used = []
    for _ in range(30):
        optimizer.step(closure_of(model, 30))
        used.append(optimizer.info.details["damping"])
    assert max(used) > 2 * used[0] == 0.002
    assert used[-1] < max(used)
    assert min(used) == 0.001
    assert optimizer.param_groups[0]["damping"] == 0.001


def test_on_squared_error_the_model_is_right():
    model = nn.Linear(3, 1).double()
    x = batch(20)[0]
    closure = Objective(model, F.mse_loss).closure(x, x[:, :1].sin())
    optimizer = NaturalGradient(model.parameters(), 0.5, 0.1, 0.0)
    optimizer.step(closure)
    assert optimizer.info.details["ratio"] == pytest.approx(1.0)


def test_conjugate_gradients_stop_where_the_model_no_longer_gains():
    products = []
    for progress in (5e-4, 0.0):
        model = network()
        options = NaturalOptions(solver="cg", progress=progress, iterations=200)
        optimizer = NaturalGradient(model.parameters(), damping=0.1, options=options)
        optimizer.step(closure_of(model, 30))
        products.append(optimizer.info.details["products"])
    assert products[0] < products[1]


def test_a_plain_closure_is_refused():
    model = network()
    with pytest.raises(TypeError, match=r"objective\.closure"):
        NaturalGradient(model.parameters()).step(lambda: model(batch()[0]).sum())


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"damping": 0.0}, {"fisher": "full"}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        NaturalGradient(network().parameters(), **options)
