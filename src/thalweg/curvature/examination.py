"""Look at the curvature where a model stands, and say what follows from it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from thalweg.curvature.advice import advise
from thalweg.curvature.batches import How
from thalweg.curvature.findings import Layer, Point, Stability
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.inspection import Inspection
from thalweg.curvature.layer_table import layer_table, shares_of
from thalweg.curvature.learning_rate import stability_of
from thalweg.curvature.measured import Quantity
from thalweg.curvature.noise import noise_scale
from thalweg.curvature.point import Reach, kind_of, reach_of
from thalweg.curvature.spectrum import Spectrum, spectrum_of
from thalweg.curvature.training_state import undisturbed
from thalweg.errors import POSITIVE, NonFiniteError, integer_from
from thalweg.objective import AbstractClosure, FunctionObjective, Objective


__all__ = ["inspect"]


def inspect(
    objective: Objective | FunctionObjective | AbstractClosure,
    loader: Iterable[Any] | Tensor | None = None,
    *,
    optimizer: Any = None,
    batch_size: int | None = None,
    population: bool = False,
    tolerance: float = 1e-3,
    critical: float = 1e-3,
    steps: int = 80,
    probes: int = 3,
    trace_error: float = 0.02,
    seed: int = 0,
    how: How | None = None,
    progress: bool = False,
) -> Inspection:
    r"""The curvature at the point where a model stands, and advice that follows from it.

    Both ends of the Hessian's spectrum, its density and trace, the kind of point, sharpness by
    layer, the largest stable learning rate of the optimizer in use, the best rate, the gradient
    noise: each with its error and its cost in Hessian products. Nothing of the model, its
    gradients or the random state is changed.

    Args:
        objective: An objective; or a closure (then no ``loader``).
        loader: Batches as the objective takes them. Of a plain function, the tensor that it is of.
        optimizer: The optimizer in use, for its own stable limit (momentum, the preconditioned
            sharpness of Adam and RMSprop).
        batch_size: Samples of a training step. Default: the first batch's.
        population: Whether the loader holds all that training draws from, so that its gradient has
            no error of its own (:func:`~thalweg.curvature.noise_scale`).
        tolerance: Eigenvalues within this share of the largest absolute one count as zero.
        critical: How near a critical point must be: a share of the parameters' length, or of the
            loss (:func:`~thalweg.curvature.point.kind_of`).
        steps: Lanczos steps of the spectral density.
        probes: Runs of the density, at least 2 for an error.
        trace_error: Relative standard error at which the trace is good enough.
        seed: Of all random vectors.
        how: How products are computed (:class:`How`).
        progress: Show progress bars.

    Returns:
        The inspection, plain data: ``print(inspection)`` is a page of text.

    Raises:
        ValueError: If an argument is outside its range.
        NonFiniteError: If the loss is not finite here.

    Example:
        >>> x = torch.tensor([2.0, 1.0], requires_grad=True)
        >>> sgd = torch.optim.SGD([x], lr=0.3)
        >>> bowl = Objective.of(lambda x: x[0] ** 2 + 5 * x[1] ** 2)
        >>> found = inspect(bowl, x, optimizer=sgd)
        >>> found.stability.limit.value, found.optimal_rate.value
        (0.2..., 0.166...)
    """
    for name, value in (("tolerance", tolerance), ("critical", critical)):
        POSITIVE.check("inspect", name, value)
    integer_from(1).check("inspect", "steps", steps)
    integer_from(1).check("inspect", "probes", probes)
    began = time.perf_counter()
    closure, how = closure_of(objective, loader), how or How()
    with undisturbed(list(closure.params)):
        hessian = Hessian(closure, None, how)
        gradient = hessian.gradient
        spectrum = spectrum_of(
            hessian,
            tolerance=tolerance,
            steps=steps,
            probes=probes,
            trace_error=trace_error,
            seed=seed,
            progress=progress,
        )
        quiet = dataclasses.replace(how, check=False)
        rows = layer_table(closure, gradient, spectrum.top, how=quiet, seed=seed, progress=progress)
        size = batch_size or _first_batch(closure)
        found = _found(hessian, closure, spectrum, rows, critical, size)
        if optimizer is not None:
            used = _stability(hessian, closure, optimizer, spectrum, seed)
            found = dataclasses.replace(found, stability=used)
        found = _with_noise(found, closure, population, seed)
    found = dataclasses.replace(
        found,
        products=hessian.products + sum(row.sharpness.products for row in rows),
        seconds=time.perf_counter() - began,
        notes=_notes(hessian, closure),
    )
    return dataclasses.replace(found, advice=tuple(advise(found)))


def _found(
    hessian: Hessian,
    closure: AbstractClosure,
    spectrum: Spectrum,
    rows: tuple[Layer, ...],
    critical: float,
    batch_size: int | None,
) -> Inspection:
    """The record, without what an optimizer or single samples add."""
    return Inspection(
        parameters=hessian.shape[0],
        samples=samples_of(closure),
        batch_size=batch_size,
        loss=hessian.loss,
        gradient_norm=float(hessian.gradient.double().norm()),
        parameter_norm=float(closure.params.detach().norm()),
        largest=spectrum.largest,
        smallest=spectrum.smallest,
        point=_point(hessian, spectrum, critical, closure),
        trace=spectrum.trace,
        density={"nodes": spectrum.nodes.tolist(), "weights": spectrum.weights.tolist()},
        layers=rows,
        top=shares_of(spectrum.top, closure.params, closure.names),
        bottom=shares_of(spectrum.bottom, closure.params, closure.names),
        condition=spectrum.condition,
        **_rates(spectrum),
    )


def _stability(
    hessian: Hessian, closure: AbstractClosure, optimizer: Any, spectrum: Spectrum, seed: int
) -> Stability:
    """The optimizer's rate against its limit, with how many directions are past it."""
    known = spectrum.largest, spectrum.top
    used, _ = stability_of(hessian, closure, optimizer, known=known, seed=seed)
    if used.ratio is None or not used.multiple:
        return used
    return dataclasses.replace(used, beyond=spectrum.above(1.0 / used.multiple))


