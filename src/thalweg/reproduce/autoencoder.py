r"""The deep autoencoder of curves: K-FAC against tuned SGD with momentum and tuned Adam.

On this network gradients alone sit on a plateau (the mean image) and then in long valleys. K-FAC
takes its learning rate and momentum from the quadratic model of each batch and adapts its damping,
so all that is tuned of it is the damping that it starts at. Each method also picks its batch size:
what is good for gradients (small batches) is not what is good for curvature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from thalweg.report.style import series, styled, tone
from thalweg.reproduce.autoencoder_runs import (
    INTERVALS,
    NAMES,
    SEEDS,
    SEEN,
    SHARE,
    SPACES,
    STEPS,
    TRIALS,
    best,
    images,
    run,
    seconds,
    tuned,
)
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT"]

PAPER = "Martens and Grosse, Optimizing neural networks with K-FAC, 2015, section 13"
SHOWN, MOST = 10, 100.0


def ratios(rival: str) -> tuple[np.ndarray, np.ndarray]:
    """K-FAC's steps and seconds to where a rival ends, over the rival's own, a number each seed."""
    own, theirs = best("kfac"), best(rival)
    steps = []
    for seed in SEEDS:
        mark = float(run(theirs, seed)[0].losses[-1])
        steps.append(run(own, seed)[0].reaches(mark) / STEPS[rival][theirs.batch])
    step = {method: float(np.median(row)) for method, row in seconds().items()}
    return np.array(steps), np.array(steps) * step["kfac"] / step[rival]


def shares(rival: str) -> np.ndarray:
    """K-FAC's loss over a rival's when the shorter of the two runs is over, a number each seed."""
    step = {method: float(np.median(row)) for method, row in seconds().items()}
    pair = [best(method) for method in ("kfac", rival)]
    time = min(step[s.method] * STEPS[s.method][s.batch] for s in pair)
    own, theirs = ([run(s, seed)[0].at(time / step[s.method]) for seed in SEEDS] for s in pair)
    return np.array(own) / np.array(theirs)


def claims() -> tuple[Claim, ...]:
    """Steps and seconds to the loss of each rival, and the losses after equal time."""
    made: list[Claim] = []
    for rival in ("momentum", "adam"):
        counts, times = ratios(rival)
        where = f"to the training loss with which tuned {NAMES[rival]} ends"
        made += [
            _below_one(f"steps of K-FAC {where}, over its own", counts, "fewer iterations"),
            _below_one(f"seconds of K-FAC {where}, over its own", times, "less time"),
        ]
    for rival in ("momentum", "adam"):
        words = f"training loss after equal time: K-FAC's over that of tuned {NAMES[rival]}"
        made.append(_below_one(words, shares(rival), "a lower loss"))
    return tuple(made)


def _below_one(words: str, values: np.ndarray, published: str) -> Claim:
    """Holds where the whole interval of the geometric mean is below 1."""
    source = f"{PAPER}: {published}; below 1, with its 95% interval"
    if not np.isfinite(values).all():
        never = f"not reached on {int((~np.isfinite(values)).sum())} of {len(values)} seeds"
        return Claim(words, source, "< 1", never, False, n=len(values))
    found = Interval.of(np.log(values))
    half = found.half_width or 0.0
    low, mean, high = (math.exp(found.mean + k * half) for k in (-1, 0, 1))
    return Claim(words, source, "< 1", round(mean, 3), high < 1, (low, high), len(values))


def _run() -> Outcome:
    step = {method: float(np.median(row)) for method, row in seconds().items()}
    settings = {
        "data": "4,000 strokes of 16 x 16 pixels, problem curves",
        "network": "256-128-64-32-6 and back, sigmoids, linear code, 15 weights to a unit at first",
        "loss": f"cross-entropy summed over pixels, less the images' own; {SEEN} of training",
        "space": {m: {n: [r.low, r.high] for n, r in s.items()} for m, s in SPACES.items()},
        "steps of a run, by batch size": {m: {str(b): n for b, n in s.items()}
                                          for m, s in STEPS.items()},
        "trials": f"{TRIALS} of equal processor time for each method, one seed; on record",
        "seeds": list(SEEDS),
        "chosen": {method: best(method).words for method in NAMES},
        "K-FAC": f"quadratic model from {SHARE:g} of the batch, Levenberg-Marquardt damping, "
        f"factors every {INTERVALS[0]} steps, inverses every {INTERVALS[1]}",
        "milliseconds of a step": {method: round(1e3 * s, 1) for method, s in step.items()},
        "clock": "processor time of one thread, the three methods taking turns",
    }  # fmt: skip
    return Outcome(
        claims(), {"losses": _losses(), "images": _images(), "trials": _trials()}, settings
    )


@styled
def _losses() -> Figure:
    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for method, name in NAMES.items():
        look, chosen = series(method), best(method)
        made = [run(chosen, seed)[0] for seed in SEEDS]
        rows, steps = np.array([r.losses for r in made]), made[0].steps
        a_step = float(np.median(seconds()[method]))
        for axes, x in ((left, steps), (right, steps * a_step)):
            axes.plot(x, np.median(rows, 0), color=look.colour, ls=look.dash, label=name)
            axes.fill_between(x, rows.min(0), rows.max(0), color=look.colour, alpha=0.15, lw=0)
    left.set(yscale="log", ylabel="training loss above the images' entropy (log)")
    left.set(xscale="symlog", xlabel="step (log from 1)", xlim=(0, None))
    right.set(xlabel="processor seconds of steps", xlim=(0, None))
    right.legend()
    figure.suptitle(
        f"Autoencoder of curves, each method tuned in {TRIALS} trials; median of {len(SEEDS)} "
        "seeds, band from least to largest"
    )
    return figure


@styled
def _images() -> Figure:
    """Some images, and what each network makes of them in the end."""
    chosen = images()[:SHOWN]
    rows: dict[str, Any] = {"images": chosen}
    for method, name in NAMES.items():
        with torch.no_grad():
            rows[name] = run(best(method), SEEDS[0])[1](chosen).sigmoid()
    figure = Figure(figsize=(0.78 * SHOWN + 1.6, 3.7), layout="constrained")
    grid = figure.subplots(len(rows), SHOWN)
    for line, (name, made) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(line, made, strict=True):
            axes.imshow(image.view(16, 16).numpy(), cmap="Greys", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(" with ", "\nwith "), rotation=0, ha="right", va="center")
    figure.suptitle("Strokes, and what the autoencoders give back after equal time (seed 1)")
    return figure


@styled
def _trials() -> Figure:
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    worst = max(loss for method in NAMES for _, loss in tuned(method))
    cut = f"; at most {MOST:g} drawn" if worst > MOST else ""
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if 4 <= t <= 1.5 * worst]
    for axes, (method, name) in zip(figure.subplots(1, 3, sharey=True), NAMES.items(), strict=True):
        look, axis = series(method), "damping" if method == "kfac" else "lr"
        spots = []
        for chosen, loss in tuned(method):
            x, y = dict(chosen.values)[axis], min(loss, MOST)
            axes.plot([x], [y], look.marker, color=look.colour)
            spots.append((x, y, chosen.batch))
        for i, (x, y, batch) in enumerate(sorted(spots)):  # above and below in turn
            place = {"ha": "center", "textcoords": "offset points", "fontsize": 8}
            axes.annotate(f"{batch}", (x, y), (0, -13 if i % 2 else 6), **place)
        axes.set(xscale="log", yscale="log", title=name)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(ticks, [f"{tick}" for tick in ticks])
        axes.set_xlabel("damping at the start (log)" if method == "kfac" else "rate (log)")
        axes.margins(x=0.12, y=0.12)
        axes.grid(visible=True, color=tone("grid"))
    figure.axes[0].set_ylabel("training loss at the end (log)")
    figure.suptitle("Every trial, with its batch size; one seed" + cut)
    return figure


EXPERIMENT = Experiment(
    name="autoencoder",
    title="A deep autoencoder: K-FAC against tuned momentum and tuned Adam",
    summary=(
        "The problem on which Hessian-free optimization and K-FAC were first shown: strokes "
        "through a narrow code. Each method is tuned in the same number of trials of equal "
        "processor time, its batch size included, and run on fresh seeds; steps and seconds are "
        "counted to the loss with which each rival ends."
    ),
    run=_run,
    seconds=100.0,
)
