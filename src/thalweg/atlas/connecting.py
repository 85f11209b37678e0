"""What lies between two sets of weights: the straight line, a path around it, and their plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.atlas.views import Frame, View, loss_of, measure
from thalweg.landscape import (
    Axes,
    Connection,
    Recording,
    axes_along,
    axes_through,
    connect,
    random_axes,
)
from thalweg.landscape.recording import MemoryRows
from thalweg.objective import AbstractClosure
from thalweg.setting import Setting, load_checkpoint
from thalweg.study.statistics import number


__all__ = ["between"]

_POINTS = 41  # of a path on the plane
_STRAIGHT = 1e-3  # of the distance between the ends: a path that bends less is straight


def between(
    setting: Setting,
    first: str | Path,
    second: str | Path,
    method: str = "bezier",
    frame: Frame | None = None,
) -> View:
    """Look for a path of low loss between two checkpoints, and draw it beside the straight line.

    Args:
        setting: Whose model and loss.
        first: A file of weights.
        second: Another.
        method: As :func:`thalweg.landscape.connect` takes it by name.
        frame: How the picture is taken; its plane goes through both and the path's farthest point.

    Returns:
        The view, with losses along both paths, on training and on validation data.

    Raises:
        ValueError: If a checkpoint does not fit the model, or there is no such method.
    """
    frame = frame or Frame()
    loss = loss_of(setting)
    ends = _weights(setting, first, loss), _weights(setting, second, loss)
    found = connect(
        loss,
        *ends,
        method,
        also=_validation(setting),
        seed=frame.seed,
        progress=bool(frame.progress),
    )
    names = _names(first, second)
    axes = _axes(loss, found, names, method, frame.seed)
    share = np.linspace(0.0, 1.0, _POINTS)
    straight = [ends[0].lerp(ends[1], float(t)) for t in share]
    curve = [found.at(float(t)) for t in share]
    paths = {
        "straight": _recording(loss, straight, share),
        method: _recording(loss, curve, share),
    }
    surface = measure(loss, frame, axes, frame.span, paths)
    surface.meta["along"] = "percent of the path"
    lines = {"straight": found.straight.line, method: found.line}
    return View(surface, lines, (_sentence(found, method),), _facts(found, method, names))


def _weights(setting: Setting, place: str | Path, loss: AbstractClosure) -> Tensor:
    load_checkpoint(place, setting.model, option="--connect")
    return torch.cat([p.detach().reshape(-1) for p in loss.params]).clone()


def _validation(setting: Setting) -> dict[str, AbstractClosure]:
    """The loss on as many validation samples as are looked at in training."""
    data = setting.problem.data
    if data is None:
        return {}
    count = sum(len(x) for x, _ in setting.batches)
    inputs, targets = data.of("validation")
    return {"validation": setting.objective.closure(inputs[:count], targets[:count])}


def _names(first: str | Path, second: str | Path) -> tuple[str, str]:
    a, b = Path(first).stem, Path(second).stem
    return (a, b) if a != b else (f"{a} (first)", f"{b} (second)")


def _axes(
    loss: AbstractClosure, found: Connection, names: tuple[str, str], method: str, seed: int
) -> Axes:
    """The plane through both ends and the point of the path farthest from the line between them."""
    a, b = found.at(0.0), found.at(1.0)
    across = (b - a).double()
    best, far = None, 0.0
    for t in np.linspace(0, 1, 21)[1:-1]:
        away = (found.at(float(t)) - a).double()
        off = float((away - (away @ across) / (across @ across) * across).norm())
        if off > far:
            best, far = found.at(float(t)), off
    length = float(across.norm())
    if best is not None and far > _STRAIGHT * length:
        return axes_through(loss, a, b, best, labels=(*names, f"the path ({method})"))
    beside = random_axes(loss, "unit", count=1, seed=seed, centre=a).directions[0]
    unit = (b - a) / length
    labels = (f"{names[0]} to {names[1]}", "random direction (the path is straight)")
    axes = axes_along(loss, unit, beside, labels=labels, centre=a)
    window = ((-0.25 * length, 1.25 * length), (-0.5 * length, 0.5 * length))
    return Axes(axes.centre, axes.directions, axes.labels, window, axes.meta)


def _recording(loss: AbstractClosure, points: list[Tensor], share: np.ndarray) -> Recording:
    """Points of a path with percent of the way in the place of steps."""
    rows = MemoryRows(torch.float32)
    for t, point in zip(share, points, strict=True):
        rows.append(round(100 * float(t)), float("nan"), point)
    return Recording(rows, [tuple(part.shape) for part in loss.params], loss.names)


def _sentence(found: Connection, method: str) -> str:
    straight, curve = found.straight.barrier(), found.barrier()
    return (
        f"The straight line climbs {number(straight, 3)} above the mean loss of its ends; the path "
        f"found ({method}) climbs {number(curve, 3)} (convention of Frankle et al. 2020)."
    )


def _facts(found: Connection, method: str, names: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    def both(value: Any) -> str:
        return f"straight {number(value(found.straight), 3)}, {method} {number(value(found), 3)}"

    return (
        ("Between", f"{names[0]} and {names[1]}, {number(found.straight.distance, 4)} apart"),
        ("Path", f"{method}, length {number(found.length, 4)}"),
        ("Barrier, Frankle et al. 2020", both(lambda path: path.barrier("frankle"))),
        ("Barrier, Entezari et al. 2021", both(lambda path: path.barrier("entezari"))),
        ("Barrier over the worse end", both(lambda path: path.barrier("max-endpoint"))),
        (
            "Highest point",
            f"loss {number(found.saddle.loss, 4)} at {found.saddle.t:.0%} of the path, gradient "
            f"norm {number(found.saddle.gradient_norm, 3)}",
        ),
    )
