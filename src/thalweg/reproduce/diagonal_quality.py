r"""How good Hutchinson's diagonal is, with and without the mean over a kernel's positions.

The mean of m samples :math:`z \odot H z` with random signs has the variance
:math:`\frac1m \sum_{j \ne i} H_{ij}^2` in entry i, and two entries the covariance
:math:`\frac1m H_{ij}^2`. With A the mean over blocks, the mean square error of :math:`A d` is

.. math::
    \|A \operatorname{diag} H - \operatorname{diag} H\|^2 + \frac1m \operatorname{tr} A C A^\top,
    \qquad C_{ij} = H_{ij}^2, \quad C_{ii} = \sum_{j \ne i} H_{ij}^2 :

less noise, and an error that no number of probes removes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.objective import Closure, Objective
from thalweg.optim import Adam
from thalweg.optim.adahessian import spatial_mean
from thalweg.optim.diagonal_curvature import hutchinson
from thalweg.problems.digits import digits_data
from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.walks import near, slope


__all__ = ["EXPERIMENT"]

PAPER = "Yao et al., AdaHessian, 2021, section 3.2"
VARIANCE = "derived: the variance of z * Hz with random signs"
PROBES = (1, 4, 16, 64, 256, 1024)
SAMPLES, BATCH, STEPS, SEED = 2048, 128, 60, 0


@dataclass(frozen=True)
class Estimates:
    """The exact Hessian of a network and many samples of its diagonal, flat.

    Args:
        hessian: The dense Hessian.
        samples: A row each probe.
        averaged: The same, averaged over the positions of each kernel.
        exact: The exact diagonal, averaged likewise.
        kernels: Which entries lie in kernels.
    """

    hessian: Tensor
    samples: Tensor
    averaged: Tensor
    exact: Tensor
    kernels: Tensor

    @property
    def diagonal(self) -> Tensor:
        """The exact diagonal."""
        return self.hessian.diagonal()


def network() -> tuple[nn.Sequential, Closure]:
    """A small CNN on digits after some steps of Adam, and its loss on one batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layers = (nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 6, 3, stride=2))
        model = nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(54, 10)).double()
        inputs, labels = digits_data().train
        inputs = inputs.double().view(-1, 1, 8, 8)
        objective = Objective(model, F.cross_entropy)
        optimizer = Adam(model.parameters(), lr=0.01)
        for _ in range(STEPS):
            rows = torch.randint(len(labels), (BATCH,))
            optimizer.step(objective.closure(inputs[rows], labels[rows]))
    return model, objective.closure(inputs[:BATCH], labels[:BATCH])


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def dense(closure: Closure) -> Tensor:
    """The Hessian, a product with each unit vector."""
    _, product = closure.with_products()
    units = torch.eye(closure.params.numel(), dtype=closure.params[0].dtype)
    return torch.stack([_flat(list(product(closure.params.like(unit)))) for unit in units])


@functools.cache
def estimates() -> Estimates:
    """The estimates of the network; computed once a process."""
    model, closure = network()
    params = list(model.parameters())
    hessian = dense(closure).detach()

    def call(given: Closure) -> Tensor:
        with torch.enable_grad():
            return given()

    samples, averaged = [], []
    for seed in range(SAMPLES):
        _, sample = hutchinson("diagonal-quality", closure, params, call, seed)
        samples.append(_flat(sample).detach())
        averaged.append(_flat([spatial_mean(part, 1) for part in sample]).detach())
    parts = closure.params.like(hessian.diagonal().contiguous())
    exact = _flat([spatial_mean(part, 1) for part in parts])
    kernels = _flat([torch.full_like(p, p.ndim > 2, dtype=torch.bool) for p in params])
    return Estimates(hessian, torch.stack(samples), torch.stack(averaged), exact, kernels)


def measured(found: Estimates, probes: int, *, spatial: bool) -> float:
    """The root mean square error over kernels of the mean of some probes, relative."""
    rows = (found.averaged if spatial else found.samples)[:, found.kernels]
    means = rows.reshape(-1, probes, rows.shape[1]).mean(1)
    target = found.diagonal[found.kernels]
    return float((means - target).square().sum(1).mean().sqrt() / target.norm())


def predicted(found: Estimates, probes: int, *, spatial: bool) -> float:
    """The same by the formula."""
    covariance = found.hessian.square()
    covariance = (
        covariance - covariance.diag().diag() + (covariance.sum(1) - covariance.diag()).diag()
    )
    covariance = covariance[found.kernels][:, found.kernels]
    target, bias = found.diagonal[found.kernels], 0.0
    if spatial:  # all kernels are of nine positions, one after another
        blocks = len(target) // 9
        noise = sum(
            float(covariance[9 * i : 9 * i + 9, 9 * i : 9 * i + 9].sum()) / 9 for i in range(blocks)
        )
        bias = float((found.exact[found.kernels] - target).square().sum())
    else:
        noise = float(covariance.diag().sum())
    return (bias + noise / probes) ** 0.5 / float(target.norm())


