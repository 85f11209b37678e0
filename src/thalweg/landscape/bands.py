r"""The geometry of an elastic band: tangents, forces, spacing, and where it needs more points.

Images :math:`R_0, \dots, R_N` with losses :math:`L_i`. With :math:`\tau^+_i = R_{i+1} - R_i` and
:math:`\tau^-_i = R_i - R_{i-1}`, the tangent is the segment towards the higher neighbour where the
loss is monotone,

.. math::
    \tau_i = \tau^+_i \ \text{ if } L_{i+1} > L_i > L_{i-1}, \qquad
    \tau_i = \tau^-_i \ \text{ if } L_{i+1} < L_i < L_{i-1},

and at an extremum, with :math:`\Delta^{\max}_i` and :math:`\Delta^{\min}_i` the larger and the
smaller of :math:`|L_{i\pm1} - L_i|`,

.. math::
    \tau_i = \tau^+_i \Delta^{\max}_i + \tau^-_i \Delta^{\min}_i
        \ \text{ if } L_{i+1} > L_{i-1}, \quad
    \tau_i = \tau^+_i \Delta^{\min}_i + \tau^-_i \Delta^{\max}_i
        \ \text{ if } L_{i+1} < L_{i-1},

so the larger weight stands with the *higher* neighbour on either side. An image is moved by the
slope across the band and by springs along it; the climbing image by the slope with its part along
the band turned round.

References:
    Henkelman and Jonsson, Improved tangent estimate in the nudged elastic band method for finding
    minimum energy paths and saddle points, 2000.
    Henkelman, Uberuaga and Jonsson, A climbing image nudged elastic band method, 2000.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


__all__ = ["arc_fractions", "band_forces", "new_places", "on_polyline", "respaced", "tangents"]


def tangents(points: Tensor, losses: Tensor) -> Tensor:
    """Unit tangents at the images between the ends.

    Args:
        points: (N + 1, n) the images, ends included.
        losses: (N + 1,) their losses.

    Returns:
        (N - 1, n) the tangents, of length 1 (0 where neighbours coincide).

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
        >>> tangents(points, torch.tensor([0.0, 1.0, 2.0])).tolist()
        [[0.0, 1.0]]
        >>> tangents(points, torch.tensor([2.0, 1.0, 0.0])).tolist()
        [[1.0, 0.0]]
    """
    ahead, behind = points[2:] - points[1:-1], points[1:-1] - points[:-2]
    rise, fall = losses[2:] - losses[1:-1], losses[1:-1] - losses[:-2]
    large = torch.maximum(rise.abs(), fall.abs())
    small = torch.minimum(rise.abs(), fall.abs())
    # Where both neighbours are equally high, neither is preferred.
    level = losses[2:] == losses[:-2]
    large = torch.where(level, torch.ones_like(large), large)
    small = torch.where(level, torch.ones_like(small), small)
    upward = losses[2:] >= losses[:-2]
    weight_ahead = torch.where(upward, large, small)
    weight_behind = torch.where(upward, small, large)
    climbs, falls = (rise > 0) & (fall > 0), (rise < 0) & (fall < 0)
    one, zero = torch.ones_like(large), torch.zeros_like(large)
    weight_ahead = torch.where(climbs, one, torch.where(falls, zero, weight_ahead))
    weight_behind = torch.where(climbs, zero, torch.where(falls, one, weight_behind))
    found = weight_ahead[:, None] * ahead + weight_behind[:, None] * behind
    return found / found.norm(dim=1, keepdim=True).clamp_min(torch.finfo(found.dtype).tiny)


def band_forces(
    points: Tensor,
    losses: Tensor,
    slopes: Tensor,
    spring: float = math.inf,
    climbing: int | None = None,
) -> Tensor:
    r"""What moves the images between the ends.

    .. math:: F_i = -(g_i - (g_i^\top \tau_i) \tau_i)
        + k (\|R_{i+1} - R_i\| - \|R_i - R_{i-1}\|) \tau_i

    and for the climbing image :math:`F_c = -g_c + 2 (g_c^\top \tau_c) \tau_c`.

    Args:
        points: (N + 1, n) the images, ends included.
        losses: (N + 1,) their losses.
        slopes: (N - 1, n) gradients at the images between the ends.
        spring: k; infinite: no spring, for images that are spaced again after each step.
        climbing: Which image climbs, counted from the first end; None: none.

    Returns:
        (N - 1, n) the forces.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
        >>> losses, slopes = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([[1.0, 1.0]])
        >>> band_forces(points, losses, slopes).tolist()
        [[0.0, -1.0]]
        >>> band_forces(points, losses, slopes, spring=2.0).tolist()
        [[2.0, -1.0]]
        >>> band_forces(points, losses, slopes, climbing=1).tolist()
        [[1.0, -1.0]]
    """
    unit = tangents(points, losses)
    along = (slopes * unit).sum(1, keepdim=True)
    forces = along * unit - slopes
    if math.isfinite(spring):
        gaps = (points[1:] - points[:-1]).norm(dim=1)
        forces = forces + spring * (gaps[1:] - gaps[:-1])[:, None] * unit
    if climbing is not None:
        i = climbing - 1
        forces[i] = 2 * along[i] * unit[i] - slopes[i]
    return forces


def arc_fractions(points: Tensor) -> Tensor:
    """(N + 1,) how far along the polyline each image is, from 0 to 1, in float64.

    Example:
        >>> arc_fractions(torch.tensor([[0.0], [1.0], [4.0]])).tolist()
        [0.0, 0.25, 1.0]
    """
    gaps = (points[1:] - points[:-1]).norm(dim=1).double()
    reached = torch.cat([gaps.new_zeros(1), gaps.cumsum(0)])
    if not reached[-1] > 0:
        return torch.linspace(0, 1, len(points), dtype=torch.float64, device=points.device)
    reached = reached / reached[-1]
    reached[-1] = 1.0
    return reached


def on_polyline(points: Tensor, knots: Tensor, t: Tensor) -> Tensor:
    """Points of the polyline, linear between images that stand at ``knots``.

    Args:
        points: (N + 1, n) the images.
        knots: (N + 1,) where they stand, ascending from 0 to 1.
        t: (m,) places in [0, 1].

    Returns:
        (m, n) the points.

    Example:
        >>> points, knots = torch.tensor([[0.0], [2.0], [3.0]]), torch.tensor([0.0, 0.5, 1.0])
        >>> on_polyline(points, knots, torch.tensor([0.25, 1.0])).flatten().tolist()
        [1.0, 3.0]
    """
    right = torch.searchsorted(knots, t.clamp(0.0, 1.0)).clamp(1, len(points) - 1)
    width = (knots[right] - knots[right - 1]).clamp_min(1e-300)
    share = ((t - knots[right - 1]) / width).to(points.dtype)[:, None]
    return torch.lerp(points[right - 1], points[right], share)


def respaced(points: Tensor, fractions: Tensor, fixed: int | None = None) -> Tensor:
    """The images moved along the polyline, so that they stand at given fractions of its length.

    Args:
        points: (N + 1, n) the images.
        fractions: (N + 1,) where they are to stand, ascending from 0 to 1.
        fixed: An image that stays where it is: the parts on both sides are spaced by themselves.

    Example:
        >>> respaced(torch.tensor([[0.0], [1.0], [4.0]]), torch.tensor([0.0, 0.5, 1.0])).flatten()
        tensor([0., 2., 4.])
    """
    if fixed is not None:
        at = fractions[fixed]
        before = respaced(points[: fixed + 1], fractions[: fixed + 1] / at)
        after = respaced(points[fixed:], (fractions[fixed:] - at) / (1 - at))
        return torch.cat([before, after[1:]])
    moved = on_polyline(points, arc_fractions(points), fractions.double())
    moved[0], moved[-1] = points[0], points[-1]
    return moved


def new_places(
    knots: Tensor, inner: Tensor, losses: Tensor, between: Tensor, threshold: float, most: int
) -> Tensor:
    r"""Where a band that was relaxed misses what the loss does between its images.

    In each segment the score of a point is :math:`(L - \bar L) / (L_{\max} - L_{\min})` with
    :math:`\bar L` the line through the losses of the two images. The best point of a segment is
    taken where its score is above the threshold; of more than ``most``, the highest.

    Args:
        knots: (N + 1,) where the images stand.
        inner: (m,) relative places within a segment, in (0, 1).
        losses: (N + 1,) losses of the images.
        between: (N, m) losses at those places.
        threshold: The score above which an image is missing; 0.1 by Draxler et al.
        most: The most places that are returned.

    Returns:
        The places, ascending.

    Example:
        >>> knots, losses = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 1.0, 0.0])
        >>> between = torch.tensor([[0.5], [0.9]])
        >>> new_places(knots, torch.tensor([0.5]), losses, between, 0.1, 5).tolist()
        [0.75]
    """
    straight = torch.lerp(losses[:-1, None], losses[1:, None], inner[None])
    every = torch.cat([losses, between.flatten()])
    scale = (every.max() - every.min()).clamp_min(torch.finfo(losses.dtype).tiny)
    score, place = ((between - straight) / scale).max(dim=1)
    segments = (score > threshold).nonzero().flatten()
    best = segments[score[segments].argsort(descending=True)][:most].sort().values
    return torch.lerp(knots[best], knots[best + 1], inner[place[best]].to(knots))
