"""Training loops as they are written for accelerators: scalers, autocast, K-FAC's two doors."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional as F

import thalweg as tw
from gpu import subjects
from gpu.subjects import DEVICE, batch, closure, flat, placed
from thalweg import optim


subjects.require()
pytestmark = pytest.mark.gpu

SINGLE = torch.float32


def loss_of(model, name):
    return sum(float(closure(model, name, t).value()) for t in range(3))


@pytest.mark.parametrize("network", subjects.NETWORKS)
@pytest.mark.parametrize("method", [optim.KFAC, optim.EKFAC])
@pytest.mark.parametrize("door", ["closure", "backward"])
def test_kfac_descends(network, method, door):
    """Labels are drawn on the device: another draw than the CPU's, the same descent."""
    model = placed(network, DEVICE, SINGLE).train()
    given = optim.KFACOptions(loss_fn=F.cross_entropy)
    optimizer = method(model, lr=0.05, intervals=(2, 4), options=given)
    before = loss_of(model, network)
    for t in range(30):
        if door == "closure":
            optimizer.step(closure(model, network, t))
        else:
            x, y = batch(network, t, DEVICE, SINGLE)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert loss_of(model, network) < 0.9 * before
    assert optimizer.uncovered == []


def test_sophia_draws_labels_here():
    model = placed("perceptron", DEVICE, SINGLE)
    optimizer = optim.Sophia(model.parameters(), lr=0.02, estimator="gauss-newton-bartlett")
    before = loss_of(model, "perceptron")
    subjects.walk(optimizer, model, "perceptron", 30)
    assert loss_of(model, "perceptron") < before


@pytest.mark.skipif(DEVICE.type != "cuda", reason="the scaler's default is CUDA's")
@pytest.mark.parametrize("make", [optim.AdamW, optim.SOAP, optim.Shampoo, optim.Muon])
def test_scaler_and_autocast(make):
    model = placed("perceptron", DEVICE, SINGLE)
    optimizer, scaler = make(model.parameters(), lr=0.02), torch.amp.GradScaler()
    before = loss_of(model, "perceptron")
    for t in range(40):
        x, y = batch("perceptron", t, DEVICE, SINGLE)
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert loss_of(model, "perceptron") < before


@pytest.mark.parametrize("make", [optim.AdamW, optim.SGD, optim.SOAP, optim.Muon])
def test_bfloat16_parameters(make):
    model = placed("perceptron", DEVICE, torch.bfloat16)
    optimizer = make(model.parameters(), lr=0.02)
    before = flat(model)
    for t in range(5):
        x, y = batch("perceptron", t, DEVICE, torch.bfloat16)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    after = flat(model)
    assert bool(after.isfinite().all())
    assert not torch.equal(before, after)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="memory is counted by CUDA's allocator")
@pytest.mark.parametrize(
    "name", ["adahessian", "sophia", "soap", "shampoo", "kfac", "ekfac", "muon"]
)
def test_memory_does_not_grow(name):
    model = placed("perceptron", DEVICE, SINGLE)
    optimizer = subjects.built(name, model)
    subjects.walk(optimizer, model, "perceptron", 25)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    subjects.walk(optimizer, model, "perceptron", 60, start=25)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + 4096


def test_fused_attention_is_differentiated_twice():
    """The fast kernel has no second derivative; products take the plain one, and say nothing."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(64, 8)).to(DEVICE)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, 16, generator=generator).to(DEVICE)
    y = torch.randint(8, (6,), generator=generator).to(DEVICE)
    risk = tw.Objective(model, F.cross_entropy).closure(x, y)
    optimizer = optim.AdaHessian(model.parameters(), lr=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optim.products.CurvatureFallbackWarning)
        first = float(optimizer.step(risk))
        for _ in range(5):
            last = float(optimizer.step(risk))
    assert last < first


def test_recurrent_layers_are_differentiated_twice():
    """cuDNN's recurrent layers have no second derivative either."""
    torch.manual_seed(0)

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.GRU(4, 8, batch_first=True)
            self.head = torch.nn.Linear(8, 8)

        def forward(self, x):
            return self.head(self.inner(x)[0][:, -1])

    model = Last().to(DEVICE)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, 4, generator=generator).to(DEVICE)
    y = torch.randint(8, (6,), generator=generator).to(DEVICE)
    risk = tw.Objective(model, F.cross_entropy).closure(x, y)
    A = tw.curvature.Hessian(risk)
    v = torch.randn(A.shape[0], generator=generator).to(DEVICE)
    again = tw.curvature.Hessian(
        tw.Objective(model.cpu(), F.cross_entropy).closure(x.cpu(), y.cpu())
    )
    torch.testing.assert_close((A @ v).cpu(), again @ v.cpu(), rtol=1e-3, atol=1e-4)
