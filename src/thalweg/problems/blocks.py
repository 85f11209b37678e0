"""The block that residual networks are made of."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F


__all__ = ["Block", "convolution"]


def convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of the image, but for its stride; without bias."""
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)


@final
class Block(nn.Module):
    """Two convolutions of 3 by 3 and what came in, added before the last ReLU.

    Where the shape changes, what came in is either subsampled and padded with zero channels (the
    paper's option A, no parameters) or put through a convolution of 1 by 1 (option B).

    Args:
        before: Channels that come in.
        after: Channels that go out.
        stride: Of the first convolution and of the shortcut.
        projected: Option B where the shape changes, else option A.

    Example:
        >>> import torch
        >>> Block(16, 32, 2, projected=False)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 32, 4, 4])
    """

    def __init__(self, before: int, after: int, stride: int, *, projected: bool) -> None:
        super().__init__()
        self.first = convolution(before, after, 3, stride)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = convolution(after, after, 3)
        self.second_norm = nn.BatchNorm2d(after)
        self.stride, self.added = stride, after - before
        changes = stride != 1 or before != after
        self.shortcut: nn.Module | None = None
        if projected and changes:
            self.shortcut = nn.Sequential(
                convolution(before, after, 1, stride), nn.BatchNorm2d(after)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape ``(n, before, height, width)``."""
        inner = F.relu(self.first_norm(self.first(images)))
        inner = self.second_norm(self.second(inner))
        if self.shortcut is not None:
            return F.relu(inner + self.shortcut(images))
        same = images[:, :, :: self.stride, :: self.stride]
        half = self.added // 2
        return F.relu(inner + F.pad(same, (0, 0, 0, 0, half, self.added - half)))
