"""Networks trained with small and with large batches to the same loss, and how sharp each is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.landscape import keskar, line, rescaled, sharpness
from thalweg.objective import Closure, Objective
from thalweg.problems.mnist5k import mnist5k_data
from thalweg.problems.streams import generator, global_stream
from thalweg.reproduce.digit_networks import layers


__all__ = ["GROUPS", "Found", "Group", "Images", "images", "look", "trained"]

WIDTHS: Final = (196, 64, 64, 10)
LOOK_EVERY: Final = 20  # steps from one look at the whole loss to the next
MEASURES: Final[dict[str, Callable[[Closure], float]]] = {
    "Keskar": keskar,
    "Keskar, 100 directions": lambda closure: keskar(closure, subspace=100),
    "adaptive": lambda closure: sharpness(closure, 0.5, adaptive="element"),
}
Images = tuple[Tensor, Tensor]


@final
@dataclass(frozen=True)
class Group:
    """How networks are trained.

    Args:
        name: For figures.
        batch: Images in a batch.
        rate: The learning rate.
        tone: For figures.
        marker: For figures.
    """

    name: str
    batch: int
    rate: float
    tone: str
    marker: str


SMALL, LARGE = 16, 325
ROOT: Final = (LARGE / SMALL) ** 0.5
GROUPS: Final = (
    Group(f"batches of {SMALL}", SMALL, 0.05, "blue", "o"),
    Group(f"batches of {LARGE}", LARGE, 0.05, "vermillion", "s"),
    Group(f"batches of {LARGE}, larger rate", LARGE, 0.05 * ROOT, "orange", "^"),
)


@final
@dataclass(frozen=True, eq=False)
class Found:
    """A network, and all that is measured of it.

    Args:
        steps: How many steps it took to reach the loss.
        loss: Its training loss.
        error: Its test error, in per cent.
        norm: The norm of its weights.
        sharpness: By the name of the measure.
        moved: The same of the same function with rescaled layers.
        change: How far rescaling changed the outputs, over the largest output.
        t: (k,) places on a line.
        raw: (k,) the mean loss on lines in directions of length 1, at ten times t.
        normalised: (k,) on lines in filter-normalised ones, at t.
    """

    steps: int
    loss: float
    error: float
    norm: float
    sharpness: dict[str, float]
    moved: dict[str, float]
    change: float
    t: np.ndarray
    raw: np.ndarray
    normalised: np.ndarray


def images() -> tuple[Images, Images]:
    """MNIST averaged to 14 by 14: 3,250 to train on, 1,750 for the test."""
    data = mnist5k_data()

    def small(split: str) -> Images:
        x, y = data.of(split)
        wide = torch.as_tensor(x).float().view(-1, 1, 28, 28)
        return F.avg_pool2d(wide, 2).flatten(1), torch.as_tensor(y)

    parts = [small("validation"), small("test")]
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    return small("train"), (x, y)


def trained(
    group: Group, data: Images, seed: int, target: float, most: int = 20_000
) -> tuple[nn.Module, int]:
    """Train until the loss over all images is at the target; the network and its steps."""
    x, y = data
    with global_stream(seed, "initialisation"):
        model = layers(*WIDTHS)
    optimizer = torch.optim.SGD(model.parameters(), lr=group.rate, momentum=0.9)
    order, steps = generator(seed, "order"), 0
    while steps < most:
        for rows in torch.randperm(len(x), generator=order).split(group.batch):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            steps += 1
            if steps % LOOK_EVERY == 0 and _loss(model, data) <= target:
                optimizer.zero_grad()
                return model.eval(), steps
    raise RuntimeError(f"{group.name}, seed {seed}: not at a loss of {target} in {most} steps.")


def look(
    model: nn.Module, steps: int, data: Images, test: Images, factor: float, directions: int = 3
) -> Found:
    """All measures of a network, and of the same function with rescaled layers."""
    closure = Objective(model, F.cross_entropy).closure(*data)
    other = rescaled(copy.deepcopy(model), "0", "2", factor, inputs=data[0][:64])
    elsewhere = Objective(other, F.cross_entropy).closure(*data)
    with torch.no_grad():
        outputs, moved = model(test[0]), other(test[0])
    change = float((outputs - moved).abs().max() / outputs.abs().max())
    options: dict[str, Any] = {"resolution": 21, "evaluation": "in-place", "progress": False}

    def mean(kind: str, span: float) -> np.ndarray:
        seen = [line(closure, kind, span=span, seed=k, **options) for k in range(directions)]
        return np.mean([one.loss for one in seen], axis=0)

    return Found(
        steps,
        _loss(model, data),
        100.0 * float((outputs.argmax(1) != test[1]).double().mean()),
        float(torch.cat([p.detach().reshape(-1) for p in model.parameters()]).norm()),
        {name: measure(closure) for name, measure in MEASURES.items()},
        {name: measure(elsewhere) for name, measure in MEASURES.items()},
        change,
        np.linspace(-1.0, 1.0, 21),
        mean("unit", 10.0),
        mean("filter", 1.0),
    )


def _loss(model: nn.Module, data: Images) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(data[0]), data[1]))
