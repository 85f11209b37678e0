r"""Ways between two solutions: over the hump, around it, and with the units renumbered.

On the straight line between two networks that were trained from different seeds the loss has a
hump. It is not a wall: paths that bend have next to none (Draxler et al., Garipov et al.). And a
good part of it is a matter of numbering: with the hidden units of the second network renumbered to
be like those of the first, the hump on the straight line all but vanishes as networks grow wide
(Entezari et al., Ainsworth et al.).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from thalweg.landscape import Surface
from thalweg.report import canvas, landscapes
from thalweg.report.style import styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.mode_pairs import (
    DECAY,
    METHODS,
    POINTS,
    RATE,
    Pair,
    PairsOfWidth,
    across,
    between,
    networks,
    through,
)


__all__ = ["EXPERIMENT", "claims"]

PAIRS, STEPS, WIDTH = 3, 600, 64
WIDTHS = (8, 16, 32, 64, 128)
GOODFELLOW = "Goodfellow, Vinyals and Saxe 2014, 1412.6544"
DRAXLER = "Draxler, Veschgini, Salmhofer and Hamprecht 2018, 1803.00885"
GARIPOV = "Garipov, Izmailov, Podoprikhin, Vetrov and Wilson 2018, 1802.10026"
ENTEZARI = "Entezari, Sedghi, Saukh and Neyshabur 2021, 2110.06296"
AINSWORTH = "Ainsworth, Hayase and Srinivasa 2023, 2209.04836"
SOURCES: Final = {"AutoNEB": DRAXLER, "Bezier curve": GARIPOV, "polygon": GARIPOV}
TONES: Final = {
    "straight line": ("vermillion", "-"),
    "AutoNEB": ("blue", "-"),
    "Bezier curve": ("green", "--"),
    "polygon": ("purple", ":"),
}


def claims(pairs: Sequence[Pair], widths: Sequence[PairsOfWidth]) -> list[Claim]:
    """What was published of each way."""
    count = len(pairs)
    least = min(p.straight.barrier() / max(p.straight.loss[[0, -1]]) for p in pairs)
    words = "straight line: its barrier over the loss of the worse end, lowest of all pairs"
    made = [Claim(words, GOODFELLOW, "> 10", float(f"{least:.3g}"), least > 10, n=count)]
    for method in pairs[0].paths:
        left = max(pair.remainder(method) for pair in pairs)
        words = f"{method}: barrier left of the straight line's, highest of all pairs"
        source = f"{SOURCES[method]}; nearly constant: at most 5 %"
        made.append(Claim(words, source, "<= 0.05", float(f"{left:.2g}"), left <= 0.05, n=count))
        error = max(pair.extra_error(method) for pair in pairs)
        words = f"{method}: rise of the test error over the worse end, in points, highest"
        source = f"{SOURCES[method]}; nearly constant: at most 1 point"
        made.append(Claim(words, source, "<= 1", round(error, 2), error <= 1.0, n=count))
    return [*made, *_of_numbering(widths)]


def _of_numbering(widths: Sequence[PairsOfWidth]) -> list[Claim]:
    """What renumbering does, and that width helps it."""
    shares = [np.divide(w.after, w.before) for w in widths]
    worst = float(max(share.max() for share in shares))
    words = "renumbered: barrier on the straight line over that before, highest of all widths"
    number = sum(len(share) for share in shares)
    made = [Claim(words, AINSWORTH, "< 1", float(f"{worst:.2g}"), worst < 1, n=number)]
    means = [float(np.mean(w.after)) for w in widths]
    falls = all(np.diff(means) < 0)
    words = f"renumbered: the wider, the lower its mean barrier, widths {_listed(widths)}"
    shown = ", ".join(f"{mean:.2g}" for mean in means)
    made.append(Claim(words, ENTEZARI, "falling", shown, bool(falls), n=len(shares[0])))
    last = float(shares[-1].max())
    words = f"renumbered: barrier over that before at width {widths[-1].width}, highest"
    source = f"{AINSWORTH}; none in wide networks: at most 5 %"
    made.append(
        Claim(words, source, "<= 0.05", float(f"{last:.2g}"), last <= 0.05, n=len(shares[-1]))
    )
    return made


def _listed(widths: Sequence[PairsOfWidth]) -> str:
    return ", ".join(str(w.width) for w in widths)


@styled
def _profiles(pairs: Sequence[Pair]) -> Figure:
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    low, high = np.inf, 0.0
    for pair in pairs:
        for name, way in {"straight line": pair.straight, **pair.paths}.items():
            colour, dash = TONES[name]
            label = name if pair is pairs[0] else None
            look: dict[str, Any] = {"color": tone(colour), "ls": dash, "lw": 1.3, "label": label}
            left.plot(way.t, way.loss, **look)
            right.plot(way.t, 100.0 * way.metrics["test_error"], **look)
            low, high = min(low, way.loss.min()), max(high, way.loss.max())
    canvas.log_axis(left.yaxis, low, high)
    left.set(xlabel="t, from one solution (0) to the other (1)", ylabel="training loss (log)")
    right.set(xlabel="t, from one solution (0) to the other (1)", ylabel="test error, %")
    right.set_ylim(bottom=0.0)
    setting = f"{len(pairs)} pairs, {POINTS} points and the images of a band"
    canvas.caption(left, "Training: a hump, and ways around it", setting)
    canvas.caption(right, "Test: nearly constant on the ways around", "359 digits: one is 0.28 %")
    right.legend()
    return figure


@styled
def _widths(widths: Sequence[PairsOfWidth]) -> Figure:
    figure, axes = canvas.axes(None)
    rows = (("as trained", "before", "vermillion", "o"), ("renumbered", "after", "blue", "s"))
    x = [w.width for w in widths]
    every = [value for w in widths for value in (*w.before, *w.after)]
    for label, name, colour, marker in rows:
        values = np.array([getattr(w, name) for w in widths])
        axes.plot(x, values.mean(axis=1), color=tone(colour), label=f"{label}, mean")
        for column in values.T:
            axes.plot(x, column, marker, color=tone(colour), ms=4, alpha=0.7)
    canvas.log_axis(axes.yaxis, min(every), max(every))
    axes.set(xscale="log", xticks=x, xticklabels=[str(width) for width in x])
    axes.minorticks_off()
    axes.set(xlabel="units in each hidden layer (log)", ylabel="barrier, straight line (log)")
    pairs = len(widths[0].before)
    words = f"barrier of the training loss on the straight line, {pairs} pairs at each width"
    canvas.caption(axes, "Much of the hump is a matter of numbering", words)
    canvas.legend(axes)
    return figure


def _ground(surface: Surface) -> Figure:
    return landscapes.plane(
        surface,
        title="Around the hump: training loss",
        line="the plane through two solutions and the bend of the Bezier curve between them",
        strip=False,
    )


def _run() -> Outcome:
    ends = {width: networks(width, 2 * PAIRS, STEPS) for width in WIDTHS}
    wide = ends[WIDTH]
    pairs = [between(a, b) for a, b in zip(wide[::2], wide[1::2], strict=True)]
    widths = [across(width, found) for width, found in ends.items()]
    settings: dict[str, Any] = {
        "data": "digits, 1168 to train on, 359 for the test",
        "network": f"64-{WIDTH}-{WIDTH}-10 with ReLU; for the numbering, widths {_listed(widths)}",
        "training": f"SGD, rate {RATE}, momentum 0.9, decay {DECAY}, {STEPS} steps of 64",
        "pairs": PAIRS,
        "methods": {name: repr(method) for name, method in METHODS.items()},
        "barriers": {
            "straight line": [pair.straight.barrier() for pair in pairs],
            **{name: [pair.paths[name].barrier() for pair in pairs] for name in METHODS},
        },
        "lengths over the straight line's": {
            name: [pair.paths[name].length / pair.straight.distance for pair in pairs]
            for name in METHODS
        },
        "by width": {w.width: {"as trained": w.before, "renumbered": w.after} for w in widths},
    }
    figures = {
        "profiles": _profiles(pairs),
        "plane": _ground(through(pairs[0], "Bezier curve", 41)),
        "widths": _widths(widths),
    }
    return Outcome(tuple(claims(pairs, widths)), figures, settings)


EXPERIMENT = Experiment(
    name="mode-connectivity",
    title="Ways between two solutions: around the hump, and with renumbered units",
    summary=(
        "Three pairs of networks trained on the digits from different seeds: the straight line "
        "between them has a hump, a relaxed band and curves with a bend go around it at nearly "
        "constant loss and test error, and with the units of one network renumbered to be like "
        "the other's, little of the hump is left on the straight line, the less the wider."
    ),
    run=_run,
    seconds=100.0,
)