def claims(found: Estimates) -> tuple[Claim, ...]:
    """The law without averaging, with it, and where they cross."""
    plain = [measured(found, m, spatial=False) for m in PROBES]
    mean = [measured(found, m, spatial=True) for m in PROBES]
    power, half = slope(np.log(PROBES), np.log(plain))
    made = [
        Claim(
            "error of the diagonal without averaging over positions: falls like probes^p, p",
            f"{VARIANCE}; to 0.05",
            -0.5,
            round(power, 4),
            abs(power + 0.5) <= 0.05,
            (power - half, power + half),
        )
    ]
    made.extend(
        near(
            f"{words} averaging over positions, {m} probe{'s' * (m > 1)}: relative error",
            VARIANCE,
            predicted(found, m, spatial=spatial),
            values[PROBES.index(m)],
            0.05,
        )
        for spatial, values, words in ((False, plain, "without"), (True, mean, "with"))
        for m in (1, 16)
    )
    floor = predicted(found, 10**9, spatial=True)
    return (
        *made,
        Claim(
            "one probe, as the optimizer takes: error with averaging over the error without",
            f"{PAPER}: averaging reduces the noise; below 1",
            "< 1",
            round(mean[0] / plain[0], 4),
            mean[0] < plain[0],
        ),
        Claim(
            f"{PROBES[-1]} probes: error with averaging over the error without",
            f"{PAPER}: averaging reduces the noise; below 1",
            "< 1",
            round(mean[-1] / plain[-1], 4),
            mean[-1] < plain[-1],
            because=(
                "The positions of a kernel do not share one curvature: averaging leaves an error "
                f"of {floor:.2f} however many probes there are."
            ),
        ),
    )


def _run() -> Outcome:
    found = estimates()
    settings = {
        "network": "conv 1-4 and 4-6, 3 x 3, tanh, linear 54-10, on digits; float64",
        "point": f"after {STEPS} steps of Adam, lr 0.01, batches of {BATCH}, seed {SEED}",
        "loss": f"cross-entropy on {BATCH} images",
        "exact": "the dense Hessian, a product with each unit vector",
        "probes": f"{SAMPLES} of random signs, in lots of 1 to {PROBES[-1]}",
        "error": "root of the mean square distance over the kernels' entries, over their norm",
    }
    return Outcome(claims(found), {"probes": _figure(found), "scatter": _scatter(found)}, settings)


@styled
def _figure(found: Estimates) -> Figure:
    figure, axes = canvas.axes(None)
    for spatial, words, colour, mark in (
        (False, "z ⊙ Hz", "vermillion", "s"),
        (True, "averaged over positions", "blue", "o"),
    ):
        line = [predicted(found, m, spatial=spatial) for m in PROBES]
        points = [measured(found, m, spatial=spatial) for m in PROBES]
        axes.plot(PROBES, line, color=tone(colour))
        axes.plot(PROBES, points, mark, color=tone(colour), label=words)
    floor = predicted(found, 10**9, spatial=True)
    axes.axhline(floor, color=tone("muted"), lw=0.9, ls=":")
    axes.annotate("what averaging leaves", (1.1, floor * 1.06), fontsize=8.5)
    axes.set(xscale="log", yscale="log", xlabel="probes (log)", ylabel="relative error (log)")
    line = f"kernels of a small CNN on digits; lines theory, points of {SAMPLES} probes"
    canvas.caption(axes, "Averaging helps few probes and harms many", line)
    canvas.legend(axes)
    return figure


@styled
def _scatter(found: Estimates) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    exact = found.diagonal[found.kernels]
    for axes, rows, words in zip(
        figure.subplots(1, 2, sharex=True, sharey=True),
        (found.samples, found.averaged),
        ("z ⊙ Hz", "averaged over positions"),
        strict=True,
    ):
        for probes, colour, size in ((1, "vermillion", 4), (64, "blue", 4)):
            mean = rows[:probes, found.kernels].mean(0)
            axes.plot(exact, mean, "o", ms=size, alpha=0.6, color=tone(colour), label=f"{probes}")
        span = [float(exact.min()), float(exact.max())]
        axes.plot(span, span, color=tone("ink"), lw=0.9)
        axes.set(title=words, xlabel="exact diagonal", ylabel="estimate")
        axes.legend(title="probes")
    figure.suptitle("Entries of the kernels: the estimate against the exact second derivative")
    return figure


EXPERIMENT = Experiment(
    name="diagonal-quality",
    title="Hutchinson's diagonal: its error against the number of probes",
    summary=(
        "The diagonal of a small convolutional network's Hessian, estimated with random signs, "
        "against the exact one. The error falls with the root of the number of probes, as derived. "
        "Averaging over the positions of a kernel, as AdaHessian does, takes noise away where "
        "there is one probe, and leaves an error that no number of probes removes."
    ),
    run=_run,
    seconds=15.0,
)
