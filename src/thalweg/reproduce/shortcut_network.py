"""A deep network that has shortcuts or not, and is otherwise the same."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


__all__ = ["BLOCKS", "WIDTH", "network"]

BLOCKS, WIDTH = 10, 8


@final
class _Block(nn.Module):
    """Two convolutions of 3 by 3 with batch normalisation, and perhaps a shortcut around them."""

    def __init__(self, shortcut: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(WIDTH)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(WIDTH)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        h = F.relu(self.first_norm(self.first(x)))
        h = self.second_norm(self.second(h))
        return F.relu(h + x) if self.shortcut else F.relu(h)


def network(shortcuts: bool) -> nn.Sequential:
    """2 + 2 x blocks layers; the same start with and without shortcuts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem = [nn.Conv2d(1, WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()]
        blocks = [_Block(shortcuts) for _ in range(BLOCKS)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10)]
        model = nn.Sequential(*stem, *blocks, *head)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
