"""The spectral density: how the eigenvalues of an operator are distributed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.curvature.estimate import Estimate, mean_estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.symmetric import check_symmetric, symmetric_product, working_dtype
from thalweg.errors import POSITIVE, integer_from
from thalweg.numerics.lanczos import Tridiagonal, lanczos
from thalweg.numerics.probes import Probes
from thalweg.numerics.quadrature import between, gauss


__all__ = ["Density", "density_of", "spectral_density", "tridiagonals"]


@final
@dataclass(frozen=True)
class Density:
    r"""The density :math:`\frac1n \sum_i \delta(\lambda - \lambda_i)` as seen by random probes.

    Each probe gives a quadrature. Its nodes are not eigenvalues, but integrals over it are those
    over the spectrum, up to the probe's own noise. Whatever is asked of a density is the mean over
    probes with their standard error, which is infinite for a single probe.

    Args:
        nodes: One row a probe, ascending, float64 on the CPU.
        weights: Likewise; each row sums to one. Rows of fewer nodes end in nodes of no weight.
        n: The number of eigenvalues.
        products: Products spent.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> A = Dense(torch.diag(torch.tensor([1.0, 1.0, 2.0, 4.0])))
        >>> d = spectral_density(A, probes=2)
        >>> d.edges, d.mass_below(1.5).value, d.moment(1).value
        ((1.0, 4.0), 0.5, 2.0)
    """

    nodes: Tensor
    weights: Tensor
    n: int
    products: int

    @property
    def edges(self) -> tuple[float, float]:
        """The smallest and the largest node: inside the spectrum, and soon at its ends."""
        return float(self.nodes.min()), float(self.nodes.max())

    def integrate(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        r"""The mean :math:`\frac1n \operatorname{tr} f(A)` of a function over the eigenvalues.

        Args:
            function: f, of a tensor of float64 numbers, entry by entry.

        Returns:
            The estimate; times ``n`` it is the trace.
        """
        return self._mean(self._per_probe(function))

    def moment(self, order: int) -> Estimate:
        r"""The moment :math:`\frac1n \operatorname{tr} A^j`; exact for each probe if j < 2 steps.

        Args:
            order: The power j >= 0.

        Returns:
            The estimate.
        """
        integer_from(0).check("Density.moment", "order", order)
        return self.integrate(lambda x: x**order)

    def moments(self, count: int) -> list[Estimate]:
        """The moments 1, 2, ... ``count``."""
        return [self.moment(order) for order in range(1, count + 1)]

    def mass_below(self, x: float) -> Estimate:
        """The share of eigenvalues below x.

        A step is not resolved finer than the nodes lie: see :meth:`bracket`.

        Args:
            x: The threshold.

        Returns:
            The estimate.
        """
        return self.integrate(lambda nodes: (nodes < x).double())

    def bracket(self, x: float) -> tuple[float, float]:
        """Bounds on what each probe can have below x, averaged over the probes.

        They hold whatever the spectrum is (for exact arithmetic), and do not count the noise of
        the probes, which is the standard error of :meth:`mass_below`.

        Args:
            x: The threshold.

        Returns:
            The bounds, by the inequalities of Chebyshev, Markov and Stieltjes.
        """
        rows = zip(self.nodes.numpy(), self.weights.numpy(), strict=True)
        pairs = np.array([between(nodes, weights, x) for nodes, weights in rows])
        return float(pairs[:, 0].mean()), float(pairs[:, 1].mean())

    def evaluate(self, grid: Tensor, width: float | None = None) -> tuple[Tensor, Tensor]:
        r"""The density smoothed by a Gaussian.

        Args:
            grid: Where to evaluate it: g numbers.
            width: The Gaussian's standard deviation, > 0; default 1 % of the distance between the
                edges.

        Returns:
            The density at the grid, whose integral is one, and its standard error: g numbers each,
            float64 on the CPU.
        """
        low, high = self.edges
        if width is None:
            width = 0.01 * (high - low) or 0.01 * abs(high) or 1.0
        POSITIVE.check("Density.evaluate", "width", width)
        points = torch.as_tensor(grid).detach().double().cpu().reshape(-1)
        apart = (points[None, :, None] - self.nodes[:, None, :]) / width
        heights = torch.exp(-0.5 * apart**2) / (width * math.sqrt(2 * math.pi))
        return self._columns((heights * self.weights[:, None, :]).sum(2))

    def histogram(
        self, bins: int = 100, limits: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The share of eigenvalues in equal bins.

        Args:
            bins: Their number, >= 1.
            limits: The ends of the first and the last bin; default the edges.

        Returns:
            The shares, their standard errors, and the bins + 1 borders.
        """
        integer_from(1).check("Density.histogram", "bins", bins)
        low, high = self.edges if limits is None else limits
        if not low < high:
            low, high = low - 0.5, low + 0.5
        rows = zip(self.nodes.numpy(), self.weights.numpy(), strict=True)
        counts = [np.histogram(x, bins, (low, high), weights=w)[0] for x, w in rows]
        shares, stderr = self._columns(torch.from_numpy(np.array(counts, dtype=float)))
        return shares, stderr, torch.linspace(low, high, bins + 1, dtype=torch.float64)

    def _per_probe(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        values = torch.where(self.weights > 0, function(self.nodes), 0.0)
        return (values * self.weights).sum(1)

    def _mean(self, samples: Tensor) -> Estimate:
        return mean_estimate(samples, self.products, "lanczos quadrature")

    @staticmethod
    def _columns(samples: Tensor) -> tuple[Tensor, Tensor]:
        count = len(samples)
        if count == 1:
            return samples[0], torch.full_like(samples[0], math.inf)
        return samples.mean(0), samples.std(0) / math.sqrt(count)


def spectral_density(
    A: AbstractOperator,
    steps: int = 80,
    probes: int = 1,
    *,
    seed: int | torch.Generator = 0,
    reorthogonalize: bool = False,
    progress: bool = False,
) -> Density:
    r"""The spectral density by stochastic Lanczos quadrature.

    Without re-orthogonalisation a step costs one product and three passes over the parameters, and
    the density is as good: a repeated node shares the weight of the first. More probes help more
    than more steps; the ends of the spectrum are sharp with any.

    Args:
        A: A symmetric operator.
        steps: Lanczos steps, and so products, of each probe; at most n.
        probes: The number of Rademacher probes, >= 1. With two or more there are standard errors.
        seed: An integer, or a generator of the CPU's.
        reorthogonalize: Keep an orthonormal basis of ``steps`` vectors, as costly as cheap
            products; always on where n <= ``steps``.
        progress: Show a progress bar.

    Returns:
        The density.

    Raises:
        ValueError: If A is not symmetric, or an argument is outside its range.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> from thalweg.curvature.operator import Expression
        >>> scale = torch.linspace(-1, 1, 1000)[:, None]
        >>> A = Expression((1000, 1000), lambda v: scale * v, symmetric=True)
        >>> round(float(spectral_density(A, steps=20, probes=4).moment(2)), 3)
        0.334

    References:
        Lin, Saad and Yang, Approximating spectral densities of large matrices, 2016. Ghorbani,
        Krishnan and Xiao, An investigation into neural net optimization via Hessian eigenvalue
        density, 2019.
    """
    integer_from(1).check("spectral_density", "probes", probes)
    runs = tridiagonals(
        A, steps, probes, seed=seed, reorthogonalize=reorthogonalize, progress=progress
    )
    return density_of(list(runs), A.shape[0])


def tridiagonals(
    A: AbstractOperator,
    steps: int,
    most: int,
    *,
    seed: int | torch.Generator,
    reorthogonalize: bool,
    progress: bool = False,
    where: str = "spectral_density",
) -> Iterator[Tridiagonal]:
    """Lanczos runs from one random probe after the other, made as they are asked for."""
    check_symmetric(where, A)
    integer_from(1).check(where, "steps", steps)
    n = A.shape[0]
    probes = Probes(n, "rademacher", seed, working_dtype(A), A.device)
    with symmetric_product(where, A, progress, most * min(steps, n)) as product:
        for _ in range(most):
            start = probes.draw(1)[:, 0]
            yield lanczos(product, start, steps, reorthogonalize=reorthogonalize, where=where)


def density_of(runs: Sequence[Tridiagonal], n: int) -> Density:
    """The density that Lanczos runs from random probes give, one run or more."""
    rules = [gauss(run) for run in runs]
    width = max(len(nodes) for nodes, _ in rules)
    nodes = np.array([np.pad(x, (0, width - len(x)), mode="edge") for x, _ in rules])
    weights = np.array([np.pad(w, (0, width - len(w))) for _, w in rules])
    products = sum(len(x) for x, _ in rules)  # a step, a node, a product
    return Density(torch.from_numpy(nodes), torch.from_numpy(weights), n, products)
