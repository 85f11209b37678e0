"""AdaHessian against the paper, the dense Hessian, and what goes wrong elsewhere."""

from __future__ import annotations

import gc
import io
import weakref

import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.errors import NonFiniteError
from thalweg.optim import AdaHessian
from thalweg.optim.adahessian import spatial_mean
from thalweg.optim.diagonal_curvature import hutchinson, random_signs


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def convolutions():
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3, bias=False)
    ).double()
    return model, torch.randn(5, 1, 4, 4).double(), torch.tensor([0, 1, 2, 0, 1])


def dense(model, x, y):
    """The Hessian of the cross-entropy, a row for each entry of the gradient."""
    params = list(model.parameters())
    loss = nn.functional.cross_entropy(model(x), y)
    gradient = torch.autograd.grad(loss, params, create_graph=True)
    entries = torch.cat([g.flatten() for g in gradient])
    rows = [flat(torch.autograd.grad(e, params, retain_graph=True)) for e in entries]
    return torch.stack(rows), entries.detach()


def closure_of(model, x, y):
    return tw.Objective(model, nn.functional.cross_entropy).closure(x, y)


def function(fn, *start, dtype=torch.float64):
    x = torch.tensor(start, dtype=dtype, requires_grad=True)
    return x, tw.Objective.of(fn).closure(x)


# ---- the estimate ----------------------------------------------------------------------------
def test_hutchinsons_mean_is_the_diagonal_of_the_dense_hessian():
    model, x, y = convolutions()
    diagonal = dense(model, x, y)[0].diagonal()
    closure, params = closure_of(model, x, y), list(model.parameters())

    def call(given):
        with torch.enable_grad():
            return given()

    samples = torch.stack(
        [flat(hutchinson("test", closure, params, call, seed)[1]) for seed in range(1000)]
    )
    standard_error = samples.std(0) / len(samples) ** 0.5
    deviation = (samples.mean(0) - diagonal).abs() / standard_error
    assert deviation.max() < 4
    assert deviation.mean() < 1.2
    assert (diagonal.abs() / standard_error).median() > 4  # so that zeros would not do


def test_signs_are_signs_and_the_same_everywhere():
    params = [torch.zeros(1000), torch.zeros(7, 9), torch.zeros(()), torch.zeros(0, 3)]
    signs = random_signs(params, 5)
    assert [s.shape for s in signs] == [p.shape for p in params]
    assert all(bool((s.abs() == 1).all()) for s in signs)
    assert abs(float(signs[0].sum())) < 130  # four deviations
    assert all(map(torch.equal, signs, random_signs([p.double().float() for p in params], 5)))
    assert torch.equal(signs[0].double(), random_signs([p.double() for p in params], 5)[0])
    assert not torch.equal(signs[0], random_signs(params, 6)[0])
    (z,) = random_signs([torch.zeros(500, dtype=torch.complex64)], 5)
    assert z.real.unique().tolist() == z.imag.unique().tolist() == [-1, 1]
    assert abs(float((z.real * z.imag).mean())) < 0.2


