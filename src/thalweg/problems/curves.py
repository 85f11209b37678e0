"""Curves: images of strokes, and the deep autoencoder that second-order methods were tried on.

The images of Hinton and Salakhutdinov (2006) are made as they describe them, from three random
points in the plane each, so that six numbers hold all there is to know of one. The network has the
form of theirs, sigmoids around a linear code of six, with the sparse initial weights of Martens
(2010): fifteen to a unit. Both are smaller than theirs, 16 by 16 pixels and 128 units at most, so
that a race takes seconds.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from thalweg.problems.data import Data
from thalweg.problems.losses import pixel_entropy
from thalweg.problems.measures import PIXEL_ERROR
from thalweg.problems.metric import Target
from thalweg.problems.problem import Problem
from thalweg.problems.streams import generator


__all__ = ["WIDTHS", "curves", "curves_data", "sparse_autoencoder", "strokes"]

SIDE: Final = 16
WIDTHS: Final = (SIDE**2, 128, 64, 32, 6)
COUNTS: Final = (4_000, 500, 500)
PEN: Final = 0.6  # standard deviation of the stroke across its line, in pixels
MARGIN: Final = 2.0
PLACES: Final = 60  # along a stroke: closer than half a pixel


def strokes(points: Tensor, side: int = SIDE) -> Tensor:
    """Images of quadratic Bezier curves, ink 1 along the curve and 0 far from it.

    Args:
        points: n x 3 x 2, in pixels: start, pull and end.
        side: Pixels of an edge.

    Returns:
        n x side^2, in [0, 1].

    Example:
        >>> image = strokes(torch.tensor([[[1.0, 1.0], [1.0, 3.0], [1.0, 5.0]]]), side=7)
        >>> image.view(7, 7)[3].round().tolist()
        [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    t = torch.linspace(0, 1, PLACES, dtype=points.dtype)
    shares = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])
    grid = torch.arange(side, dtype=points.dtype)
    made = []
    for part in torch.einsum("kt,nkd->ntd", shares, points).split(250):
        across, down = (
            torch.exp(-((part[..., d, None] - grid) ** 2) / (2 * PEN**2)) for d in (0, 1)
        )
        ink = (down[..., :, None] * across[..., None, :]).amax(1)
        made.append(ink.reshape(len(part), -1))
    return torch.cat(made)


@cache
def curves_data() -> Data:
    """Strokes through three points drawn evenly in the image, two pixels from its edge."""
    draws = generator(0, "curves")
    points = torch.rand(sum(COUNTS), 3, 2, generator=draws, dtype=torch.float64)
    images = strokes(MARGIN + points * (SIDE - 1 - 2 * MARGIN)).float()
    train, validation, test = ((part, part) for part in images.split(list(COUNTS)))
    recipe = f"Bezier curves of three points, {SIDE} x {SIDE} pixels; the targets are the inputs"
    return Data(train, validation, test, "made from a seed", "MIT", recipe)


def sparse_autoencoder(*widths: int) -> nn.Sequential:
    """Linear layers down the widths and up again, sigmoids between them but for a linear code.

    Each unit starts with fifteen normal weights and zeros; biases are zero. The outputs are logits.

    Example:
        >>> model = sparse_autoencoder(256, 128, 64, 32, 6)
        >>> sum(p.numel() for p in model.parameters()), int(model[0].weight.count_nonzero())
        (87110, 1920)
    """
    whole = (*widths, *widths[-2::-1])
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(whole), start=1):
        layer = nn.Linear(before, after)
        with torch.no_grad():
            chosen = torch.rand(after, before).topk(min(15, before)).indices
            layer.weight.zero_().scatter_(1, chosen, torch.randn(chosen.shape))
            layer.bias.zero_()
        layers.append(layer)
        if place not in {len(widths) - 1, len(whole) - 1}:
            layers.append(nn.Sigmoid())
    return nn.Sequential(*layers)


def curves() -> Problem:
    """Strokes through six numbers and back.

    Example:
        >>> curves().batch_size
        100
    """
    return Problem(
        "curves",
        partial(sparse_autoencoder, *WIDTHS),
        pixel_entropy,
        curves_data(),
        batch_size=100,
        metric=PIXEL_ERROR,
        # As for the autoencoder of digits: the loss is a sum over 256 pixels.
        scale=0.1,
        steps=600,
        # Adam's median over three seeds; of the four baselines momentum reached 38.6, Nesterov's
        # method 32.9 and AdamW 25.3. 14.4 of it are the images' own entropy.
        target=Target("validation_loss", 24.3),
        title="Autoencoder of curves",
        description="4000 images of strokes, 16 by 16 pixels, through layers of 128, 64, 32 and 6 "
        "and back, sigmoids with sparse initial weights. The loss is the cross-entropy summed over "
        "the pixels of an image.",
    )
