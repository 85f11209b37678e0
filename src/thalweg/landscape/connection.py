"""A path of low loss between two sets of weights, and what there is to say of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from thalweg.curvature.training_state import undisturbed
from thalweg.errors import integer_from, unknown_name
from thalweg.landscape.band_methods import AutoNEB, NudgedElasticBand
from thalweg.landscape.barriers import barrier_of
from thalweg.landscape.curves import Curve
from thalweg.landscape.evaluation_metrics import Metrics
from thalweg.landscape.interpolation import Interpolation, along
from thalweg.landscape.sessions import Session, digest
from thalweg.landscape.shapes import Route
from thalweg.landscape.surface import Line
from thalweg.landscape.terrain import Recalibrate, Terrain
from thalweg.landscape.weights import Weights, bound_closure, flat_weights
from thalweg.objective import AbstractClosure


__all__ = ["Connection", "Saddle", "connect"]

Method = NudgedElasticBand | AutoNEB | Curve
METHODS: dict[str, Method] = {
    "neb": NudgedElasticBand(),
    "autoneb": AutoNEB(),
    "bezier": Curve("bezier"),
    "polygon": Curve("polygon"),
}


@final
@dataclass(frozen=True, eq=False)
class Saddle:
    """The highest point of a path; of a band whose image climbed to a saddle, that one.

    (Straight pieces between the images of a band lie higher than the images where they cut a
    corner, so that the largest loss of the path may be above that of the saddle.)

    Args:
        point: (n,) the weights there.
        loss: The loss there.
        t: Where on the path it is.
        gradient_norm: The norm of the gradient there: how near it is to a saddle of the loss.

    Example:
        >>> import torch
        >>> Saddle(torch.zeros(2), 1.0, 0.5, 0.0).loss
        1.0
    """

    point: Tensor
    loss: float
    t: float
    gradient_norm: float


@final
@dataclass(frozen=True, eq=False)
class Connection:
    """A path between two sets of weights, with the losses along it.

    Args:
        line: Loss and metrics at places t of the path; t is the fraction of its length for bands
            and the parameter for curves.
        route: The path itself.
        arc: How long the path is up to each t.
        saddle: Its highest point.
        straight: The straight line between the same ends.

    Example:
        >>> import torch
        >>> ring = lambda x: (x.norm() - 1) ** 2 + 0.1 * x[1] ** 2
        >>> ends = torch.tensor([1.0, 0.1]).double(), torch.tensor([-1.0, 0.1]).double()
        >>> found = connect(ring, *ends, method="neb")
        >>> round(found.saddle.t, 2), round(found.length, 1), found.converged
        (0.5, 2.8, True)
    """

    line: Line
    route: Route
    arc: np.ndarray
    saddle: Saddle
    straight: Interpolation

    @property
    def t(self) -> np.ndarray:
        """Places on the path."""
        return self.line.t

    @property
    def loss(self) -> np.ndarray:
        """The loss at each place."""
        return self.line.loss

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """All that was measured, by name, the loss first."""
        return self.line.metrics

    @property
    def length(self) -> float:
        """The length of the path."""
        return float(self.arc[-1])

    @property
    def converged(self) -> bool | None:
        """Whether a band was relaxed to its tolerance; None where nobody can say."""
        return self.route.converged

    @property
    def mean_loss(self) -> float:
        r"""The mean over the length of the path, :math:`\int L\, ds / \int ds`."""
        pieces = np.diff(self.arc)
        return float((pieces * (self.loss[1:] + self.loss[:-1]) / 2).sum() / pieces.sum())

    def at(self, t: float) -> Tensor:
        """(n,) the weights at t in [0, 1]."""
        return self.route.at(t)

    def barrier(self, convention: str = "frankle", metric: str = "loss") -> float:
        """How high the path climbs between its ends.

        Args:
            convention: ``"frankle"``, ``"entezari"`` or ``"max-endpoint"``
                (:func:`~thalweg.landscape.barriers.barrier_of`).
            metric: Of which metric; of one that is better the higher, take its negative.
        """
        return barrier_of(self.t, self.metrics[metric], convention)


def connect(
    objective: AbstractClosure | Any,
    a: Weights,
    b: Weights,
    method: str | Method = "autoneb",
    *,
    loader: Iterable[Any] | None = None,
    points: int = 61,
    also: Mapping[str, AbstractClosure] | None = None,
    metrics: Metrics = (),
    recalibrate: Recalibrate = None,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Connection:
    """Look for a path of low loss between two sets of weights.

    The model is as before afterwards: weights, buffers, modes, gradients and random state.

    Args:
        objective: A closure, such as ``objective.over(loader)``; an Objective with ``loader``; or a
            function of one tensor. A loss over several batches is walked on by one batch a step.
        a: Weights at the start: a module, a state_dict, a Vector or a flat tensor.
        b: Weights at the end.
        method: ``"neb"``, ``"autoneb"``, ``"bezier"``, ``"polygon"``, or one of
            :class:`NudgedElasticBand`, :class:`AutoNEB` and :class:`Curve` with other settings.
        loader: Batches, for an Objective.
        points: At how many places the found path is looked at, at least 2; default 61, as Garipov
            et al. do. The images of a band are looked at besides.
        also: Other closures of the same model to look at, by name: ``{"test": ...}`` gives
            ``"test_loss"``.
        metrics: What is measured beside the loss: ``"accuracy"``, ``"error"``, or name to a
            function of (outputs, targets), averaged over samples.
        recalibrate: Whether BatchNorm's statistics are gathered again at each point looked at, from
            the closure's batches (True) or given ones. None: where the model has such layers in
            evaluation mode. While the path is found, such layers normalise by each batch.
        seed: Of the order of the batches and of the places on a curve.
        folder: Where the state is kept, so that the same call goes on after a kill; None: nowhere.
        progress: Show a progress bar.

    Returns:
        The path with its losses, its saddle and its barrier.

    Raises:
        ValueError: If an argument is outside its range, weights do not fit the model, or the folder
            is of another connection.
        NonFiniteError: If a loss on the path is NaN or infinite while it is looked for.

    Example:
        >>> import torch
        >>> ring = lambda x: (x.norm() - 1) ** 2 + 0.1 * x[1] ** 2
        >>> ends = torch.tensor([1.0, 0.1]).double(), torch.tensor([-1.0, 0.1]).double()
        >>> found = connect(ring, *ends)
        >>> round(found.barrier(), 2), round(found.straight.barrier(), 2)
        (0.1, 0.81)

    References:
        Draxler, Veschgini, Salmhofer and Hamprecht, Essentially no barriers in neural network
        energy landscape, 2018.
        Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, Loss surfaces, mode connectivity, and
        fast ensembling of DNNs, 2018.
    """
    integer_from(2).check("connect", "points", points)
    integer_from(0).check("connect", "seed", seed)
    chosen = _method(method)
    closure = bound_closure(objective, loader, a, "connect")
    ends = flat_weights(a, closure, "connect", "a"), flat_weights(b, closure, "connect", "b")
    terrain = Terrain(closure, also, metrics, recalibrate)
    settings = {"method": type(chosen).__name__, **asdict(chosen), "seed": seed}
    settings |= {"recalibrated": terrain.recalibrates, "batches": len(closure.batches)}
    session = Session(folder, digest(settings, *ends), chosen.total, progress=progress)
    with undisturbed(list(closure.params)), session:
        route = chosen.run(terrain, ends, seed, session)
    return _measured(terrain, route, points, settings, progress=progress)


def _method(method: str | Method) -> Method:
    if not isinstance(method, str):
        if not isinstance(method, Method):
            raise TypeError(f"connect(method={method!r}): a name or a method is needed.")
        return method
    if method not in METHODS:
        raise unknown_name("connect", "method", method, METHODS)
    return METHODS[method]


def _measured(
    terrain: Terrain, route: Route, points: int, settings: dict[str, Any], *, progress: bool
) -> Connection:
    """Look at the path, and at the straight line between its ends."""
    t = np.linspace(0.0, 1.0, points)
    if route.knots is not None:
        t = np.unique(np.concatenate([t, route.knots.cpu().double().numpy()]))
    found = along(terrain, route.at, t, progress=progress)
    a, b = route.at(0.0), route.at(1.0)
    s = np.linspace(0.0, 1.0, points)
    direct = along(terrain, lambda x: a.lerp(b, x), s, progress=progress)
    plain = {
        k: str(v) if isinstance(v, float) and math.isinf(v) else v for k, v in settings.items()
    }
    meta = {"kind": "path", **plain, "steps": route.steps}
    line = Line(t, found, "along the path from a (0) to b (1)", meta)
    label = "from a (0) to b (1)"
    straight = Line(s, direct, label, {"kind": "line", "recalibrated": terrain.recalibrates})
    distance = float((b.double() - a.double()).norm())
    arc, before = [0.0], a
    for x in t[1:]:
        here = route.at(float(x))
        arc.append(arc[-1] + float((here.double() - before.double()).norm()))
        before = here
    place = int(np.argmax(line.loss))
    if route.summit is not None and route.knots is not None:
        place = int(np.searchsorted(t, float(route.knots[route.summit])))
    saddle = _saddle(terrain, route, float(t[place]), float(line.loss[place]))
    return Connection(line, route, np.array(arc), saddle, Interpolation(straight, distance))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same with "inf" for infinity, which JSON has not."""
    infinite = {k: str(v) for k, v in settings.items() if isinstance(v, float) and math.isinf(v)}
    return {**settings, **infinite}


def _saddle(terrain: Terrain, route: Route, t: float, loss: float) -> Saddle:
    point = route.at(t)
    with undisturbed(list(terrain.closure.params)):
        _, slope = terrain.slope(point)
    return Saddle(point, loss, t, float(slope.double().norm()))