@pytest.mark.parametrize(
    ("shape", "block"), [((5,), 2), ((3, 5), 2), ((3, 4), 4), ((2, 3), 0), ((2, 3), 1)], ids=str
)
def test_means_over_blocks_of_vectors_and_matrices(shape, block):
    sample = torch.randn(shape, dtype=torch.float64)
    mean = spatial_mean(sample, block)
    for row, averaged in zip(
        sample.reshape(-1, shape[-1]), mean.reshape(-1, shape[-1]), strict=True
    ):
        for i in range(shape[-1]):
            first = i - i % max(block, 1)
            assert averaged[i] == pytest.approx(row[first : first + max(block, 1)].mean().item())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_means_over_the_kernels_of_convolutions_of_any_dimension(dims):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    weight = kind(2, 3, 2).double().weight.detach()
    mean = spatial_mean(weight, 1)
    assert mean.shape == weight.shape
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(
                mean[i, j], torch.full_like(weight[i, j], float(weight[i, j].mean()))
            )
    assert torch.equal(spatial_mean(weight, 0), weight)
    model = nn.Sequential(kind(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(4, 2, *[3] * dims)
    model(x)
    AdaHessian(model.parameters()).step(closure_of(model, x, torch.tensor([0, 1, 2, 0])))
    assert flat(model.parameters()).isfinite().all()


def test_ten_steps_are_the_papers_with_the_same_probes_on_a_convolution():
    model, x, y = convolutions()
    optimizer = AdaHessian(model.parameters(), lr=0.1, eps=1e-9, hessian_power=0.7, seed=11)
    closure, params = closure_of(model, x, y), list(model.parameters())
    theta = flat(params).clone()
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    for t in range(1, 11):
        hessian, g = dense(model, x, y)
        z = flat(random_signs(params, 11 + t - 1))
        d = z * (hessian @ z)
        kernels = d[:18].reshape(2, 1, 9).mean(2, keepdim=True).expand(2, 1, 9).reshape(-1)
        d = torch.cat([kernels, d[18:]])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * d * d
        denominator = (v / (1 - 0.999**t)).sqrt() ** 0.7
        theta = theta - 0.1 * (m / (1 - 0.9**t)) / denominator
        optimizer.step(closure)
        torch.testing.assert_close(flat(params), theta, rtol=1e-9, atol=1e-11)


# ---- three defects of other implementations --------------------------------------------------
def test_a_coordinate_without_curvature_makes_no_jump():
    # pytorch_optimizer 4.1 divides by 1e-16 here and lands at -1e12; the paper's code at -1.5.
    x, closure = function(lambda x: 0.5 * x[0] ** 2 + 1e-3 * x[1], 1.0, 0.0)
    optimizer = AdaHessian([x])
    optimizer.step(closure)
    assert x[0].item() == pytest.approx(1 - 0.15)
    assert -0.05 < x[1].item() < 0
    # Where no coordinate has any, the step is gradient descent's.
    x, closure = function(lambda x: 1e-3 * x.sum(), 0.0, 0.0)
    AdaHessian([x], lr=0.15).step(closure)
    torch.testing.assert_close(x.detach(), torch.full((2,), -0.15e-3).double())


def test_a_parameter_with_a_constant_gradient_is_no_error():
    # jettify's and pytorch_optimizer's raise "does not require grad" for the bias.
    model = nn.Linear(3, 1).double()
    x = torch.randn(6, 3).double()
    closure = tw.Objective(model, lambda z, _: z.mean() + 0 * z.square().sum()).closure(x, x)
    optimizer = AdaHessian(model.parameters())
    before = model.bias.item()
    optimizer.step(closure)
    assert not optimizer.state[model.bias]["exp_hessian_diag_sq"].any()
    assert model.bias.item() == pytest.approx(before - 0.15)
    mixed = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    closure = tw.Objective(mixed, lambda z, _: z.sum()).closure(x, x)
    optimizer = AdaHessian(mixed.parameters(), lr=0.01)
    optimizer.step(closure)
    assert not optimizer.state[mixed[2].bias]["exp_hessian_diag_sq"].any()
    assert optimizer.state[mixed[0].weight]["exp_hessian_diag_sq"].any()
    assert flat(mixed.parameters()).abs().max() < 100


@pytest.mark.parametrize("interval", [1, 3, 10])
def test_the_bias_is_corrected_by_samples_so_the_step_is_the_rate_at_any_interval(interval):
    # pytorch_optimizer 4.1 corrects by steps: at 10 its steps are 1, 2.23, 3.16, ... times lr.
    x, closure = function(lambda x: 50 * x[0] ** 2 + 0.5 * x[1] ** 2, 1.0, -2.0)
    optimizer = AdaHessian([x], lr=0.1, betas=(0.0, 0.999), interval=interval)
    for _ in range(35):
        before = x.detach().clone()
        optimizer.step(closure)
        torch.testing.assert_close(x.detach(), before * (1 - 0.1), rtol=1e-12, atol=0)


# ---- cost and memory -------------------------------------------------------------------------
@pytest.mark.parametrize(("interval", "products"), [(1, 20), (4, 5), (10, 2), (50, 1)])
def test_takes_a_product_each_interval_and_one_gradient_each_step(interval, products):
    model, x, y = convolutions()
    closure = closure_of(model, x, y)
    optimizer = AdaHessian(model.parameters(), interval=interval)
    for _ in range(20):
        optimizer.step(closure)
    ledger = closure.ledger
    assert (ledger.forward, ledger.backward, ledger.product) == (20, 20, products)


def test_keeps_two_tensors_for_each_parameter():
    model, x, y = convolutions()
    optimizer = AdaHessian(model.parameters())
    optimizer.step(closure_of(model, x, y))
    for p in model.parameters():
        held = [t for t in optimizer.state[p].values() if getattr(t, "shape", None) == p.shape]
        assert len(held) == 2


@pytest.mark.parametrize("ours", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::thalweg.optim.products.CurvatureFallbackWarning")
def test_two_thousand_steps_leave_no_tensor_behind_and_no_model(ours):
    model, (x, y) = nn.Linear(2, 1), (torch.randn(4, 2), torch.randn(4, 1))
    objective = tw.Objective(model, nn.functional.mse_loss)
    optimizer = AdaHessian(model.parameters(), lr=0.01)

    def torchs(model=model, optimizer=optimizer):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    def alive():
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    gc.collect()
    gc.disable()  # nothing may wait for the collector of cycles
    try:
        counts = []
        for steps in (20, 1980):
            for _ in range(steps):
                optimizer.step(objective.closure(x, y) if ours else torchs)
            counts.append(alive())
        assert counts[0] == counts[1]
        gone = weakref.ref(model)
        del model, objective, optimizer, torchs
        assert gone() is None or not ours
    finally:
        gc.enable()
    gc.collect()
    assert gone() is None


# ---- parameters of every kind ----------------------------------------------------------------
def test_a_parameter_thawed_between_looks_gets_its_own_look_and_count():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.randn(8, 3).double(), torch.randint(3, (8,))
    model[0].requires_grad_(False)
    optimizer = AdaHessian(model.parameters(), lr=0.05, interval=10)
    for _ in range(4):
        optimizer.step(closure_of(model, x, y))
    assert model[0].weight not in optimizer.state
    model[0].requires_grad_(True)
    optimizer.step(closure_of(model, x, y))
    late, early = optimizer.state[model[0].weight], optimizer.state[model[2].weight]
    assert (late["samples"], early["samples"]) == (1, 2)
    assert late["exp_hessian_diag_sq"].any()
    closure = closure_of(model, x, y)
    for _ in range(10):
        optimizer.step(closure)
    assert closure.ledger.product == 1
    assert (late["samples"], early["samples"]) == (2, 3)


@pytest.mark.filterwarnings("ignore::thalweg.optim.products.CurvatureFallbackWarning")
def test_a_parameter_that_no_loss_uses_neither_moves_nor_brings_looks_forward():
    model, unused = nn.Linear(2, 1), nn.Parameter(torch.ones(3))
    x, y = torch.randn(4, 2), torch.randn(4, 1)
    calls = []
    optimizer = AdaHessian([unused, *model.parameters()], interval=5, weight_decay=0.1)

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    assert len(calls) == 10 + 2 * 2
    assert torch.equal(unused, torch.ones(3))
    assert unused not in optimizer.state


def test_dead_units_stay_where_they_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].bias[1] = -100.0  # no input of this size wakes it
    dead = model[0].weight[1].detach().clone()
    x, y = torch.randn(16, 3), torch.randint(3, (16,))
    optimizer = AdaHessian(model.parameters())
    closure = closure_of(model, x, y)
    first = float(closure.value())
    for _ in range(30):
        optimizer.step(closure)
    assert torch.equal(model[0].weight[1], dead)
    assert flat(model.parameters()).isfinite().all()
    assert closure.value() < first


def test_empty_and_0_dim_parameters():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.none = nn.Parameter(torch.zeros(0, 3))

        def forward(self, x):
            return self.scale * x + self.none.sum()

    model, x = Scaled(), torch.tensor([1.0, 2.0])
    optimizer = AdaHessian(model.parameters(), lr=1.0, betas=(0.0, 0.9))
    optimizer.step(tw.Objective(model, nn.functional.mse_loss).closure(x, torch.zeros(2)))
    assert model.scale.item() == pytest.approx(0.0, abs=1e-6)  # Newton's step in one dimension
    assert model.none.shape == (0, 3)


def test_huge_values_are_refused_and_huge_parameters_are_not():
    x, closure = function(lambda x: 1e25 * (x**2).sum(), 1.0, 2.0, dtype=torch.float32)
    optimizer = AdaHessian([x])
    with pytest.raises(NonFiniteError, match=r"curvature is NaN, infinite or too large .* call 1"):
        optimizer.step(closure)
    assert x.tolist() == [1.0, 2.0]
    assert not optimizer.state
    big = torch.full((2_000_000,), 3.0, requires_grad=True)
    AdaHessian([big], lr=1.0).step(tw.Objective.of(lambda x: (x**2).sum()).closure(big))
    assert float(big.detach().abs().max()) < 1e-6


def test_complex_parameters_are_pairs_of_reals_with_their_curvature():
    def fn(real):
        return (3 * real[:, 0] ** 2 + real[:, 1] ** 4 + real[:, 0] * real[:, 1]).sum()

    start = torch.tensor([[1.0, 0.5], [-0.7, 1.2]], dtype=torch.float64)
    z = torch.view_as_complex(start.clone()).requires_grad_()
    pair = start.clone().requires_grad_()
    first, second = AdaHessian([z], lr=0.1), AdaHessian([pair], lr=0.1)
    one = tw.Objective.of(lambda z: fn(torch.view_as_real(z))).closure(z)
    other = tw.Objective.of(fn).closure(pair)
    for _ in range(5):
        first.step(one)
        second.step(other)
    torch.testing.assert_close(torch.view_as_real(z.detach()), pair.detach())
    assert float((pair.detach() - start).abs().min()) > 1e-3


# ---- resuming --------------------------------------------------------------------------------
def test_resumes_exactly_between_two_looks():
    def walk(optimizer, model, start, steps):
        for t in range(start, start + steps):
            generator = torch.Generator().manual_seed(t)
            x = torch.randn(6, 3, generator=generator)
            optimizer.step(closure_of(model, x, torch.arange(6) % 3))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    optimizer = AdaHessian(model.parameters(), lr=0.05, interval=10)
    walk(optimizer, model, 0, 13)
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    twin = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    other = AdaHessian(twin.parameters(), lr=0.5)
    twin.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    walk(optimizer, model, 13, 20)
    walk(other, twin, 13, 20)
    assert torch.equal(flat(model.parameters()), flat(twin.parameters()))
    assert {s["samples"] for s in other.state.values()} == {4}


def test_the_count_survives_a_checkpoint_of_low_precision():
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    closure = tw.Objective.of(lambda p: (p**2).sum()).closure(p)
    optimizer = AdaHessian([p], lr=1e-3)
    optimizer.step(closure)
    optimizer.state[p]["samples"] = 257
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[p]["samples"] == 257  # which bfloat16 does not have


def test_maximising_and_penalties_change_the_curvature_too():
    x, closure = function(lambda x: -2 * x[0] ** 2 - x[1] ** 2, 1.0, 1.0)
    options = {"lr": 1.0, "betas": (0.0, 0.9), "decoupled_weight_decay": False}
    AdaHessian([x], maximize=True, weight_decay=1.0, **options).step(closure)
    torch.testing.assert_close(x.detach(), torch.zeros(2).double(), rtol=0, atol=1e-12)
