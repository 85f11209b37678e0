"""The three stops of a training, and all that Hessian products say at each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch.nn import functional as F

from thalweg.curvature.alignment import alignment
from thalweg.curvature.batches import How
from thalweg.curvature.condition import ConditionNumber, condition_number
from thalweg.curvature.covariance import GradientCovariance
from thalweg.curvature.density import Density, spectral_density
from thalweg.curvature.effective_dimension import effective_dimension
from thalweg.curvature.eigen import Eigenpairs, eigsh
from thalweg.curvature.estimate import Estimate
from thalweg.curvature.ggn import GGN
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.index import NegativeEigenvalues, negative_eigenvalues
from thalweg.curvature.inspection import Layer
from thalweg.curvature.layer_table import layer_table
from thalweg.curvature.logdet import logdet
from thalweg.curvature.noise import NoiseScale, noise_scale
from thalweg.curvature.norms import frobenius
from thalweg.curvature.point import kind_of, reach_of
from thalweg.curvature.trace import trace
from thalweg.objective import AbstractClosure, Objective
from thalweg.optim import SGD
from thalweg.problems.digits import digits_data
from thalweg.problems.networks import perceptron
from thalweg.reproduce.dense_truth import DenseCurvature, dense_curvature


__all__ = ["CRITICAL", "STOPS", "TOLERANCE", "Stop", "look", "tour"]

STOPS = {0: "start", 60: "middle", 400: "end"}
LOOKS = (0, 20, 60, 100, 200, 400)
TOLERANCE, CRITICAL = 1e-3, 1e-3


@final
@dataclass(frozen=True)
class Stop:
    """What products say of one point.

    Args:
        loss: The loss.
        gradient_norm: Of its gradient.
        top: The largest eigenvalue.
        bottom: The smallest.
        index: The negative eigenvalues beyond the tolerance.
        kind: The kind of point.
        condition: Of the part of the spectrum above the tolerance.
        estimates: Those with a standard error, by name.
        density: The spectral density.
        noise: The noise scale.
        layers: The table of layers.
        damping: Of the log-determinant and the effective dimension.
    """

    loss: float
    gradient_norm: float
    top: Eigenpairs
    bottom: Eigenpairs
    index: NegativeEigenvalues
    kind: str
    condition: ConditionNumber
    estimates: dict[str, Estimate]
    density: Density
    noise: NoiseScale
    layers: tuple[Layer, ...]
    damping: tuple[float, float]


def look(closure: AbstractClosure) -> Stop:
    """Estimate everything, by products."""
    hessian, ggn = Hessian(closure), GGN(closure)
    top, bottom = eigsh(hessian), eigsh(hessian, which="SA")
    ends = float(bottom.values[0]), float(top.values[0])
    shift = 2 * abs(ends[0]) + TOLERANCE * ends[1], 0.01 * ends[1]
    match = alignment(GradientCovariance(closure), hessian, max_products=120)
    estimates = {
        "trace": trace(hessian, target=0.05),
        "Frobenius norm": frobenius(hessian),
        "log-determinant": logdet(hessian.damped(shift[0]), "lanczos"),
        "effective dimension": effective_dimension(ggn, shift[1], probes=20),
        "alignment": match.cosine,
    }
    return Stop(
        hessian.loss,
        float(hessian.gradient.norm()),
        top,
        bottom,
        negative_eigenvalues(hessian, TOLERANCE, method="lanczos"),
        _kind(hessian, ends, closure),
        condition_number(hessian, TOLERANCE, method="lanczos", max_products=200),
        estimates,
        spectral_density(hessian, probes=6),
        noise_scale(closure, population=True),
        layer_table(closure, hessian.gradient, top.vectors[:, 0], how=How(check=False)),
        shift,
    )


def _kind(hessian: Hessian, ends: tuple[float, float], closure: AbstractClosure) -> str:
    zero = TOLERANCE * max(map(abs, ends))
    reach = reach_of(hessian, hessian.gradient, zero)
    slope, length = float(hessian.gradient.norm()), float(closure.params.detach().norm())
    return kind_of(ends, zero, slope, length, hessian.loss, reach, CRITICAL)


def tour() -> tuple[list[Stop], list[DenseCurvature], list[tuple[float, float]]]:
    """Train, and stop three times: estimates, dense truth; and (loss, index) at every look."""
    x, y = digits_data().train
    x = x.double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = perceptron(64, 8, 8, 10).double()
    params = list(model.parameters())
    closure = Objective(model, F.cross_entropy).closure(x, y)
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    stops, truths, falls = [], [], []
    for k in range(max(LOOKS) + 1):
        if k in LOOKS:
            hessian = Hessian(closure)
            count = negative_eigenvalues(hessian, TOLERANCE, method="inertia").count
            falls.append((hessian.loss, count))
        if k in STOPS:
            stops.append(look(closure))
            truths.append(dense_curvature(model, x, y))
        loss = F.cross_entropy(model(x), y)
        for p, slope in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.grad = slope
        optimizer.step()
    return stops, truths, falls
