r"""The gradient noise scale: the batch size up to which larger batches pay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from rich.progress import track
from torch import Tensor

from thalweg.curvature.estimate import Estimate, t_quantile
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.sample_gradients import SampleGradients, seeded
from thalweg.errors import NonFiniteError, bad_argument, integer_from, one_of
from thalweg.numerics.tall import column_dots
from thalweg.objective import AbstractClosure
from thalweg.objective.program import ModelProgram
from thalweg.objective.rows import row_count


__all__ = ["NoiseScale", "noise_scale"]

METHODS = ("per-sample", "batches")
_KEPT = 2**29  # bytes of gradients that are kept instead of being computed twice


@final
@dataclass(frozen=True)
class NoiseScale:
    r"""A noise scale :math:`\mathcal B`, a ratio of two estimates.

    Args:
        noise: :math:`\operatorname{tr}\Sigma`, the summed variance of one sample's gradient; with
            an operator :math:`\operatorname{tr} H\Sigma`.
        signal: :math:`|G|^2`, the squared norm of the expected gradient, freed of the noise's part;
            with an operator :math:`G^\top H G`.
        covariance: Of the two estimates' errors.
        products: Products with the operator.
        method: How it was estimated.
        samples: The number of samples, or batches, that were compared.

    Example:
        >>> known = Estimate(100.0, 0.0, 0, "exact", 50), Estimate(4.0, 0.0, 0, "exact", 50)
        >>> noise = NoiseScale(*known, covariance=0.0, products=0, method="exact", samples=50)
        >>> noise.value, noise.batch(0.5), noise.progress(75)
        (25.0, 25.0, 0.75)
    """

    noise: Estimate
    signal: Estimate
    covariance: float
    products: int
    method: str
    samples: int

    @property
    def value(self) -> float:
        """The ratio; infinite where no signal was found."""
        signal = float(self.signal.value)
        return float(self.noise.value) / signal if signal > 0 else math.inf

    @property
    def stderr(self) -> float:
        """Its standard error by the delta method; :meth:`interval` is better where it is large."""
        if not math.isfinite(self.value):
            return math.inf
        return math.sqrt(max(0.0, self._variance(self.value))) / float(self.signal.value)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        r"""Fieller's interval of a ratio; its upper end is infinite where the signal may be zero.

        It holds every b for which :math:`\operatorname{tr}\Sigma - b\,|G|^2` may be zero.

        Raises:
            ValueError: If the confidence is not in (0, 1).
        """
        t = t_quantile(confidence, self.samples - 1)
        # The squared norm is not negative, whatever its unbiased estimate is.
        top, bottom = float(self.noise.value), max(0.0, float(self.signal.value))
        # a b^2 - 2 h b + c <= 0
        a = bottom**2 - (t * float(self.signal.stderr)) ** 2
        h = top * bottom - t**2 * self.covariance
        c = top**2 - (t * float(self.noise.stderr)) ** 2
        root = math.sqrt(max(0.0, h * h - a * c))
        if a > 0:
            return max(0.0, (h - root) / a), (h + root) / a
        if a == 0 or c <= 0 or h * h <= a * c:
            return 0.0, math.inf
        return max(0.0, (h - root) / a), math.inf

    def batch(self, share: float = 0.5) -> float:
        r"""The batch size at which a step gets ``share`` of the progress that a full gradient gets.

        At its own step length each, :math:`B = \mathcal B\,s / (1 - s)`. Half of it, at
        :math:`B = \mathcal B`, is the usual compromise between steps and samples.

        Raises:
            ValueError: If the share is not in (0, 1).
        """
        if not 0.0 < share < 1.0:
            raise bad_argument("NoiseScale.batch", "share", share, "a number in (0, 1)")
        return self.value * share / (1.0 - share)

    def progress(self, batch: float) -> float:
        r"""The share of a full gradient's progress at a batch size: :math:`1/(1+\mathcal B/B)`."""
        return 1.0 / (1.0 + self.value / batch)

    def _variance(self, ratio: float) -> float:
        """Of noise - ratio * signal."""
        squared = float(self.noise.stderr) ** 2 + (ratio * float(self.signal.stderr)) ** 2
        return squared - 2 * ratio * self.covariance

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.4g} [{low:.4g}, {high:.4g}] ({self.samples} gradients, {self.method})"


