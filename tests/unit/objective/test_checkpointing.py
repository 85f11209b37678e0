"""Activation checkpointing: layers run again in the backward pass, at the right parameters."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import thalweg as tw


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        hidden = checkpoint(lambda h: torch.tanh(self.first(h)), x, use_reentrant=False)
        return self.second(hidden)


def test_the_gradient_elsewhere_is_that_of_a_model_that_stands_there():
    torch.manual_seed(0)
    model, x, y = Checkpointed(), torch.randn(5, 3), torch.randn(5, 2)
    theta = tw.Vector(p.detach() + 0.5 for p in model.parameters())
    loss, gradient = tw.Objective(model, nn.functional.mse_loss).closure(x, y).value_and_grad(theta)
    there = copy.deepcopy(model)
    with torch.no_grad():
        for p, value in zip(there.parameters(), theta, strict=True):
            p.copy_(value)
    expected = nn.functional.mse_loss(there(x), y)
    expected.backward()
    assert loss == expected
    for ours, p in zip(gradient, there.parameters(), strict=True):
        assert torch.equal(ours, p.grad)
