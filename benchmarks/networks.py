"""The networks on which curvature is measured: a perceptron, a residual and a text network.

Their kinds and sizes are those of most papers on curvature, small enough for one core: a perceptron
64-640-512-256-10 with tanh on handwritten digits, ResNet-20 with BatchNorm (in evaluation mode) and
ReLU on images of 3 x 32 x 32, and a decoder-only transformer with LayerNorm and GELU on bytes of
text. Attention is written out, so that every peer can differentiate it twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.problems.moby import moby_text


@dataclass
class Case:
    """A network, its loss and one batch; outputs are rows of scores.

    Args:
        name: For the tables.
        model: The network, in evaluation mode.
        x: The inputs of the batch.
        y: The classes.
        draw: A generator -> another batch, to train on.
    """

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    draw: Callable[[torch.Generator], tuple[Tensor, Tensor]]

    @property
    def params(self) -> list[nn.Parameter]:
        """The trainable parameters."""
        return list(self.model.parameters())

    def loss(self) -> Tensor:
        """The loss on the batch."""
        return F.cross_entropy(self.model(self.x), self.y)

    def train(self, steps: int, lr: float = 1e-3) -> None:
        """Take some steps of Adam, then return to evaluation mode."""
        generator = torch.Generator().manual_seed(1)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.model.train()
        for _ in range(steps):
            x, y = self.draw(generator)
            optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.model.eval()

    def double(self) -> Case:
        """The same in float64; the model is shared and converted."""
        x = self.x.double() if self.x.is_floating_point() else self.x
        return Case(self.name, self.model.double(), x, self.y, self.draw)


class Residual(nn.Module):
    """Two 3 x 3 convolutions, and a 1 x 1 convolution around them where the shape changes."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        self.around: nn.Module = nn.Identity()
        if into != out:
            around = nn.Conv2d(into, out, 1, stride, bias=False)
            self.around = nn.Sequential(around, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, out, height, width)."""
        h = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(h)) + self.around(x))


class Attention(nn.Module):
    """Attention to earlier places, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inwards = nn.Linear(width, 3 * width)
        self.outwards = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, length, width)."""
        n, length, width = x.shape
        split = self.inwards(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ value
        return self.outwards(mixed.transpose(1, 2).reshape(n, length, width))


class Layer(nn.Module):
    """Attention and a perceptron, each normalised first and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, length, width)."""
        x = x + self.attention(x)
        return x + self.perceptron(x)


class Bytes(nn.Module):
    """A transformer of bytes; a row of scores for each place of each text."""

    def __init__(self, width: int = 128, layers: int = 5, heads: int = 4, length: int = 64) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, width)
        self.places = nn.Embedding(length, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, 256, bias=False)
        for table in (self.bytes, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Scores of shape (n length, 256)."""
        places = self.places(torch.arange(text.shape[1], device=text.device))
        return self.scores(self.norm(self.layers(self.bytes(text) + places))).flatten(0, 1)


def perceptron(sizes: tuple[int, ...] = (64, 640, 512, 256, 10), batch: int = 256) -> Case:
    """A perceptron with tanh on digits: 503,690 parameters at its default size."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for into, out in itertools.pairwise(sizes):
        parts += [nn.Linear(into, out), nn.Tanh()]
    x, y = _digits()
    return Case("MLP", nn.Sequential(*parts[:-1]), x[:batch], y[:batch], _drawn(x, y, batch))


def resnet(batch: int = 64) -> Case:
    """ResNet-20 on the digits, enlarged to 32 x 32 in three tinted channels: 272,474 parameters."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    width = 16
    for out, stride in [(16, 1)] * 3 + [(32, 2)] + [(32, 1)] * 2 + [(64, 2)] + [(64, 1)] * 2:
        blocks.append(Residual(width, out, stride))
        width = out
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    x, y = _digits()
    large = F.interpolate(x.view(-1, 1, 8, 8), size=32, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(0)
    tint = torch.rand(len(large), 3, 1, 1, generator=generator)
    images = large * tint + 0.05 * torch.randn(len(large), 3, 32, 32, generator=generator)
    return Case("ResNet", model.eval(), images[:batch], y[:batch], _drawn(images, y, batch))


def transformer(batch: int = 8, length: int = 64) -> Case:
    """A transformer of bytes, 5 layers of width 128: 1,065,344 parameters."""
    torch.manual_seed(0)
    text = torch.tensor(list(moby_text().encode()), dtype=torch.int64)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(text) - length - 1, (batch,), generator=generator)
        rows = starts[:, None] + torch.arange(length + 1)
        return text[rows[:, :-1]], text[rows[:, 1:]].flatten()

    x, y = draw(torch.Generator().manual_seed(0))
    return Case("transformer", Bytes(length=length), x, y, draw)


CASES: dict[str, Callable[[], Case]] = {
    "mlp": perceptron,
    "transformer": transformer,
    "resnet": resnet,
}


def _digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels)


def _drawn(x: Tensor, y: Tensor, batch: int) -> Callable[..., tuple[Tensor, Tensor]]:
    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(x), (batch,), generator=generator)
        return x[rows], y[rows]

    return draw
