"""A transformer of text: for every place, a score for each character that may come next.

Scores have shape ``(n, characters, length)``, classes second as torch's cross-entropy and the
accuracy expect them, so that a sequence needs no loss and no metric of its own.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


__all__ = ["Transformer"]


@final
class _Attention(nn.Module):
    """Self-attention that looks back only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inwards = nn.Linear(width, 3 * width)
        self.outwards = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape ``(n, length, width)``."""
        split = self.inwards(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.outwards(mixed.transpose(1, 2).flatten(2))


@final
class _Layer(nn.Module):
    """Attention and a perceptron of four times the width, each normalised first and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), _Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape ``(n, length, width)``."""
        x = x + self.attention(x)
        return x + self.perceptron(x)


@final
class Transformer(nn.Module):
    """A decoder-only transformer with learned positions and the normalisation before each part.

    Weights start as in torch, embeddings from a normal distribution of standard deviation 0.02.
    There is no dropout, and the output layer has weights of its own.

    Args:
        characters: Size of the alphabet.
        context: The longest sequence.
        width: Features of a place.
        layers: How many layers.
        heads: Attention heads; they divide ``width``.

    Example:
        >>> model = Transformer(characters=83, context=64)
        >>> model(torch.zeros(2, 64, dtype=torch.int64)).shape
        torch.Size([2, 83, 64])

    References:
        Vaswani et al., Attention is all you need, 2017; Radford et al., Language models are
        unsupervised multitask learners, 2019 (normalisation first).
    """

    def __init__(
        self, characters: int, context: int = 64, width: int = 64, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.places = nn.Embedding(context, width)
        self.layers = nn.Sequential(*(_Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, characters)
        for table in (self.characters, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Scores for the next character at each place of ``text``, shape ``(n, length)``."""
        places = self.places(torch.arange(text.shape[1], device=text.device))
        features = self.layers(self.characters(text) + places)
        return self.scores(self.norm(features)).transpose(1, 2)
