r"""Small batches, large batches, and how sharp the minima are that they find.

Keskar et al. saw large batches end in sharper minima that test worse. Networks of both kinds are
trained here to the same training loss. Two objections are measured beside: weights of another size
look sharper or flatter whatever the function (Li et al.), and the layers of a ReLU network can be
rescaled until the flat one is the sharper of the two, by Keskar's measure, with the same outputs
(Dinh et al.).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from thalweg.report import canvas
from thalweg.report.style import styled, tone
from thalweg.reproduce.batch_sizes import GROUPS, MEASURES, ROOT, Found, images, look, trained
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT", "claims", "ratios"]

SEEDS, TARGET, FACTOR = 6, 0.02, 50.0
KESKAR = "Keskar, Mudigere, Nocedal, Smelyanskiy and Tang 2017, 1609.04836"
LI = "Li, Xu, Taylor, Studer and Goldstein 2018, section 5"
KWON = "Kwon, Kim, Park and Choi 2021, 2102.11600"
DINH = "Dinh, Pascanu, Bengio and Bengio 2017, 1703.04933"
HOFFER = "Hoffer, Hubara and Soudry 2017, 1705.08741"
Groups = Mapping[str, Sequence[Found]]
NAMES: Final = tuple(group.name for group in GROUPS)


def ratios(above: Sequence[float], below: Sequence[float]) -> Interval:
    """The interval of the mean logarithm of ratios, seed by seed.

    Example:
        >>> round(ratios([2.0, 2.0], [1.0, 1.0]).mean, 3)
        0.693
    """
    return Interval.of(np.log(np.divide(above, below)))


def claims(found: Groups) -> list[Claim]:
    """What was published of both kinds of minima, and against it."""
    small, large, faster = (found[name] for name in NAMES)
    gap = [b.error - a.error for a, b in zip(small, large, strict=True)]
    words = "test error of large batches over that of small ones, in points, same training loss"
    made = [_positive(words, KESKAR, Interval.of(gap))]
    for name in MEASURES:
        source = KWON if name == "adaptive" else KESKAR
        words = f"sharpness of large batches over that of small ones: {name}"
        made.append(_ratio(words, source, [[f.sharpness[name] for f in g] for g in (large, small)]))
    words = "norm of the weights, without decay: small batches over large ones"
    made.append(_ratio(words, LI, [[f.norm for f in g] for g in (small, large)]))
    words = "filter-normalised lines: rise of the loss at one end, large batches over small ones"
    rises = [[f.normalised[-1] - f.loss for f in g] for g in (large, small)]
    made.append(_ratio(words, LI, rises))
    return [*made, *_objections(small, large), _narrower(small, large, faster)]


def _objections(small: Sequence[Found], large: Sequence[Found]) -> list[Claim]:
    """The flat minima made sharp."""
    change = max(f.change for f in small)
    words = f"small batches, layers rescaled by {FACTOR:g}: largest change of an output, relative"
    made = [Claim(words, DINH, "< 1e-5", float(f"{change:.2g}"), change < 1e-5, n=len(small))]
    words = f"small batches, rescaled by {FACTOR:g}, over large ones: Keskar"
    pair = [[f.moved["Keskar"] for f in small], [f.sharpness["Keskar"] for f in large]]
    made.append(_ratio(words, DINH, pair))
    moves = max(abs(f.moved["adaptive"] / f.sharpness["adaptive"] - 1) for f in small)
    words = "and the adaptive sharpness does not move: largest change, relative"
    made.append(Claim(words, KWON, "< 1e-3", float(f"{moves:.2g}"), moves < 1e-3, n=len(small)))
    return made


def _narrower(small: Sequence[Found], large: Sequence[Found], faster: Sequence[Found]) -> Claim:
    """Whether a larger rate brings large batches nearer to small ones."""
    less = [b.error - c.error for b, c in zip(large, faster, strict=True)]
    gap = np.mean([b.error - a.error for a, b in zip(small, large, strict=True)])
    words = f"large batches at {ROOT:.2g} times the rate: test error that this takes off, in points"
    words += f" (of a gap of {gap:.2g})"
    return _positive(words, HOFFER, Interval.of(less))


def _positive(words: str, source: str, found: Interval) -> Claim:
    half = found.half_width or 0.0
    interval = (found.mean - half, found.mean + half)
    return Claim(words, source, "> 0", round(found.mean, 3), interval[0] > 0, interval, found.n)


def _ratio(words: str, source: str, pair: Sequence[Sequence[float]]) -> Claim:
    found = ratios(*pair)
    half = found.half_width or 0.0
    low, high = np.exp(found.mean - half), np.exp(found.mean + half)
    interval = (float(low), float(high))
    return Claim(
        words, source, "> 1", round(float(np.exp(found.mean)), 3), low > 1, interval, found.n
    )


@styled
def _verdict(found: Groups) -> Figure:
    """Test error against two measures, and where rescaling moves the small batches."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name in ((left, "Keskar"), (right, "adaptive")):
        for group in GROUPS:
            seen = found[group.name]
            error = [f.error for f in seen]
            look = {"color": tone(group.tone), "marker": group.marker, "ms": 6, "ls": "none"}
            axes.plot([f.sharpness[name] for f in seen], error, label=group.name, **look)
            if group is GROUPS[0]:
                there = [f.moved[name] for f in seen]
                label = f"{group.name}, layers rescaled"
                axes.plot(there, error, label=label, mfc="none", mew=1.4, **look)
        every = [f.sharpness[name] for f in chain.from_iterable(found.values())]
        every += [f.moved[name] for f in found[GROUPS[0].name]]
        canvas.log_axis(axes.xaxis, min(every), max(every))
    left.set(xlabel="Keskar's sharpness, % (log)", ylabel="test error, %")
    right.set(xlabel="adaptive sharpness, ρ = 0.5 (log)")
    words = "rescaled layers: the same outputs, sharper than all others"
    canvas.caption(left, "Keskar's sharpness depends on the scale", words)
    words = "it does not move, and tells the two kinds apart less clearly"
    canvas.caption(right, "Adaptive sharpness does not", words)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4)
    return figure


