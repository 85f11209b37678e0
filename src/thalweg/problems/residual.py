"""Residual networks for images of 32 by 32 pixels, as their papers define them."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.problems.blocks import Block, convolution


__all__ = ["ResidualNetwork", "resnet18", "resnet20", "resnet32"]


@final
class ResidualNetwork(nn.Module):
    r"""A convolution, groups of residual blocks, the mean over the image, a linear layer.

    The first block of every group after the first halves the image. Convolutions start from
    :math:`\mathcal N(0, 2 / (9 c_{\text{out}}))` (He et al. 2015), batch normalisation from one
    and zero, and the linear layer as in torch.

    Args:
        widths: Channels of each group.
        blocks: Blocks of each group.
        classes: Outputs.
        projected: Shortcuts that change shape are convolutions (option B), else padded (A).

    Example:
        >>> import torch
        >>> resnet20()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    References:
        He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2016.
        He, Zhang, Ren and Sun, Delving deep into rectifiers, 2015, equation 14.
    """

    def __init__(
        self, widths: tuple[int, ...], blocks: int, classes: int, *, projected: bool
    ) -> None:
        super().__init__()
        self.stem = convolution(3, widths[0], 3)
        self.norm = nn.BatchNorm2d(widths[0])
        groups: list[nn.Module] = []
        before = widths[0]
        for group, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if group > 0 and block == 0 else 1
                groups.append(Block(before, width, stride, projected=projected))
                before = width
        self.blocks = nn.Sequential(*groups)
        self.last = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape ``(n, classes)``, of images of shape ``(n, 3, height, width)``."""
        features = self.blocks(F.relu(self.norm(self.stem(images))))
        return self.last(features.mean((2, 3)))


def resnet20(classes: int = 10) -> ResidualNetwork:
    """The 20 layers of He et al. for CIFAR: 16, 32 and 64 channels, three blocks each, option A.

    Example:
        >>> sum(p.numel() for p in resnet20().parameters())
        269722
    """
    return ResidualNetwork((16, 32, 64), 3, classes, projected=False)


def resnet32(classes: int = 10) -> ResidualNetwork:
    """As :func:`resnet20`, with five blocks in each group.

    Example:
        >>> sum(p.numel() for p in resnet32().parameters())
        464154
    """
    return ResidualNetwork((16, 32, 64), 5, classes, projected=False)


def resnet18(classes: int = 10) -> ResidualNetwork:
    """The 18 layers of He et al. for ImageNet, with the stem that is usual for CIFAR.

    64 to 512 channels and option B; the first convolution is 3 by 3 without a stride, and there is
    no pooling after it.

    Example:
        >>> sum(p.numel() for p in resnet18().parameters())
        11173962
    """
    return ResidualNetwork((64, 128, 256, 512), 2, classes, projected=True)
