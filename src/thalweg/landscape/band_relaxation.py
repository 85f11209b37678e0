"""A band of images that slides down to a path of lowest loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.landscape.band_movers import Fire, HeavyBall, Mover
from thalweg.landscape.bands import arc_fractions, band_forces, respaced
from thalweg.landscape.terrain import Terrain


__all__ = ["Band", "Pull", "batch_at", "relax"]

Save = Callable[[dict[str, Any]], None]


@final
@dataclass(frozen=True, eq=False)
class Band:
    """Images from one end to the other.

    Args:
        points: (N + 1, n) the images, ends included.
        fractions: (N + 1,) the fractions of its length at which they are to stand.
        converged: Whether the largest force was small enough; None where nobody looked.
        residual: The largest force, as a change of loss over one gap relative to the range.
        steps: How many steps it has taken.
        summit: The image that stands on a saddle, where one climbed and the band converged.
    """

    points: Tensor
    fractions: Tensor
    converged: bool | None = None
    residual: float = math.inf
    steps: int = 0
    summit: int | None = None

    @staticmethod
    def straight(a: Tensor, b: Tensor, images: int) -> Band:
        """Equally spaced images between two points, on the straight line."""
        t = torch.linspace(0, 1, images + 2, dtype=torch.float64, device=a.device)
        points = torch.lerp(a, b, t.to(a.dtype)[:, None])
        points[0], points[-1] = a, b
        return Band(points, t)


@final
@dataclass(frozen=True)
class Pull:
    """How a band is moved.

    Args:
        steps: The most steps.
        lr: Rate of descent with momentum, where it is by batches.
        momentum: Its momentum.
        spring: The springs' constant; infinite: images are spaced again after each step.
        climb: Whether the highest image climbs to the saddle once the band has settled.
        tolerance: The residual at which it ends.
        weight_decay: c of an added c |R|^2 / 2.
        minibatch: One batch a step, the same for all images, with momentum; else all data, with
            FIRE.
        seed: Of the order of the batches.
    """

    steps: int
    lr: float = 0.1
    momentum: float = 0.9
    spring: float = math.inf
    climb: bool = True
    tolerance: float = 1e-4
    weight_decay: float = 0.0
    minibatch: bool = False
    seed: int = 0


def batch_at(step: int, count: int, seed: int) -> int:
    """Which of ``count`` batches is taken at a step: each once an epoch, in an order by the seed.

    Example:
        >>> sorted(batch_at(step, 3, 0) for step in range(3, 6))
        [0, 1, 2]
    """
    epoch, place = divmod(step, count)
    return int(np.random.default_rng([seed, epoch]).permutation(count)[place])


def relax(
    terrain: Terrain, band: Band, pull: Pull, save: Save, state: dict[str, Any] | None = None
) -> Band:
    """Move a band until its forces are small, or for a number of steps.

    Args:
        terrain: The loss.
        band: Where it starts.
        pull: How it is moved.
        save: Told, after each step, from what state it can be gone on.
        state: Such a state, to go on from.

    Returns:
        The band, spaced by its fractions if the spring is infinite.

    Raises:
        NonFiniteError: If a loss on the band is NaN or infinite.
    """
    gap = float((band.points[1:] - band.points[:-1]).norm(dim=1).max())
    mover: Mover = HeavyBall(pull.lr, pull.momentum) if pull.minibatch else Fire(0.5 * gap)
    points, first, settled = band.points, 0, False
    if state:
        points, first, settled = state["points"], state["step"], state["settled"]
        mover.load_state_dict(state["mover"])
    residual, ends, climbing = math.inf, None, None
    for step in range(first, pull.steps):
        batch = batch_at(step, len(terrain.closure.batches), pull.seed) if pull.minibatch else None
        ends = _ends(terrain, points, batch) if ends is None or pull.minibatch else ends
        losses, slopes = _slopes(terrain, points, ends, batch, pull.weight_decay)
        _check_finite(losses, step)
        climbing = _highest(losses) if settled else None
        forces = band_forces(points, losses, slopes, pull.spring, climbing)
        residual = _residual(points, losses, forces)
        if not pull.minibatch and residual <= pull.tolerance and (settled or not pull.climb):
            break
        if not settled and pull.climb:
            settled = residual <= 30 * pull.tolerance or step >= pull.steps // 2
        moved = torch.cat([points[:1], mover.move(points[1:-1], forces), points[-1:]])
        if math.isinf(pull.spring):
            moved = respaced(moved, band.fractions, climbing)
        points = moved
        save({"points": points, "step": step + 1, "settled": settled, "mover": mover.state_dict()})
    else:
        step = pull.steps
    converged = None if pull.minibatch else residual <= pull.tolerance
    summit = climbing if converged else None
    return Band(points, arc_fractions(points), converged, residual, band.steps + step, summit)


def _ends(terrain: Terrain, points: Tensor, batch: int | None) -> tuple[float, float]:
    return terrain.height(points[0], batch), terrain.height(points[-1], batch)


def _slopes(
    terrain: Terrain, points: Tensor, ends: tuple[float, float], batch: int | None, decay: float
) -> tuple[Tensor, Tensor]:
    """Losses of all images and gradients of those between the ends."""
    looks = [terrain.slope(point, batch) for point in points[1:-1]]
    losses = points.new_tensor([ends[0], *(loss for loss, _ in looks), ends[1]]).double()
    slopes = torch.stack([slope for _, slope in looks])
    if decay:
        losses = losses + 0.5 * decay * points.double().square().sum(1)
        slopes = slopes + decay * points[1:-1]
    return losses.to(points.dtype), slopes


def _highest(losses: Tensor) -> int | None:
    """The image that climbs: the highest, if it is not an end."""
    place = int(losses.argmax())
    return place if 0 < place < len(losses) - 1 else None


def _residual(points: Tensor, losses: Tensor, forces: Tensor) -> float:
    gap = float((points[1:] - points[:-1]).norm(dim=1).mean())
    span = float(losses.max() - losses.min())
    scale = max(span, 1e-12 * float(losses.abs().max()), 1e-300)
    return float(forces.norm(dim=1).max()) * gap / scale


def _check_finite(losses: Tensor, step: int) -> None:
    if not bool(losses.isfinite().all()):
        bad = [i for i, loss in enumerate(losses.tolist()) if not math.isfinite(loss)]
        raise NonFiniteError(
            f"connect: the loss of image {bad[0]} of the band is {float(losses[bad[0]])} at step "
            f"{step}. A smaller rate may help."
        )