@styled
def _lines(found: Groups) -> Figure:
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for group in GROUPS[:2]:
        for k, f in enumerate(found[group.name]):
            look: dict[str, Any] = {"color": tone(group.tone), "lw": 1.1}
            look["label"] = group.name if k == 0 else None
            left.plot(10.0 * f.t, f.raw, **look)
            right.plot(f.t, f.normalised, **look)
    for axes, kind in ((left, "raw"), (right, "normalised")):
        seen = [getattr(f, kind) for group in GROUPS[:2] for f in found[group.name]]
        canvas.log_axis(axes.yaxis, np.min(seen), np.max(seen))
        axes.set_ylabel("training loss (log)")
    left.set_xlabel("distance, along directions of length 1")
    right.set_xlabel("share of each unit's weights")
    canvas.caption(left, "Raw directions", "a line for each seed, mean over three directions")
    words = "norms of the weights: " + ", ".join(
        f"{np.mean([f.norm for f in found[group.name]]):.0f} ({group.name})" for group in GROUPS[:2]
    )
    canvas.caption(right, "Filter-normalised", words)
    left.legend()
    return figure


def _run() -> Outcome:
    data, test = images()
    found = {
        group.name: [
            look(*trained(group, data, seed, TARGET), data, test, FACTOR) for seed in range(SEEDS)
        ]
        for group in GROUPS
    }
    numbers = ("steps", "loss", "error", "norm")
    settings: dict[str, Any] = {
        "data": f"MNIST, 14 x 14, {len(data[0])} to train on, {len(test[0])} for the test",
        "network": "196-64-64-10 with ReLU",
        "training": f"SGD, momentum 0.9, no decay, until the whole training loss is {TARGET}",
        "rates": {group.name: round(group.rate, 4) for group in GROUPS},
        "seeds": SEEDS,
        "measures": "Keskar: epsilon 1e-3, in %; adaptive: ASAM's, element-wise, radius 0.5",
        "found": {
            name: {key: [getattr(f, key) for f in seen] for key in numbers}
            | {"sharpness": [f.sharpness for f in seen], "rescaled": [f.moved for f in seen]}
            for name, seen in found.items()
        },
    }
    figures = {"verdict": _verdict(found), "lines": _lines(found)}
    return Outcome(tuple(claims(found)), figures, settings)


EXPERIMENT = Experiment(
    name="small-batch-flat-minima",
    title="Small and large batches, and the sharpness of their minima",
    summary=(
        "Networks trained on digits of MNIST with batches of 16 and of a tenth of the data, to the "
        "same training loss, six seeds each: test error, weight norms, sharpness by three measures "
        "and filter-normalised lines. Small batches test better here and are flatter by every "
        "measure. That does not make flatness the cause: with two layers rescaled, the outputs "
        "stay and Keskar's measure turns around, and a larger rate brings large batches half of "
        "the way to small ones."
    ),
    run=_run,
    seconds=100.0,
)