def closure_of(objective: Any, loader: Any) -> AbstractClosure:
    """The closure that is looked at."""
    if isinstance(objective, AbstractClosure):
        if loader is not None:
            raise TypeError("inspect(objective=a closure): its batches are bound; pass no loader.")
        return objective
    if isinstance(objective, FunctionObjective):
        if not isinstance(loader, Tensor):
            raise TypeError("inspect(objective=a function): pass the tensor in the loader's place.")
        return objective.closure(loader)
    if not isinstance(objective, Objective):
        raise TypeError(f"inspect(objective={objective!r}): a thalweg.Objective is needed.")
    if loader is None or isinstance(loader, Tensor):
        raise TypeError("inspect(loader=...): batches are needed, such as [(x, y)].")
    return objective.over(loader)


def samples_of(closure: AbstractClosure) -> int:
    """How many samples the loss is over; 0 for a function without data."""
    return sum(_length(batch) for batch in closure.batches)


def _length(closure: Any) -> int:
    """The number of samples in one batch."""
    batch = getattr(closure.program, "batch", None)
    while isinstance(batch, (tuple, list, dict)):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return int(batch.shape[0]) if isinstance(batch, Tensor) and batch.ndim else 0


def _first_batch(closure: AbstractClosure) -> int | None:
    return _length(closure.batches[0]) or None


def _rates(spectrum: Spectrum) -> dict[str, Any]:
    """The stable and the best rate of plain descent, and why there is none."""
    largest, smallest = spectrum.largest, spectrum.smallest
    missing = {}
    limit = best = None
    if largest.value > 0:
        limit = largest.inverse(2.0, "2 / λ_max")
    else:
        missing["descent_limit"] = "No direction curves up, so no learning rate is too large."
    if smallest.value > spectrum.tolerance:
        total = smallest.value + largest.value
        error = (smallest.error or 0.0) + (largest.error or 0.0)
        best = Quantity(2.0 / total, 2.0 / total**2 * error, 0, "2 / (λ_min + λ_max)")
    elif smallest.value < -spectrum.tolerance:
        missing["optimal_rate"] = (
            f"λ_min = {smallest} is negative: along that direction no rate makes descent converge."
        )
    else:
        missing["optimal_rate"] = (
            f"λ_min = {smallest} is zero within the tolerance: some directions are flat, and no "
            "rate is the best for all."
        )
    return {"descent_limit": limit, "optimal_rate": best, "missing": missing}


def _point(
    hessian: Hessian, spectrum: Spectrum, critical: float, closure: AbstractClosure
) -> Point:
    gradient = hessian.gradient
    reach = reach_of(hessian, gradient, spectrum.tolerance)
    length = float(closure.params.detach().norm())
    kind = kind_of(
        (spectrum.smallest.value, spectrum.largest.value),
        spectrum.tolerance,
        float(gradient.double().norm()),
        length,
        hessian.loss,
        reach,
        critical,
    )
    return Point(
        kind,
        spectrum.index,
        spectrum.tolerance,
        spectrum.inside,
        reach.distance,
        reach.distance / max(length, 1.0),
        reach.gain,
        _taken(hessian, reach),
        critical,
        reach.products,
    )


def _taken(hessian: Hessian, reach: Reach) -> float:
    """By how much the step lowers the loss itself; not a number where it leaves its domain."""
    if reach.step is None:
        return 0.0
    still = hessian.still
    there = still.params.detach() + still.params.like(reach.step)
    return hessian.loss - float(still.value(there))


def _with_noise(
    found: Inspection, closure: AbstractClosure, population: bool, seed: int
) -> Inspection:
    """The noise scale, or why there is none."""
    if found.samples < 2:
        why = "Noise is between samples, and there are none to compare."
    else:
        try:
            noise = Quantity.of(noise_scale(closure, population=population, seed=seed))
            if math.isfinite(noise.value):
                return dataclasses.replace(found, noise=noise)
            why = f"The gradient cannot be told from zero by {found.samples:,} samples."
        except (TypeError, ValueError, RuntimeError, NonFiniteError) as error:
            why = f"Gradients of single samples could not be had: {error}"
    return dataclasses.replace(found, missing={**found.missing, "noise": why})


def _notes(hessian: Hessian, closure: AbstractClosure) -> tuple[str, ...]:
    """What a reader should know of how it was measured."""
    notes = [] if hessian.check is None else list(hessian.check.problems)
    if any(p.dtype in (torch.bfloat16, torch.float16) for p in closure.params):
        notes.append("Parameters of half precision were taken to float32 for all products.")
    return tuple(notes)
