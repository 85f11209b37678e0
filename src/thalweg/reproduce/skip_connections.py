r"""What shortcuts do to the landscape of a deep network.

Two networks of the same depth, width and start, with and without shortcuts around each pair of
convolutions, are trained in the same way on real images. Around each solution the loss is drawn on
a filter-normalised plane, and :math:`|\lambda_{\min} / \lambda_{\max}|` of the full Hessian is
measured on it: near 0 the loss is convex in every direction of parameter space.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from thalweg.landscape import Surface, plane, random_axes
from thalweg.objective import Objective
from thalweg.problems.mnist5k import mnist5k_data
from thalweg.report import landscapes
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.shortcut_network import BLOCKS, WIDTH, network


__all__ = ["EXPERIMENT"]

STEPS, RATE = 150, 0.1
CLEARLY = 10  # less is within what another machine's rounding makes of one seed
DRAWN, CURVED = 128, 48  # images under the plane and under the Hessian
BECAUSE = (
    "This is one seed, 22 layers and 150 steps: without shortcuts the network is still far from a "
    "minimum. Li et al. trained theirs to the end; they find chaos at 56 layers and, as here, "
    "little of it at 20."
)
LI = "Li, Xu, Taylor, Studer and Goldstein, 2018, sections 5 and 6"


def _images() -> tuple[Tensor, Tensor]:
    """Digits of MNIST, averaged to 14 by 14 pixels."""
    inputs, targets = mnist5k_data().train
    x = torch.as_tensor(inputs).float().view(-1, 1, 28, 28)
    return F.avg_pool2d(x, 2), torch.as_tensor(targets)


def _measured(shortcuts: bool) -> tuple[Surface, Surface]:
    """The plane, and the convexity map on its inner half."""
    x, y = _images()
    model = network(shortcuts)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    objective = Objective(model.eval(), F.cross_entropy)
    drawn = objective.closure(x[:DRAWN], y[:DRAWN])
    axes = random_axes(drawn)
    surface = plane(drawn, axes, resolution=15, metrics=["accuracy"], progress=False)
    curved = plane(
        objective.closure(x[:CURVED], y[:CURVED]),
        axes,
        resolution=3,
        span=0.5,
        metrics=["convexity", "lambda_max", "lambda_min"],
        progress=False,
    )
    return surface, curved


def _claims(found: dict[str, tuple[Surface, Surface]]) -> tuple[Claim, ...]:
    """What the two networks say of what is published."""
    (plain, bent), (rough, rougher) = found.values()
    losses = [s.meta["centre"]["loss"] for s in (plain, rough)]
    medians = [float(np.nanmedian(s.metrics["convexity"])) for s in (bent, rougher)]
    inner = [float(s.metrics["convexity"][1, 1]) for s in (bent, rougher)]
    return (
        Claim(
            "the network with shortcuts reaches the lower training loss",
            LI,
            f"under {losses[1]:.3g} (without)",
            round(losses[0], 4),
            losses[0] < losses[1],
        ),
        Claim(
            "with shortcuts the loss is nearly convex at the solution: |λ_min / λ_max|",
            LI,
            "under 0.1",
            round(inner[0], 4),
            inner[0] < 0.1,
        ),
        Claim(
            f"without shortcuts it is clearly less so at the solution: over {CLEARLY} times that",
            LI,
            f"over {CLEARLY * inner[0]:.3g}",
            round(inner[1], 4),
            inner[1] > CLEARLY * inner[0],
            because=BECAUSE,
        ),
        Claim(
            f"and around it: median over nine points of the plane, over {CLEARLY} times that",
            LI,
            f"over {min(1.0, CLEARLY * medians[0]):.3g}",
            round(medians[1], 4),
            medians[1] > min(1.0, CLEARLY * medians[0]),
            because=BECAUSE,
        ),
    )


def _run() -> Outcome:
    found = {"with shortcuts": _measured(True), "without": _measured(False)}
    figures: dict[str, Figure] = {}
    for name, (surface, curved) in found.items():
        key = name.replace(" ", "-")
        words = f"{2 + 2 * BLOCKS} layers {name}" + ("" if "with " in name else " shortcuts")
        figures[f"plane-{key}"] = landscapes.plane(surface, title=f"{words}: training loss")
        figures[f"convexity-{key}"] = landscapes.convexity(curved, title=f"{words}: convexity")
    settings = {
        "model": f"{2 + 2 * BLOCKS} layers, {WIDTH} channels, batch normalisation",
        "data": f"MNIST, 14 x 14; plane on {DRAWN} images, Hessian on {CURVED}",
        "training": f"SGD, rate {RATE}, momentum 0.9, decay 5e-4, {STEPS} steps of 64, seed 0",
        "batchnorm": found["without"][0].meta["batchnorm"],
        "convexity": {n: c.metrics["convexity"].tolist() for n, (_, c) in found.items()},
    }
    return Outcome(_claims(found), figures, settings)


EXPERIMENT = Experiment(
    name="skip-connections",
    title="Shortcuts and the landscape of a deep network",
    summary=(
        "Two networks of 22 layers, with and without shortcuts, trained alike on digits of MNIST: "
        "filter-normalised planes around the solutions, and the ratio of the Hessian's extreme "
        "eigenvalues on them. One seed; batch normalisation uses the running statistics of the "
        "trained weights."
    ),
    run=_run,
    seconds=60.0,
)
