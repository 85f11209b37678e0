"""Curvature on the accelerator against the CPU's, and one function under dropout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import thalweg as tw
from gpu import subjects
from gpu.subjects import CPU, DEVICE, closure, perceptron, placed
from thalweg import curvature


subjects.require()
pytestmark = pytest.mark.gpu

OPERATORS = {
    "hessian": curvature.Hessian,
    "block-hessian": curvature.BlockHessian,
    "ggn": curvature.GGN,
    "fisher": curvature.Fisher,
    "empirical-fisher": curvature.EmpiricalFisher,
    "covariance": curvature.GradientCovariance,
    "kronecker": lambda c: curvature.KroneckerFactors(c, fisher="exact"),
    "ekfac": lambda c: curvature.KroneckerFactors(c, fisher="exact", corrected=True),
    "jacobian": curvature.Jacobian,
}


def on(device, name="perceptron", t=0):
    return closure(placed(name, device), name, t)


@pytest.mark.parametrize("network", ["perceptron", "text", "convolutional"])
@pytest.mark.parametrize("name", OPERATORS)
def test_products_are_those_of_the_cpu(name, network):
    made = [OPERATORS[name](on(device, network)) for device in (CPU, DEVICE)]
    assert made[1].device == DEVICE
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(made[0].shape[1], 3, generator=generator, dtype=torch.float64)
    expected, found = (A @ columns.to(A.device) for A in made)
    assert found.device == DEVICE
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scheme", ["double-backward", "linearize", None])
def test_every_scheme_of_the_hessian(scheme):
    made = [
        curvature.Hessian(on(device), how=curvature.How(scheme=scheme)) for device in (CPU, DEVICE)
    ]
    expected, found = (A.to_dense() for A in made)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-8, atol=1e-10)


def test_eigenpairs():
    A = curvature.Hessian(on(DEVICE))
    top = curvature.eigsh(A, k=3, tol=1e-6)
    dense = torch.linalg.eigvalsh(curvature.Hessian(on(CPU)).to_dense())
    torch.testing.assert_close(top.values, dense.flip(0)[:3], rtol=1e-6, atol=1e-9)
    assert top.vectors.device == DEVICE
    both = curvature.eigsh(A, k=2, which="BE", tol=1e-6).values.sort().values
    torch.testing.assert_close(both, dense[[0, -1]], rtol=1e-6, atol=1e-9)


ESTIMATES = {
    "trace": lambda A: curvature.trace(A, probes=8).value,
    "diagonal": lambda A: curvature.diagonal(A, probes=8).value,
    "frobenius": lambda A: curvature.frobenius(A, probes=8).value,
    "density": lambda A: curvature.spectral_density(A, steps=12).nodes,
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_with_one_seed_are_those_of_the_cpu(name):
    expected, found = (
        torch.as_tensor(ESTIMATES[name](curvature.GGN(on(device)))).cpu()
        for device in (CPU, DEVICE)
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_inspect_runs_here():
    model = placed("perceptron", DEVICE, torch.float32)
    batches = [subjects.batch("perceptron", t, DEVICE, torch.float32) for t in range(3)]
    found = curvature.inspect(tw.Objective(model, F.cross_entropy), batches)
    assert "learning rate" in str(found)


def test_one_closure_is_one_function_under_dropout():
    model = perceptron(dropout=0.5).to(DEVICE).double().train()
    x, y = subjects.batch("perceptron", 0, DEVICE)
    risk = tw.Objective(model, F.cross_entropy).closure(x, y)
    values = {float(risk.value()) for _ in range(4)}
    assert len(values) == 1
    torch.rand(3, device=DEVICE)  # somebody else draws
    assert {float(risk.value())} == values
    assert float(risk()) in values
    other = tw.Objective(model, F.cross_entropy).closure(x, y)
    assert float(other.value()) not in values


def test_products_under_dropout_are_those_of_one_mask():
    model = perceptron(dropout=0.5).to(DEVICE).double().train()
    x, y = subjects.batch("perceptron", 0, DEVICE)
    risk = tw.Objective(model, F.cross_entropy).closure(x, y)
    risk.value()
    A = curvature.Hessian(risk)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(A.shape[0], generator=generator, dtype=torch.float64).to(DEVICE)
    here = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def gradient(h):
        return torch.cat([g.reshape(-1) for g in risk.value_and_grad(here + h * v)[1]])

    differences = (gradient(1e-5) - gradient(-1e-5)) / 2e-5
    torch.testing.assert_close(A @ v, differences, rtol=1e-5, atol=1e-8)


def test_random_state_is_left_alone():
    model = perceptron(dropout=0.5).to(DEVICE).train()
    x, y = subjects.batch("perceptron", 0, DEVICE, torch.float32)
    risk = tw.Objective(model, F.cross_entropy).closure(x, y)
    risk()

    def states():
        on_device = torch.cuda.get_rng_state(DEVICE) if DEVICE.type == "cuda" else torch.zeros(1)
        return torch.get_rng_state(), on_device

    before = states()
    A = curvature.Hessian(risk)
    curvature.eigsh(A, k=1)
    curvature.trace(A, probes=2)
    risk.value()
    for one, other in zip(before, states(), strict=True):
        assert torch.equal(one, other)


def test_a_plain_closure_is_looked_at_with_the_same_masks():
    """AdaHessian from a torch closure: differences of gradients at one mask, on this device."""
    ends = []
    for plain in (False, True):
        model = perceptron(dropout=0.5).to(DEVICE).double().train()
        x, y = subjects.batch("perceptron", 0, DEVICE)
        optimizer = tw.optim.AdaHessian(model.parameters(), lr=0.05)
        torch.manual_seed(11)
        ours = tw.Objective(model, F.cross_entropy).closure(x, y)

        def torch_closure(model=model, x=x, y=y):
            model.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if plain:
            with pytest.warns(tw.optim.products.CurvatureFallbackWarning):
                optimizer.step(torch_closure)
        else:
            optimizer.step(ours)
        ends.append(subjects.flat(model))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)
