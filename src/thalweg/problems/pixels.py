"""Layers between stored images and a network: bytes to numbers, and random crops and flips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


__all__ = ["CropAndFlip", "Pixels"]


@final
class Pixels(nn.Module):
    r"""Bytes as standardised numbers, :math:`(x / 255 - \mu_c) / \sigma_c` for channel c.

    Images stay bytes in memory, a quarter of their size as floats, and their hash is that of the
    published pixels.

    Args:
        mean: The mean of each channel, in [0, 1].
        std: The standard deviation of each channel.

    Example:
        >>> Pixels([0.5], [0.5])(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        tensor([[[[-1.,  1.]]]])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape ``(n, channels, height, width)``."""
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std


@final
class CropAndFlip(nn.Module):
    """While training: pad with zeros, cut at a random place, mirror every other image.

    The augmentation of He et al. for CIFAR. It draws from torch's global generator, and comes after
    :class:`Pixels`, so that zero is the mean colour.

    Args:
        padding: Pixels added on each side; 4 in the paper.

    Example:
        >>> images = torch.ones(2, 3, 32, 32)
        >>> torch.equal(CropAndFlip().eval()(images), images)
        True

    References:
        He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2016, section 4.2.
    """

    def __init__(self, padding: int = 4) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        """Images of the same shape; in evaluation mode the same images."""
        if not self.training:
            return images
        count, _, height, width = images.shape
        down, right = torch.randint(2 * self.padding + 1, (2, count, 1), device=images.device)
        rows = down + torch.arange(height, device=images.device)
        columns = right + torch.arange(width, device=images.device)
        mirrored = torch.rand(count, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, [self.padding] * 4).permute(0, 2, 3, 1)
        samples = torch.arange(count, device=images.device).reshape(-1, 1, 1)
        return padded[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """The padding, so that the model's text says it."""
        return f"padding={self.padding}"
