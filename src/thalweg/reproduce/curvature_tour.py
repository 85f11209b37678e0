r"""All that can be said of a network's curvature, at the start, the middle and the end of training.

Every estimate is from Hessian products alone, and is held against dense matrices that no code of
the curvature room made (:mod:`thalweg.reproduce.dense_truth`). What is random comes with a standard
error, and the dense value must lie within three of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.curvature.density import Density
from thalweg.curvature.eigen import Eigenpairs
from thalweg.curvature.estimate import Estimate
from thalweg.report.style import styled, tone
from thalweg.reproduce import edge_of_stability as edge
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.dense_truth import DenseCurvature
from thalweg.reproduce.tour_stops import CRITICAL, STOPS, TOLERANCE, Stop, tour


__all__ = ["EXPERIMENT"]

DENSE = "dense Hessian, stacked double backward"
DAUPHIN = "Dauphin et al. 2014, 1406.2572; count by inertia"


def _row(
    words: str,
    source: str,
    expected: Sequence[Any],
    measured: Sequence[Any],
    agrees: Callable[[int], bool],
) -> Claim:
    """A claim of all stops at once: it holds where each agrees."""
    wanted, found = ([_short(value) for value in values] for values in (expected, measured))
    holds = all(agrees(k) for k in range(len(measured)))
    return Claim(f"{words} (start, middle, end)", source, wanted, found, holds)


def _short(value: Any) -> Any:
    return value if isinstance(value, str) else float(f"{float(value):.5g}")


def _close(words: str, expected: Sequence[float], measured: Sequence[float], to: float) -> Claim:
    """A claim that numbers agree, relative to the expected ones."""
    expected, measured = [float(e) for e in expected], [float(m) for m in measured]
    source = f"{DENSE}; to {to:g}"
    return _row(
        words,
        source,
        expected,
        measured,
        lambda k: abs(measured[k] - expected[k]) <= to * abs(expected[k]),
    )


def _within(words: str, expected: Sequence[float], found: Sequence[Estimate], most: float) -> Claim:
    """A claim that estimates are off by three standard errors at most, which are small."""
    errors = [float(e.stderr) for e in found]
    slack = [1e-9 * abs(float(e)) for e in expected]
    measured = [f"{float(e.value):.5g} ± {s:.1g}" for e, s in zip(found, errors, strict=True)]
    source = f"{DENSE}; to 3 standard errors of at most {most:.0%}"

    def agrees(k: int) -> bool:
        near = abs(float(found[k].value) - float(expected[k])) <= 3 * errors[k] + slack[k]
        return near and errors[k] <= most * abs(float(expected[k]))

    return _row(words, source, expected, measured, agrees)


def claims(stops: list[Stop], truths: list[DenseCurvature]) -> list[Claim]:
    """Every quantity against the dense matrices."""
    top, low = ([float(t.values[i]) for t in truths] for i in (-1, 0))
    return [
        _close("loss", [t.loss for t in truths], [s.loss for s in stops], 1e-12),
        _close(
            "gradient norm",
            [float(t.gradient.norm()) for t in truths],
            [s.gradient_norm for s in stops],
            1e-10,
        ),
        _end("λ_max", top, [s.top for s in stops], top),
        _end("λ_min", low, [s.bottom for s in stops], top),
        *_counts(stops, truths),
        *_spectra(stops, truths),
        *_noises(stops, truths),
        *_rates(stops, truths),
    ]


def _end(name: str, true: list[float], pairs: list[Eigenpairs], scale: list[float]) -> Claim:
    """An end of the spectrum within its residual, and near."""
    values, errors = [float(p.values[0]) for p in pairs], [float(p.residuals[0]) for p in pairs]
    costs = ", ".join(str(p.products) for p in pairs)
    shown = [f"{v:.5g} ± {e:.1g}" for v, e in zip(values, errors, strict=True)]
    source = f"{DENSE}; within its residual, and 0.1% of λ_max; {costs} products"

    def agrees(k: int) -> bool:
        off = abs(values[k] - true[k])
        return off <= min(errors[k] + 1e-12 * scale[k], 1e-3 * scale[k])

    return _row(name, source, true, shown, agrees)


def _counts(stops: list[Stop], truths: list[DenseCurvature]) -> list[Claim]:
    """The index, the kind of point and the condition number."""
    counts = [t.count_below(TOLERANCE) for t in truths]
    index = [Estimate(s.index.count, s.index.stderr, 0, "", 10) for s in stops]
    shown = [f"{e.value:.1f} ± {float(e.stderr):.1f}" for e in index]
    kinds = [t.kind(TOLERANCE, CRITICAL) for t in truths]
    kappa = [_kappa(t) for t in truths]
    reach = [f"{s.condition.value:.4g} in [{s.condition.low:.4g}, 1000]" for s in stops]

    def near(k: int) -> bool:
        error = float(index[k].stderr)
        return abs(float(index[k].value) - counts[k]) <= 3 * error and error <= 0.06 * 682

    def inside(k: int) -> bool:
        return stops[k].condition.low <= kappa[k] * (1 + 1e-9) and kappa[k] <= 1 / TOLERANCE

    words = "index: eigenvalues below -0.001 λ_max, by Lanczos quadrature"
    source = f"{DENSE}; to 3 standard errors of at most 6% of the 682"
    return [
        _row(words, source, counts, shown, near),
        _row(
            "kind of point",
            DENSE,
            kinds,
            [s.kind for s in stops],
            lambda k: stops[k].kind == kinds[k],
        ),
        _row("condition number above 0.001 λ_max, with bounds", DENSE, kappa, reach, inside),
    ]


def _kappa(truth: DenseCurvature) -> float:
    top = float(truth.values[-1])
    return top / float(truth.values[truth.values > TOLERANCE * top].min())


def _spectra(stops: list[Stop], truths: list[DenseCurvature]) -> list[Claim]:
    """Sums over all eigenvalues."""
    n = len(truths[0].values)
    eye = torch.eye(n, dtype=torch.float64)
    damped = zip(truths, [s.damping[0] for s in stops], strict=True)
    against = zip(truths, [s.damping[1] for s in stops], strict=True)
    true = {
        "trace": ([float(t.values.sum()) for t in truths], 0.1),
        "Frobenius norm": ([float(t.values.norm()) for t in truths], 0.05),
        "log-determinant": ([float((t.values + d).log().sum()) for t, d in damped], 0.02),
        "effective dimension": (
            [float(torch.linalg.solve(t.ggn + d * eye, t.ggn).trace()) for t, d in against],
            0.05,
        ),
        "alignment": (
            [
                float((t.covariance * t.hessian).sum() / t.covariance.norm() / t.hessian.norm())
                for t in truths
            ],
            0.05,
        ),
    }
    words = {
        "log-determinant": "log-determinant of H + (2 |λ_min| + 0.001 λ_max) I",
        "effective dimension": "effective dimension of the GGN against 0.01 λ_max",
        "alignment": "alignment of gradient covariance and Hessian, cosine",
    }
    made = [
        _within(words.get(key, key), expected, [s.estimates[key] for s in stops], most)
        for key, (expected, most) in true.items()
    ]
    apart = [distance(s.density, t.values) for s, t in zip(stops, truths, strict=True)]
    source = f"{DENSE}; Wasserstein distance over λ_max - λ_min, at most 1%"
    zero = [0.0] * len(stops)
    close = _row("spectral density", source, zero, apart, lambda k: apart[k] <= 0.01)
    return [*made, close]


def distance(density: Density, values: Tensor) -> float:
    """The Wasserstein distance of a density from eigenvalues, over the width of the spectrum."""
    nodes = density.nodes.reshape(-1).numpy()
    weights = (density.weights / len(density.weights)).reshape(-1).numpy()
    places = np.concatenate([nodes, values.numpy()])
    masses = np.concatenate([weights, np.full(len(values), -1 / len(values))])
    order = np.argsort(places)
    apart = np.abs(np.cumsum(masses[order]))[:-1] * np.diff(places[order])
    return float(apart.sum() / (values[-1] - values[0]))


def _noises(stops: list[Stop], truths: list[DenseCurvature]) -> list[Claim]:
    """The gradient noise scale."""
    true = [float(t.covariance.trace() / t.gradient.square().sum()) for t in truths]
    return [_close("gradient noise scale tr Σ/|G|²", true, [s.noise.value for s in stops], 1e-8)]


def _rates(stops: list[Stop], truths: list[DenseCurvature]) -> list[Claim]:
    """Rates, and sharpness by layer."""
    top = [float(t.values[-1]) for t in truths]
    best = [2 / (e + e / _kappa(t)) for e, t in zip(top, truths, strict=True)]
    found = [2 / (s.condition.largest + s.condition.smallest) for s in stops]
    made = [
        _close(
            "stable rate 2/λ_max",
            [2 / e for e in top],
            [2 / float(s.top.values[0]) for s in stops],
            1e-3,
        ),
        _close("optimal rate 2/(λ_+ + λ_max) of the part above 0.001 λ_max", best, found, 3e-2),
    ]
    place = 0
    for i, layer in enumerate(stops[0].layers):
        block = slice(place, place := place + layer.parameters)
        true = [float(torch.linalg.eigvalsh(t.hessian[block, block])[-1]) for t in truths]
        values = [s.layers[i].sharpness.value for s in stops]
        made.append(_close(f"sharpness of layer {layer.name}", true, values, 1e-3))
    return made


def falling(falls: list[tuple[float, float]]) -> Claim:
    """The index falls with the loss."""
    ordered = [count for _, count in sorted(falls)]
    pairs = [later - before for before, later in itertools.pairwise(ordered)]
    words = ", ".join(f"{loss:.3g}: {count:.0f}" for loss, count in falls)
    holds = all(pair > 0 for pair in pairs)
    claim = "the index (below -0.001 λ_max) falls with the loss, at each of six looks: loss: index"
    return Claim(claim, DAUPHIN, "falls each time", words, holds)


def _run() -> Outcome:
    stops, truths, falls = tour()
    runs = [edge.ascent(method) for method in edge.METHODS]
    made = (*claims(stops, truths), falling(falls), *edge.claims(runs))
    figures = {"spectra": _spectrum(stops, truths), "edge": edge.figure(runs)}
    settings = {
        "network": "digits, tanh 64-8-8-10, cross-entropy of all 1168, float64, 682 parameters",
        "training": f"SGD 0.1, momentum 0.9, full batch; stops at {', '.join(map(str, STOPS))}",
        "edge of stability": edge.SETTING,
    }
    return Outcome(made, figures, settings)


@styled
def _spectrum(stops: list[Stop], truths: list[DenseCurvature]) -> Figure:
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    panels = figure.subplots(1, len(stops), sharey=True)
    for axes, stop, truth, name in zip(panels, stops, truths, STOPS.values(), strict=True):
        low, high = float(truth.values[0]), float(truth.values[-1])
        zero = TOLERANCE * high
        side = np.geomspace(zero, 1.05 * high, 22)
        edges = np.concatenate([-side[side < 1.3 * abs(low)][::-1], side])
        count = np.histogram(truth.values.numpy(), edges)[0]
        weights = stop.density.weights / len(stop.density.weights) * len(truth.values)
        seen = np.histogram(stop.density.nodes.reshape(-1), edges, weights=weights.reshape(-1))[0]
        axes.stairs(count, edges, fill=True, color=tone("sky"), alpha=0.6, label="eigenvalues")
        axes.stairs(seen, edges, color=tone("vermillion"), lw=1.4, label="Lanczos quadrature")
        axes.set_xscale("symlog", linthresh=zero, linscale=0.3)
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.3)
        marks = [0.0, *(s * 10.0**k for s in (-1, 1) for k in range(-4, 2))]
        shown = [m for m in marks if m == 0 or (abs(m) > 3 * zero and edges[0] < m < edges[-1])]
        axes.set_xticks(shown, [f"{m:g}" for m in shown], rotation=45, fontsize=8)
        axes.minorticks_off()
        label = f"{name}: loss {stop.loss:.3g}"
        axes.set(title=label, xlabel="eigenvalue", xlim=(edges[0], edges[-1]))
    panels[0].set(ylabel="eigenvalues a bin", ylim=(0, 1000))
    panels[0].set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    panels[-1].legend(loc="upper right", fontsize=8)
    figure.suptitle("The Hessian's spectrum from products, and from the dense matrix")
    return figure


EXPERIMENT = Experiment(
    name="curvature-tour",
    title="Curvature, every estimate against the dense Hessian; and the edge of stability",
    summary=(
        "A digits network at the start, the middle and the end of training: both ends of the "
        "spectrum, index, kind of point, condition number, trace, norm, density, log-determinant, "
        "effective dimension, gradient noise, its alignment with the Hessian, sharpness by layer, "
        "stable and optimal rates, from products and with their errors, against dense matrices. "
        "Then what is known of training: the index falls with the loss, and full-batch gradient "
        "descent, heavy ball and Adam sharpen up to their own limits."
    ),
    run=_run,
    seconds=60.0,
)
