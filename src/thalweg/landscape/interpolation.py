r"""The straight line between two sets of weights (Goodfellow et al. 2014).

.. math:: f(t) = L\bigl((1 - t)\,a + t\,b\bigr)

From the start of training to its end it usually falls without obstacle; between two independent
solutions it has a hump, which may be an accident of how their units are numbered
(:func:`~thalweg.landscape.align`) or of the path being straight
(:func:`~thalweg.landscape.connect`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from rich.progress import track
from torch import Tensor

from thalweg.curvature.training_state import undisturbed
from thalweg.errors import NON_NEGATIVE, integer_from
from thalweg.landscape.barriers import barrier_of
from thalweg.landscape.evaluation_metrics import Metrics
from thalweg.landscape.surface import Line
from thalweg.landscape.terrain import Recalibrate, Terrain
from thalweg.landscape.weights import Weights, bound_closure, flat_weights
from thalweg.objective import AbstractClosure


__all__ = ["Interpolation", "along", "interpolate"]


@final
@dataclass(frozen=True, eq=False)
class Interpolation:
    """Losses between two sets of weights, and how high the hump is.

    Args:
        line: Loss and metrics along t, from a at 0 to b at 1.
        distance: The length of b - a.

    Example:
        >>> import torch
        >>> well = lambda x: ((x**2 - 1) ** 2).sum()
        >>> found = interpolate(well, torch.tensor([-1.0]), torch.tensor([1.0]), points=3)
        >>> found.loss.tolist(), found.barrier()
        ([0.0, 1.0, 0.0], 1.0)
    """

    line: Line
    distance: float

    @property
    def t(self) -> np.ndarray:
        """The coordinate."""
        return self.line.t

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """All that was measured, by name, the loss first."""
        return self.line.metrics

    @property
    def loss(self) -> np.ndarray:
        """The loss along t."""
        return self.line.loss

    def barrier(self, convention: str = "frankle", metric: str = "loss") -> float:
        """The height of the hump between a and b.

        Args:
            convention: ``"frankle"``, ``"entezari"`` or ``"max-endpoint"``
                (:func:`~thalweg.landscape.barriers.barrier_of`).
            metric: Of which metric; of one that is better the higher, take its negative.
        """
        return barrier_of(self.t, self.metrics[metric], convention)

    def monotone(self, metric: str = "loss", tolerance: float = 0.0) -> bool:
        """Whether it never rises from a to b by more than ``tolerance`` from one point to the next.

        Example:
            >>> import torch
            >>> start, end = torch.tensor([2.0]), torch.tensor([0.0])
            >>> interpolate(lambda x: (x**2).sum(), start, end).monotone()
            True
        """
        values = self.metrics[metric][(self.t >= 0) & (self.t <= 1)]
        return bool((np.diff(values) <= tolerance).all())


def interpolate(
    objective: AbstractClosure | Any,
    a: Weights,
    b: Weights,
    points: int = 25,
    *,
    loader: Iterable[Any] | None = None,
    beyond: float = 0.0,
    also: Mapping[str, AbstractClosure] | None = None,
    metrics: Metrics = (),
    recalibrate: Recalibrate = None,
    progress: bool = False,
) -> Interpolation:
    """Look at a loss on the straight line between two sets of weights.

    The trainable parameters move; frozen ones and buffers are the model's own, which is as before
    afterwards: weights, buffers, modes, gradients and random state. Layers run in the modes that
    the model has, so call ``model.eval()`` before if dropout is not meant.

    Args:
        objective: A closure, such as ``objective.over(loader)``; an Objective with ``loader``; or a
            function of one tensor.
        a: Weights at t = 0: a module, a state_dict, a Vector or a flat tensor.
        b: Weights at t = 1.
        points: How many points on [0, 1], both ends included, at least 2; default 25, as Git
            Re-Basin takes them.
        loader: Batches, for an Objective.
        beyond: How far the line goes past both ends, >= 0, in the same spacing; Goodfellow et al.
            look from slightly below 0 to above 1.
        also: Other closures of the same model to look at, by name: ``{"test": ...}`` gives
            ``"test_loss"``.
        metrics: What is measured beside the loss: ``"accuracy"``, ``"error"``, or name to a
            function of (outputs, targets), averaged over samples.
        recalibrate: Whether BatchNorm's statistics are gathered again at each point, from the
            closure's batches (True) or given ones. None: where the model has such layers in
            evaluation mode. False: those of the model are used throughout.
        progress: Show a progress bar.

    Returns:
        The losses and metrics, and the barrier by name.

    Raises:
        ValueError: If an argument is outside its range, or weights do not fit the model.

    Example:
        >>> import torch
        >>> found = interpolate(lambda x: x.square().sum(), torch.ones(2), -torch.ones(2), 5)
        >>> found.loss.tolist()
        [2.0, 0.5, 0.0, 0.5, 2.0]

    References:
        Goodfellow, Vinyals and Saxe, Qualitatively characterizing neural network optimization
        problems, 2014.
    """
    integer_from(2).check("interpolate", "points", points)
    NON_NEGATIVE.check("interpolate", "beyond", beyond)
    closure = bound_closure(objective, loader, a, "interpolate")
    first = flat_weights(a, closure, "interpolate", "a")
    last = flat_weights(b, closure, "interpolate", "b")
    terrain = Terrain(closure, also, metrics, recalibrate)
    past = math.ceil(beyond * (points - 1) - 1e-9)
    t = np.arange(-past, points + past) / (points - 1)
    found = along(terrain, lambda s: first.lerp(last, s), t, progress=progress)
    meta = {"kind": "line", "recalibrated": terrain.recalibrates, "points": points}
    line = Line(t, found, "from a (0) to b (1)", meta)
    return Interpolation(line, float((last.double() - first.double()).norm()))


def along(
    terrain: Terrain, at: Callable[[float], Tensor], t: np.ndarray, *, progress: bool = False
) -> dict[str, np.ndarray]:
    """Everything that a terrain says at the points of a path, by name."""
    looks: list[dict[str, float]] = []
    order = track(t, description="path", transient=True) if progress else t
    with undisturbed(list(terrain.closure.params)):
        looks.extend(terrain.look(at(float(s))) for s in order)
    return {name: np.array([look[name] for look in looks]) for name in looks[0]}