def noise_scale(
    closure: AbstractClosure,
    method: str | None = None,
    *,
    samples: int | None = None,
    operator: AbstractOperator | None = None,
    population: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> NoiseScale:
    r"""Estimate the gradient noise scale.

    .. math:: \mathcal B = \frac{\operatorname{tr}\Sigma}{|G|^2}
        \quad\text{or, with an operator,}\quad
        \frac{\operatorname{tr}(H\Sigma)}{G^\top H G},

    with G the expected gradient and :math:`\Sigma` the covariance of a single sample's. From units
    u of :math:`n_u` samples with gradients :math:`g_u` and their weighted mean :math:`\bar g`,

    .. math:: \operatorname{tr}\Sigma \approx \frac{1}{K-1}\sum_u n_u\,|g_u - \bar g|^2,
        \qquad |G|^2 \approx |\bar g|^2 - \operatorname{tr}\Sigma / \textstyle\sum_u n_u ,

    both unbiased, and divided only then: a mean of ratios has no expectation. Errors are from the
    jackknife over units, the interval is Fieller's. A unit is a sample (``"per-sample"``), or a
    batch (``"batches"``: McCandlish's comparison of a small and a large batch, with every batch of
    the loader as the small and their union as the large one).

    Args:
        closure: ``objective.closure(x, y)`` or ``objective.over(loader)``.
        method: One of the two. None: per sample, and by batches where samples cannot be told apart
            and there are at least eight.
        samples: How many samples to look at, drawn without replacement; None takes all.
        operator: H, such as a Hessian, for the curvature-aware scale; a product a unit.
        population: Whether the data is all that batches are drawn from, so that its mean gradient
            is G itself. Else it is a sample, and the interval says what that leaves open.
        seed: Of the draw of samples, and of dropout.
        progress: Show a progress bar.

    Returns:
        The ratio with its parts. Nothing of the model is changed.

    Raises:
        TypeError: If the objective is a plain function, or samples cannot be told apart.
        ValueError: If an argument is outside its range, there are fewer than three units, or the
            model holds a BatchNorm layer in train mode.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> model.weight.data.fill_(0.0)
        tensor([[0.]])
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> x, y = torch.ones(4, 1), torch.tensor([[1.0], [1.0], [2.0], [2.0]])
        >>> noise_scale(objective.closure(x, y), population=True).value  # (1/4) / (3/2)^2
        0.111

    References:
        McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018.
        Fieller, Some problems in interval estimation, 1954.
    """
    where = "noise_scale"
    if not isinstance(closure, AbstractClosure):
        raise TypeError(f"{where}(closure={type(closure).__name__}): pass a closure.")
    if method is not None:
        one_of(*METHODS).check(where, "method", method)
    if samples is not None:
        integer_from(3).check(where, "samples", samples)
    n = closure.params.numel()
    if operator is not None and operator.shape != (n, n):
        raise bad_argument(where, "operator", operator, f"an operator of shape {(n, n)}")
    if population and (samples is not None or method == "batches"):
        allowed = "False where only a part of the samples, or batches, are looked at"
        raise bad_argument(where, "population", population, allowed)
    if method == "batches":
        units: SampleGradients | _Batches = _Batches(closure, seed)
    else:
        try:
            units = SampleGradients(closure, samples, seed)
            sums = _sums(units, operator, progress)
            return _scale(*sums, "per-sample", population)
        except (TypeError, ValueError):
            if method is not None or population or len(closure.batches) < 8:
                raise
            units = _Batches(closure, seed)
    return _scale(*_sums(units, operator, progress), "batches", population)


@final
class _Batches:
    """The batches of a risk as units: weights in samples, and mean gradients."""

    def __init__(self, closure: AbstractClosure, seed: int) -> None:
        if len(closure.batches) < 3:
            found = f"batches: {len(closure.batches)}"
            raise bad_argument("noise_scale", "closure", found, "a sum over at least 3 batches")
        self._seed = seed
        self.closure = closure.still(borrow=True)
        self._lengths = [_length(batch.program) for batch in self.closure.batches]
        self.samples = sum(self._lengths)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        pairs = zip(self.closure.batches, self._lengths, strict=True)
        for i, (batch, length) in enumerate(pairs):
            with seeded(self._seed + i, self.closure.params[0].device):
                _, gradient, weight = batch.weighted_value_and_grad()
            flat = torch.cat([g.reshape(-1) for g in gradient])[None]
            if self.closure.summed:
                flat, weight = flat / length, length
            yield torch.tensor([float(weight)], dtype=torch.float64), flat


def _length(program: object) -> int:
    if not isinstance(program, ModelProgram):
        raise TypeError("A plain function has no samples, so its gradient has no noise.")
    return row_count(program.batch)


def _sums(
    units: SampleGradients | _Batches, operator: AbstractOperator | None, progress: bool
) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """Of each unit its size, <g, g> and <g, mean>; <mean, mean>; and products spent."""
    kept: list[tuple[Tensor, Tensor]] | None = []
    held, total, weight = 0, torch.zeros(()), 0.0
    for weights, rows in track(units, "gradients", disable=not progress, transient=True):
        if not bool(rows.isfinite().all()):
            raise NonFiniteError("noise_scale: a gradient is NaN or infinite.")
        total = total.to(rows.device) + (weights.to(rows.device) @ rows.double())
        weight += float(weights.sum())
        held += rows.numel() * rows.element_size()
        if kept is not None:
            kept = [*kept, (weights, rows)] if held <= _KEPT else None
    if not weight:
        raise ValueError("noise_scale: no target counts.")
    mean = (total / weight)[:, None]
    image = mean if operator is None else operator.apply(mean)
    sizes, squares, crosses = [], [], []
    for weights, rows in kept if kept is not None else units:
        columns = rows.T
        images = columns if operator is None else operator.apply(columns)
        sizes.append(weights)
        squares.append(column_dots(columns, images).cpu())
        crosses.append((rows.double() @ image.double()[:, 0]).cpu())
    size = torch.cat(sizes)
    counts = size > 0
    # Weights as numbers of samples, as many as there are on average.
    samples = units.samples if isinstance(units, _Batches) else int(counts.sum())
    size = size[counts] * samples / float(size.sum())
    products = 0 if operator is None else 1 + len(counts)
    center = float(column_dots(mean, image)[0])
    return size, torch.cat(squares)[counts], torch.cat(crosses)[counts], center, products


def _scale(
    size: Tensor,
    squares: Tensor,
    crosses: Tensor,
    center: float,
    products: int,
    method: str,
    population: bool,
) -> NoiseScale:
    units, total, mass = len(size), float(size.sum()), float((size * squares).sum())
    if units < 3:
        raise bad_argument("noise_scale", "closure", f"{units} samples", "of at least 3 of them")
    if population:
        noise = Estimate(mass / total - center, 0.0, products, "exact", units)
        signal = Estimate(center, 0.0, products, "exact", units)
        return NoiseScale(noise, signal, 0.0, products, "exact", units)
    variance = (mass - total * center) / (units - 1)
    # The same without each unit in turn.
    rest = total - size
    centers = (total**2 * center - 2 * total * size * crosses + size**2 * squares) / rest**2
    noises = (mass - size * squares - rest * centers) / (units - 2)
    both = torch.stack([noises, centers - noises / rest])
    covariance = torch.cov(both) * (units - 1) ** 2 / units
    errors = covariance.diagonal().clamp_min(0.0).sqrt().tolist()
    return NoiseScale(
        Estimate(variance, errors[0], products, method, units),
        Estimate(center - variance / total, errors[1], products, method, units),
        float(covariance[0, 1]),
        products,
        method,
        units,
    )
