"""A recurrent network of text; its scores have the shape of the transformer's."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn


__all__ = ["RecurrentText"]


@final
class RecurrentText(nn.Module):
    """A gated recurrent unit over embedded characters; weights start as in torch.

    Args:
        characters: Size of the alphabet.
        width: Features of the embedding and of the hidden state, which starts from zero.

    Example:
        >>> import torch
        >>> model = RecurrentText(characters=83)
        >>> model(torch.zeros(2, 64, dtype=torch.int64)).shape
        torch.Size([2, 83, 64])

    References:
        Cho et al., Learning phrase representations using RNN encoder-decoder for statistical
        machine translation, 2014.
    """

    def __init__(self, characters: int, width: int = 96) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.scores = nn.Linear(width, characters)

    def forward(self, text: Tensor) -> Tensor:
        """Scores for the next character at each place of ``text``, shape ``(n, length)``."""
        features, _ = self.recurrent(self.characters(text))
        return self.scores(features).transpose(1, 2)
