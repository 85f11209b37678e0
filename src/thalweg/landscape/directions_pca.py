r"""The plane in which a path moves most, and what a random walk would show in such a plane.

With :math:`M` the rows :math:`\theta_t - \theta_c`, the principal directions are the right singular
vectors of M. They come from the small matrix :math:`M M^\top` (a row for each point), never from
a matrix of the size of the parameters.

A warning goes with the picture. The principal directions of a *random walk* of n steps in high
dimension explain

.. math:: \frac{6}{\pi^2 k^2}: \quad 61\,\%,\ 15\,\%,\ 7\,\%, \dots

of its variance (81 %, 9 %, 3 % measured from its last point). "Two directions explain 90 %" is
therefore no evidence of a simple path, and the walk's numbers are always given beside the path's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import bad_argument, one_of
from thalweg.landscape.directions import Axes, Weights, as_vector, window_around
from thalweg.landscape.recording import Recording
from thalweg.landscape.trajectory import Trajectory
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["pca_axes", "random_walk_variance"]

_CENTRES = ("final", "mean")
_COLUMNS = 2**18  # parameters that are looked at at a time
_FLAT = 1e-12  # of the first eigenvalue: a path without a second direction
_SHOWN = 5


def random_walk_variance(steps: int | Sequence[int], centre: str = "mean") -> np.ndarray:
    r"""The shares of variance that principal components explain of a random walk.

    In high dimension the inner products of a walk's points are :math:`\min(s_i, s_j)` times a
    constant; the shares are the eigenvalues of that matrix, centred. For many equal steps they are
    :math:`6 / (\pi k)^2` about the mean, and :math:`8 / (\pi (2 k - 1))^2` about the last point.

    Args:
        steps: The number of steps of the walk, or the step at which each point was recorded.
        centre: ``"mean"`` or ``"final"``: what the points are measured from.

    Returns:
        The shares, falling; they add up to 1.

    Raises:
        ValueError: If there are fewer than two points, or ``centre`` is unknown.

    Example:
        >>> random_walk_variance(300)[:3].round(3).tolist()
        [0.608, 0.152, 0.068]
        >>> random_walk_variance(300, "final")[:2].round(2).tolist()
        [0.81, 0.09]

    References:
        Antognini and Sohl-Dickstein, PCA of high dimensional random walks with comparison to
        neural network training, 2018.
    """
    one_of(*_CENTRES).check("random_walk_variance", "centre", centre)
    times = np.arange(steps + 1) if isinstance(steps, int) else np.asarray(steps)
    times = times.astype(np.float64) - times[0]
    if len(times) < 2 or not (np.diff(times) >= 0).all() or times[-1] <= 0:
        raise bad_argument("random_walk_variance", "steps", steps, "two growing steps at least")
    values = np.linalg.eigvalsh(_centred(np.minimum(times[:, None], times), centre))[::-1]
    return np.clip(values, 0.0, None) / values.clip(0.0).sum()


def pca_axes(
    closure: AbstractClosure,
    points: Trajectory | Recording | Sequence[Weights],
    *,
    centre: str = "final",
    steps: Sequence[int] | None = None,
) -> Axes:
    """The two directions in which a path varies most, of length 1.

    Args:
        closure: Whose parameters.
        points: A Trajectory, or the recorded weights in order, at least three: flat tensors,
            Vectors or lists of tensors, on any device.
        centre: ``"final"`` measures from the last point, as Li et al. do; ``"mean"`` from the mean,
            as principal component analysis does. The picture's centre is the same point.
        steps: The step at which each point was recorded; None takes a Trajectory's own, else equal
            distances.

    Returns:
        The axes, with a window around the path. ``meta`` has ``explained_variance`` of the first
        components and ``random_walk_variance`` beside it.

    Raises:
        ValueError: If there are fewer than three points, one is not finite, or the path does not
            move.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(3, requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> path = [torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 0.5, 0.0]), torch.zeros(3)]
        >>> axes = pca_axes(closure, path)
        >>> [round(share, 3) for share in axes.meta["explained_variance"][:2]]
        [0.962, 0.038]

    References:
        Li, Xu, Taylor, Studer and Goldstein, Visualizing the loss landscape of neural nets,
        section 7, 2018.
    """
    where = "pca_axes"
    one_of(*_CENTRES).check(where, "centre", centre)
    if isinstance(points, Trajectory):
        points = points.recording
    if isinstance(points, Recording):
        steps = points.steps.tolist() if steps is None else steps
        points = list(points.points())
    if len(points) < 3:
        raise bad_argument(where, "points", f"{len(points)} points", "three points at least")
    if steps is not None and len(steps) != len(points):
        raise bad_argument(where, "steps", f"{len(steps)} steps", f"{len(points)}, one a point")
    like = closure.params
    flats = [_flat(where, closure, point) for point in points]
    gram = sum(block @ block.T for _, block in _blocks(flats))
    gram = _centred(np.asarray(gram), centre)
    if not np.isfinite(gram).all():
        raise bad_argument(where, "points", "NaN or infinite weights", "finite")
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1].clip(0.0), vectors[:, ::-1]
    if not values[0] > 0:
        raise bad_argument(where, "points", "the same weights at every step", "a path that moves")
    straight = values[1] <= _FLAT * values[0]
    middle = _weights(len(flats), centre)
    first, second, start = _combined(flats, values, vectors, middle)
    if straight:
        second = _beside(first)
    made = tuple(as_vector(where, like, axis) for axis in (first, second))
    start_at = as_vector(where, like, start)
    shares, walk = values / values.sum(), random_walk_variance(steps or len(flats) - 1, centre)
    labels = (
        f"principal direction 1 ({shares[0]:.0%} of variance)",
        "random direction (the path is straight)"
        if straight
        else f"principal direction 2 ({shares[1]:.0%} of variance)",
    )
    meta = {
        "kind": "pca",
        "measured_from": centre,
        "points": len(flats),
        "explained_variance": shares[:_SHOWN].tolist(),
        "random_walk_variance": walk[:_SHOWN].tolist(),
    }
    axes = Axes(start_at, made, labels, None, meta)
    window = window_around(axes.project(flats)[0])
    return Axes(start_at, made, labels, window, meta)


def _flat(where: str, closure: AbstractClosure, point: Weights) -> Tensor:
    """A recorded point as it lies, without a copy where it is flat already."""
    flat = point.flat if isinstance(point, Vector) else point
    if isinstance(flat, Tensor) and flat.ndim == 1 and flat.numel() == closure.params.numel():
        return flat.detach()
    return torch.cat([part.reshape(-1) for part in as_vector(where, closure, point)])


def _blocks(flats: list[Tensor]) -> Iterator[tuple[slice, np.ndarray]]:
    """The points' entries in float64, some columns at a time."""
    last = flats[-1]
    for start in range(0, last.numel(), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        # About the last point: what all points share would drown the differences.
        rows = [flat[part].double().cpu() - last[part].double().cpu() for flat in flats]
        yield part, torch.stack(rows).numpy()


def _weights(n: int, centre: str) -> np.ndarray:
    """The centre as a combination of the points."""
    if centre == "mean":
        return np.full(n, 1.0 / n)
    return np.eye(n)[-1]


def _centred(gram: np.ndarray, centre: str) -> np.ndarray:
    """The inner products about the centre: C G C^T with C = I - 1 w^T."""
    n = len(gram)
    centring = np.eye(n) - _weights(n, centre)
    return centring @ gram @ centring.T


def _combined(
    flats: list[Tensor], values: np.ndarray, vectors: np.ndarray, middle: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """The first two right singular vectors, and the centre; each starts on the positive side."""
    n = len(flats)
    centring = np.eye(n) - middle
    scale = np.sqrt(np.maximum(values[:2], np.finfo(np.float64).tiny))
    coefficients = (vectors[:, :2] / scale).T @ centring
    signs = np.where((vectors[0, :2] * scale) < 0, -1.0, 1.0)
    rows = np.vstack([coefficients * signs[:, None], middle])
    made = np.empty((3, flats[0].numel()))
    for part, block in _blocks(flats):
        made[:, part] = rows @ block
        made[2, part] += flats[-1][part].double().cpu().numpy()
    first, second, start = (torch.from_numpy(row) for row in made)
    return first, second, start


def _beside(first: Tensor) -> Tensor:
    """A random direction at a right angle."""
    other = torch.randn(
        first.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    other -= (other @ first) / (first @ first) * first
    return other / other.norm()
