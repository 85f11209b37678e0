"""Both ends of a spectrum, its density, trace, index and condition: exact where n is small."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.curvature.density import Density, spectral_density
from thalweg.curvature.eigen import Eigenpairs, eigsh
from thalweg.curvature.measured import Quantity
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.trace import trace


__all__ = ["Spectrum", "end_of", "spectrum_of"]

SMALL = 512  # parameters up to which the matrix itself is looked at


@final
@dataclass(frozen=True)
class Spectrum:
    """What is known of the eigenvalues of a symmetric operator.

    Args:
        largest: The largest.
        smallest: The smallest.
        top: The eigenvector of the largest.
        bottom: The eigenvector of the smallest.
        tolerance: Eigenvalues this near to zero count as zero.
        index: The number below ``-tolerance``.
        inside: The share within the tolerance.
        trace: Their sum.
        condition: The largest over the smallest above the tolerance; None where none is.
        nodes: Of the density, a row a probe.
        weights: Of the nodes; each row sums to 1.
        n: How many eigenvalues there are.
    """

    largest: Quantity
    smallest: Quantity
    top: Tensor
    bottom: Tensor
    tolerance: float
    index: Quantity
    inside: Quantity
    trace: Quantity
    condition: Quantity | None
    nodes: Tensor
    weights: Tensor
    n: int

    def above(self, value: float) -> float:
        """About how many eigenvalues are above a value."""
        beyond = (self.nodes > value).to(self.weights.dtype)
        return self.n * float((self.weights * beyond).sum(1).mean())


def spectrum_of(
    hessian: AbstractOperator,
    *,
    tolerance: float,
    steps: int = 80,
    probes: int = 3,
    trace_error: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> Spectrum:
    """Measure a spectrum.

    Args:
        hessian: A symmetric operator.
        tolerance: Share of the largest absolute eigenvalue within which one counts as zero.
        steps: Lanczos steps of the density.
        probes: Runs of the density.
        trace_error: Relative standard error at which the trace is good enough.
        seed: Of all random vectors.
        progress: Show progress bars.

    Returns:
        The spectrum; exact, from n products, where n is at most 512.
    """
    if hessian.shape[0] <= SMALL:
        return _exact(hessian, tolerance)
    high = eigsh(hessian, 1, "LA", seed=seed, progress=progress)
    low = eigsh(hessian, 1, "SA", tol=0.1, max_products=100, seed=seed, progress=progress)
    density = spectral_density(hessian, steps, probes, seed=seed, progress=progress)
    high = _confirmed(hessian, high, "LA", float(density.nodes.max()), seed)
    low = _confirmed(hessian, low, "SA", float(density.nodes.min()), seed)
    largest, smallest = end_of(high), end_of(low)
    size = max(abs(largest.value), abs(smallest.value))
    zero = tolerance * size
    index, inside = _counts(density, zero, smallest.value)
    summed = trace(hessian, target=trace_error, max_products=60, seed=seed, progress=progress)
    condition = _condition(largest, smallest, zero, density)
    return Spectrum(
        largest,
        smallest,
        high.vectors[:, 0],
        low.vectors[:, 0],
        zero,
        index,
        inside,
        Quantity.of(summed),
        condition,
        density.nodes,
        density.weights,
        hessian.shape[0],
    )


def _confirmed(
    hessian: AbstractOperator, pair: Eigenpairs, which: str, seen: float, seed: int
) -> Eigenpairs:
    """The eigenpair, looked for again where a node of the density lies beyond it.

    A few products can settle on a neighbour of the end that is looked for. Nodes of independent
    Lanczos runs never lie beyond the true end, so one that lies beyond the found one tells.
    """
    sign = 1.0 if which == "LA" else -1.0
    value, error = float(pair.values[0]), float(pair.errors[0])
    if sign * (seen - value) <= 2 * error + 1e-6 * abs(value):
        return pair
    again = eigsh(hessian, 1, which, tol=1e-3, max_products=200, seed=seed + 1)
    return again if sign * (float(again.values[0]) - value) > 0 else pair


def _exact(hessian: AbstractOperator, tolerance: float) -> Spectrum:
    """From the matrix itself."""
    n = hessian.shape[0]
    matrix = hessian.to_dense().double().cpu()
    matrix = (matrix + matrix.T) / 2
    values, vectors = torch.linalg.eigh(matrix)
    vectors = vectors.to(hessian.device, hessian.dtype)
    size = float(values.abs().max())
    rounding = n * torch.finfo(hessian.dtype).eps * size
    zero = max(tolerance * size, rounding)
    positive = values[values > zero]

    def known(value: float, products: int = 0, error: float = rounding) -> Quantity:
        return Quantity(value, error, products, "dense eigenvalues")

    return Spectrum(
        known(float(values[-1]), n),
        known(float(values[0])),
        vectors[:, -1],
        vectors[:, 0],
        zero,
        Quantity(count := float((values < -zero).sum()), 0.0, 0, "counted", count, count),
        Quantity(
            flat := float((values.abs() <= zero).double().mean()), 0.0, 0, "counted", flat, flat
        ),
        known(float(values.sum())),
        known(float(values[-1] / positive[0]), error=0.0) if len(positive) else None,
        values[None],
        torch.full((1, n), 1.0 / n, dtype=torch.float64),
        n,
    )


def end_of(pair: Eigenpairs) -> Quantity:
    """The first eigenvalue with its error and cost."""
    return Quantity(float(pair.values[0]), float(pair.errors[0]), pair.products, "lanczos")


def _counts(density: Density, zero: float, smallest: float) -> tuple[Quantity, Quantity]:
    """The number of eigenvalues below ``-zero``, and the share within; with bounds.

    A step is seen no finer than the nodes lie, which the bounds count in, and so do they twice the
    spread of the probes.
    """
    n, spent = density.n, density.products
    below = density.mass_below(-zero)
    within = density.integrate(lambda nodes: (nodes.abs() <= zero).double())
    (least, most), (under, over) = density.bracket(-zero), density.bracket(zero)
    errors = [_finite(n * float(below.stderr)), _finite(float(within.stderr))]
    low, high = n * least - 2 * (errors[0] or 0.0), n * most + 2 * (errors[0] or 0.0)
    count = n * float(below.value)
    if smallest < -zero:  # λ_min is at most its Ritz value: there is one for certain
        count, low = max(count, 1.0), max(low, 1.0)
    index = Quantity(count, errors[0], spent, below.method, max(low, 0.0), min(high, float(n)))
    spread = 2 * (errors[1] or 0.0)
    ends = max(under - most - spread, 0.0), min(over - least + spread, 1.0)
    return index, Quantity(float(within.value), errors[1], 0, within.method, *ends)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _condition(
    largest: Quantity, smallest: Quantity, zero: float, density: Density
) -> Quantity | None:
    """The condition number of the part above ``zero``: known, or bounded from both sides.

    Between two neighbouring nodes of a Lanczos run there is an eigenvalue, so the smallest one
    above ``zero`` is at most the second node above it.
    """
    if largest.value <= zero:
        return None
    if smallest.value - (smallest.error or 0.0) > zero:
        value = largest.value / smallest.value
        parts = [(q.error or 0.0) / abs(q.value) for q in (largest, smallest)]
        return Quantity(value, value * sum(parts), 0, "λ_max / λ_min")
    second = largest.value
    for row, weights in zip(density.nodes, density.weights, strict=True):
        above = row[(row > zero) & (weights > 0)].sort().values
        if len(above) > 1:
            second = min(second, float(above[1]))
    low, high = largest.value / second, largest.value / zero
    return Quantity(low, None, 0, "at least, by the nodes of the density", low, high)
