r"""One plane for several paths, and what random walks would show in such a plane.

The principal directions of all recorded points together, measured from the end of one path. As for
a single path, walks without any aim fill much of such a plane: k independent walks from one start
have :math:`\operatorname{E}\langle x_i(s), x_j(t) \rangle \propto \delta_{ij} \min(s, t)`, and the
eigenvalues of that matrix, measured from the same end, are given beside the paths' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from thalweg.errors import bad_argument, integer_from
from thalweg.landscape.directions import Axes
from thalweg.landscape.directions_pca import pca_axes
from thalweg.landscape.recording import MemoryRows, Recording
from thalweg.landscape.trajectory import Trajectory
from thalweg.objective import AbstractClosure


__all__ = ["thinned", "walks_axes"]

_SHOWN = 5


def thinned(path: Trajectory | Recording, most: int = 100) -> Recording:
    """A recording with at most so many of its points, the first and the last among them.

    Every point of a path on a plane costs a forward pass for its true loss.

    Args:
        path: A Trajectory or a Recording.
        most: How many, at least 2.

    Raises:
        ValueError: If ``most`` is below 2 or nothing was recorded.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.zeros(1))
        >>> trajectory = Trajectory([x])
        >>> for _ in range(10):
        ...     trajectory.step()
        >>> thinned(trajectory, most=3).steps.tolist()
        [0, 5, 10]
    """
    integer_from(2).check("thinned", "most", most)
    recording = path.recording if isinstance(path, Trajectory) else path
    count = len(recording)
    if not count:
        raise bad_argument("thinned", "path", "no points", "a recording with points")
    kept = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    rows = MemoryRows(recording.rows[0][2].dtype)
    for k in kept:
        rows.append(*recording.rows[int(k)])
    return Recording(rows, recording.shapes, recording.names)


def walks_axes(closure: AbstractClosure, walks: Mapping[str, Trajectory | Recording]) -> Axes:
    """The two directions in which several paths vary most, from the end of the first.

    Args:
        closure: Whose parameters.
        walks: Recordings by name; of several that do not begin at one point, the random walks'
            variance is left out.

    Returns:
        The axes, with a window around all paths.

    Raises:
        ValueError: If there is no path, or fewer than three points.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([2.0, 1.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: (x**2).sum()).closure(x)
        >>> optimizer = torch.optim.SGD([x], lr=0.3, momentum=0.5)
        >>> with Trajectory(optimizer) as walk:
        ...     for _ in range(3):
        ...         _ = optimizer.step(closure)
        >>> axes = walks_axes(closure, {"sgd": walk})
        >>> axes.meta["paths"], bool((axes.centre[0] == x).all())
        (['sgd'], True)
    """
    if not walks:
        raise bad_argument("walks_axes", "walks", walks, "one path or more")
    held = [w.recording if isinstance(w, Trajectory) else w for w in walks.values()]
    if len(held) == 1:
        axes = pca_axes(closure, held[0])
        return _named(axes, walks, axes.meta["random_walk_variance"])
    ordered = [*held[1:], held[0]]  # the centre is the last point
    axes = pca_axes(closure, [point for walk in ordered for point in walk.points()])
    starts = [walk.rows[0][2] for walk in held]
    same = all(start.equal(starts[0]) for start in starts[1:])
    return _named(axes, walks, _random([walk.steps for walk in ordered]) if same else [])


def _named(axes: Axes, walks: Mapping[str, object], beside: Sequence[float]) -> Axes:
    meta = {**axes.meta, "paths": list(walks), "random_walk_variance": list(beside)[:_SHOWN]}
    return Axes(axes.centre, axes.directions, axes.labels, axes.window, meta)


def _random(walks: Sequence[np.ndarray]) -> list[float]:
    """The shares of variance of independent random walks with these steps."""
    inner = np.zeros((sum(map(len, walks)),) * 2)
    start = 0
    for steps in walks:
        times, end = steps.astype(float) - float(steps[0]), start + len(steps)
        inner[start:end, start:end] = np.minimum(times[:, None], times)
        start = end
    from_end = inner - inner[-1] - inner[:, -1:] + inner[-1, -1]
    values = np.linalg.eigvalsh(from_end)[::-1].clip(0.0)
    return (values / values.sum()).tolist() if values.sum() > 0 else []
