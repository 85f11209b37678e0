"""Operators that are wrong say so; operators that are right are silent."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, CurvatureWarning, Fisher, Hessian, How


DOUBLE = torch.float64


class WrongTwice(torch.autograd.Function):
    """Right once: the backward pass is a constant to autograd."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - x.detach().tanh() ** 2)


class Skewed(torch.autograd.Function):
    """A backward pass whose own backward pass is no transpose of anything."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum(1, keepdim=True)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x + x.detach() + (x - x.detach()).roll(1, 1))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def closure(*middle, dtype=torch.float32, loss=F.cross_entropy, width=16, outputs=4):
    torch.manual_seed(15)
    model = nn.Sequential(nn.Linear(6, width), *middle, nn.LazyLinear(outputs))
    model(torch.randn(2, 6))
    x = torch.randn(32, 6, dtype=dtype)
    return Objective(model.to(dtype), loss).closure(x, torch.randint(0, outputs, (32,)))


def one(operator):
    operator @ torch.ones(operator.shape[1])
    return operator.check


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_custom_function_that_is_not_differentiated_twice(dtype):
    H = Hessian(closure(Apply(WrongTwice.apply), dtype=dtype))
    with pytest.warns(
        CurvatureWarning, match="finite difference.*not differentiated twice"
    ) as seen:
        check = one(H)
    assert not check.passed
    assert check.difference > 0.1
    assert str(seen[0].message) == check.problems[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one(H)  # once is enough


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_custom_function_with_a_skew_double_backward(dtype):
    with pytest.warns(CurvatureWarning) as seen:
        check = one(Hessian(closure(Apply(Skewed.apply), dtype=dtype)))
    assert check.asymmetry > 1e-3
    assert "not those of a symmetric matrix" in str(seen[0].message)


def test_a_detached_part():
    with pytest.warns(CurvatureWarning, match=r"detach\(\)"):
        one(Hessian(closure(Apply(lambda h: h * h.detach().exp()), dtype=DOUBLE)))


@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_random_numbers_from_outside_torch(kind):
    draws = np.random.default_rng(0)

    def noisy(z, y):
        return F.cross_entropy(z * float(draws.uniform(0.5, 1.5)), y)

    with pytest.warns(CurvatureWarning, match="two evaluations of the loss.*NumPy"):
        check = one(kind(closure(nn.Tanh(), loss=noisy)))
    assert check.repeat > 1e-3


def test_a_check_can_be_left_out():
    operator = Hessian(closure(Apply(WrongTwice.apply)), how=How(check=False))
    assert one(operator) is None


SOUND = {
    "relu": lambda: closure(nn.ReLU(), width=64),
    "deep relu": lambda: closure(*[nn.ReLU(), nn.Linear(64, 64)] * 4, nn.ReLU(), width=64),
    "tanh": lambda: closure(nn.Tanh()),
    "silu and norm": lambda: closure(nn.LayerNorm(16), nn.SiLU()),
    "batch norm": lambda: closure(nn.BatchNorm1d(16), nn.ReLU()),
    "dropout": lambda: closure(nn.Dropout(0.5), nn.ReLU()),
    "saturated": lambda: closure(nn.Tanh(), loss=lambda z, y: F.cross_entropy(100 * z, y)),
    "tiny loss": lambda: closure(nn.Tanh(), loss=lambda z, y: 1e-6 * F.cross_entropy(z, y)),
    "large loss": lambda: closure(nn.Tanh(), loss=lambda z, y: 1e6 * F.cross_entropy(z, y)),
    "linear": lambda: closure(loss=lambda z, _: z.mean()),
    "nearly zero": lambda: closure(nn.Tanh(), loss=lambda z, _: 0.0 * z.mean()),
}


@pytest.mark.parametrize("kind", [Hessian, GGN])
@pytest.mark.parametrize("name", SOUND)
def test_sound_networks_of_single_precision_are_silent(name, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one(kind(SOUND[name]())).passed


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", [Hessian, GGN, Fisher])
def test_a_transformer_of_single_precision_is_silent(kind, mode):
    torch.manual_seed(16)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    model = nn.Sequential(nn.Embedding(20, 16, padding_idx=0), layer, nn.Linear(16, 20), Classes())
    words = torch.randint(0, 20, (4, 8))
    bound = Objective(model.train(mode), nn.CrossEntropyLoss()).closure(words, words.roll(1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check = one(kind(bound))
    assert check.passed
    assert check.asymmetry < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_padding_row_that_autograd_holds_still_is_no_fault(dtype):
    """The loss depends on the row, its gradient is zero by torch's definition."""
    torch.manual_seed(22)
    model = nn.Sequential(nn.Embedding(4, 6, padding_idx=0), nn.Flatten(), nn.Tanh())
    model = nn.Sequential(model, nn.Linear(48, 3)).to(dtype)
    with torch.no_grad():
        model[0][0].weight.normal_()
        model[1].weight.mul_(4.0)
    words = torch.zeros(5, 8, dtype=torch.long)
    words[:, 0] = torch.tensor([1, 2, 3, 1, 2])
    bound = Objective(model, F.cross_entropy).closure(words, torch.tensor([0, 1, 2, 2, 1]))
    assert one(Hessian(bound)).passed


class Classes(nn.Module):
    def forward(self, z):
        return z.movedim(-1, 1)


def test_a_relu_network_is_not_judged_by_differences_across_its_kinks():
    check = one(Hessian(closure(*[nn.ReLU(), nn.Linear(64, 64)] * 4, nn.ReLU(), width=64)))
    assert check.passed


def test_what_is_found_is_told():
    check = one(Hessian(closure(nn.Tanh(), dtype=DOUBLE)))
    assert check.settled
    assert check.difference < 1e-6
    assert check.asymmetry < 1e-12
    assert check.repeat == 0.0
    assert check.problems == ()
