r"""Sparse features: what Adagrad and Adam learn that SGD cannot reach in the same number of steps.

Documents of 50 words drawn from Zipf's law over 400 words; a word's presence is a feature, and the
class is logistic in them. One rate for all words is bounded by the common ones, so that SGD hardly
moves the weights of words seen in two documents of a hundred. Adagrad divides by the root of the
summed squares, which grow with the frequency p of the word: its rate goes like
:math:`p^{-1/2}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from thalweg.optim import SGD, Adagrad, Adam
from thalweg.report import canvas
from thalweg.report.style import series, styled, tone
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.fits import exponent
from thalweg.study.statistics import Interval


__all__ = ["EXPERIMENT"]

WORDS, LENGTH, SPREAD = 400, 50, 0.7
BATCH, STEPS, TEST = 8, 800, 2000
RARE = 100  # the words from this rank on are in less than 8% of the documents
TUNING, FRESH = range(1, 5), range(11, 27)
SCHEDULES = ("constant", "linear")
ZIPF = 1 / torch.arange(1, WORDS + 1)
FREQUENCY = 1 - (1 - ZIPF / ZIPF.sum()) ** LENGTH
NAMES = {"sgd": "SGD", "adagrad": "Adagrad", "adam": "Adam"}
DUCHI, KINGMA = "Duchi, Hazan, Singer 2011", "Kingma, Ba 2015"

Make = Callable[[list[dict[str, Any]]], Any]
METHODS: dict[str, tuple[Make, float, str]] = {  # the lowest of nine rates, each twice the last
    "sgd": (SGD, 0.04, ""),
    "adagrad": (Adagrad, 0.03, DUCHI),
    "adam": (Adam, 0.002, KINGMA),
}


@final
@dataclass(frozen=True)
class Documents:
    """Data of some seeds: presence [seeds, documents, words], classes, true weights and offset."""

    presence: Tensor
    classes: Tensor
    weights: Tensor
    offset: Tensor

    @classmethod
    def draw(cls, seeds: range) -> Documents:
        """Training documents in the order in which they are read, then those of the test."""
        drawn = []
        for seed in seeds:
            source = torch.Generator().manual_seed(seed)
            weights = SPREAD * torch.randn(WORDS, generator=source)
            presence = torch.rand(BATCH * STEPS + TEST, WORDS, generator=source) < FREQUENCY
            offset = -(FREQUENCY @ weights)
            chance = torch.sigmoid(presence.float() @ weights + offset)
            drawn.append((presence, torch.rand(len(chance), generator=source) < chance, weights))
        presence, classes, weights = (torch.stack(part) for part in zip(*drawn, strict=True))
        return cls(presence, classes.float(), weights, -(weights @ FREQUENCY))

    def batch(self, start: int, size: int) -> tuple[Tensor, Tensor]:
        """Features with a one for the offset, [seeds, size, words + 1], and classes."""
        x = self.presence[:, start : start + size].float()
        return torch.nn.functional.pad(x, (0, 1), value=1.0), self.classes[:, start : start + size]


@final
@dataclass(frozen=True)
class Score:
    """By rate and seed: test loss above the true model's, and errors of weights over their size."""

    excess: Tensor
    common: Tensor
    rare: Tensor
    squares: Tensor | None


def play(name: str, rates: list[float], schedule: str, data: Documents) -> Score:
    """One pass over the documents at each rate at once, each with weights of its own."""
    seeds = len(data.weights)
    points = [torch.zeros(seeds, WORDS + 1) for _ in rates]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(points, rates, strict=True)]
    optimizer = METHODS[name][0](groups)
    for step in range(STEPS):
        if schedule == "linear":
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / STEPS)
        x, y = data.batch(step * BATCH, BATCH)
        errors = torch.sigmoid(x @ torch.stack(points, -1)) - y[..., None]
        gradients = x.transpose(1, 2) @ errors / BATCH
        for p, gradient in zip(points, gradients.unbind(-1), strict=True):
            p.grad = gradient
        optimizer.step()
    squares = optimizer.state[points[0]].get("sum")
    return _score(torch.stack(points), data, None if squares is None else squares[:, :WORDS])


def _score(points: Tensor, data: Documents, squares: Tensor | None) -> Score:
    """The scores of weights [rates, seeds, words + 1]."""
    x, y = data.batch(BATCH * STEPS, TEST)
    truth = torch.cat([data.weights, data.offset[:, None]], dim=1)

    def loss(weights: Tensor) -> Tensor:
        logits = (x @ weights[..., None])[..., 0]
        return cross_entropy(logits, y.expand_as(logits), reduction="none").mean(-1)

    errors = (points - truth)[..., :WORDS].square()
    size = data.weights.square()
    parts = (slice(0, RARE), slice(RARE, None))
    common, rare = (errors[..., part].sum(-1) / size[:, part].sum(-1) for part in parts)
    return Score(torch.stack([loss(p) for p in points]) - loss(truth), common, rare, squares)


def _run() -> Outcome:
    tuning, fresh = Documents.draw(TUNING), Documents.draw(FRESH)
    losses = {
        name: {schedule: _tune(name, schedule, tuning) for schedule in SCHEDULES}
        for name in METHODS
    }
    best = {
        name: {
            schedule: _rates(name)[int(np.argmin(losses[name][schedule]))] for schedule in SCHEDULES
        }
        for name in METHODS
    }
    scores = {
        name: {
            schedule: play(name, [best[name][schedule]], schedule, fresh) for schedule in SCHEDULES
        }
        for name in METHODS
    }
    better = {name: min(SCHEDULES, key=lambda s: min(losses[name][s])) for name in METHODS}
    claims = (
        *_comparisons(
            {name: found["constant"] for name, found in scores.items()}, "constant rates"
        ),
        *_comparisons(
            {name: scores[name][better[name]] for name in METHODS}, "rate and schedule tuned"
        ),
        *_rates_of_words(scores["adagrad"]["constant"]),
    )
    settings = {
        "data": (
            f"{WORDS} words, Zipf; documents of {LENGTH}; weights normal, spread {SPREAD}; "
            f"{BATCH * STEPS} documents once, batches of {BATCH}; {TEST} to test"
        ),
        "seeds": f"tuning {TUNING[0]} to {TUNING[-1]}, fresh {FRESH[0]} to {FRESH[-1]}",
        "rates tried": {
            name: f"{_rates(name)[0]:g} to {_rates(name)[-1]:g}, 9" for name in METHODS
        },
        "rates chosen": best,
        "schedules chosen": better,
        "rare": f"rank {RARE} and beyond: in {FREQUENCY[-1]:.1%} to {FREQUENCY[RARE]:.1%}",
    }
    figures = {
        "features": _picture(losses, scores),
        "frequency": _frequency(scores["adagrad"]["constant"]),
    }
    return Outcome(claims, figures, settings)


def _rates(name: str) -> list[float]:
    return [METHODS[name][1] * 2.0**k for k in range(9)]


def _tune(name: str, schedule: str, data: Documents) -> list[float]:
    """The mean excess loss over the tuning seeds at each rate."""
    return play(name, _rates(name), schedule, data).excess.mean(1).tolist()


def _comparisons(scores: dict[str, Score], how: str) -> Iterator[Claim]:
    """Paired differences on the fresh seeds, SGD less the other."""
    for name, (_, _, source) in METHODS.items():
        if name == "sgd":
            continue
        for quantity, words in (
            ("excess", "test loss above the true model's"),
            ("rare", "relative squared error of the rare words' weights"),
        ):
            gap = getattr(scores["sgd"], quantity)[0] - getattr(scores[name], quantity)[0]
            found = Interval.of(gap.tolist())
            interval = (found.mean - (found.half_width or 0), found.mean + (found.half_width or 0))
            text = f"{how}: {words}, SGD less {name.capitalize()}"
            where = f"{source}: adaptive rates suit sparse features; above 0 with its interval"
            yield Claim(text, where, "> 0", found.mean, interval[0] > 0, interval, found.n)


def _rates_of_words(score: Score) -> Iterator[Claim]:
    assert score.squares is not None
    slopes = [exponent(FREQUENCY, 1 / squares.sqrt()) for squares in score.squares]
    words = "exponent of Adagrad's effective rate in the frequency of the word"
    yield Claim.of_sample(words, f"{DUCHI}, section 1.3; to 10%", -0.5, slopes, 0.1)


@styled
def _picture(losses: dict[str, Any], scores: dict[str, dict[str, Score]]) -> Figure:
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in METHODS:
        look = series(name)
        for schedule, dash in zip(SCHEDULES, ("-", (0, (1.4, 1.4))), strict=True):
            values = losses[name][schedule]
            style = {"color": look.colour, "ls": dash, "marker": look.marker, "markersize": 4}
            left.plot(_rates(name), values, label=f"{NAMES[name]}, {schedule}", **style)
    left.set(xscale="log", xlabel="learning rate (log)")
    canvas.log_axis(left.yaxis, 0.035, 1.0)
    left.set_ylabel("test loss above the true model's (log)")
    left.set_title(f"Tuning: mean of {len(TUNING)} seeds")
    left.legend(fontsize=8)
    places = np.arange(4)
    kinds = [(part, schedule) for schedule in SCHEDULES for part in ("common", "rare")]
    for k, name in enumerate(METHODS):
        found = [Interval.of(getattr(scores[name][s], part)[0].tolist()) for part, s in kinds]
        right.bar(
            places + 0.26 * (k - 1),
            [interval.mean for interval in found],
            0.24,
            yerr=[interval.half_width or 0 for interval in found],
            color=series(name).colour,
            ecolor=tone("ink"),
            label=NAMES[name],
        )
    right.set_xticks(places, [f"{part} words\n{schedule}" for part, schedule in kinds])
    right.set_ylabel("squared error of the weights over their size")
    right.set_title(f"At the tuned rate: {len(FRESH)} fresh seeds, 95% intervals")
    right.legend(fontsize=8)
    figure.suptitle(
        f"SGD learns rare words least; {WORDS} words, {BATCH * STEPS:,} documents read once"
    )
    return figure


@styled
def _frequency(score: Score) -> Figure:
    """Adagrad's rate of each word over its frequency."""
    assert score.squares is not None
    figure, axes = canvas.axes(None)
    rates = (1 / score.squares.sqrt()).numpy()
    look, p = series("adagrad"), FREQUENCY.numpy()
    axes.plot(p, np.median(rates, axis=0), ".", color=look.colour, label="Adagrad, a dot a word")
    # The guide goes through the middle of the words: its slope is what is claimed.
    middle = np.exp(np.mean(np.log(rates) + 0.5 * np.log(p)))
    axes.plot(p, middle / np.sqrt(p), ":", color=tone("ink"), label="like p to the −1/2")
    canvas.log_axis(axes.xaxis, p.min(), p.max())
    canvas.log_axis(axes.yaxis, rates.min(), rates.max())
    axes.set(xlabel="frequency p of the word: share of documents with it (log)")
    axes.set(ylabel="effective rate / learning rate (log)")
    line = f"after {STEPS} batches of {BATCH}, constant rate; median of {len(FRESH)} fresh seeds"
    canvas.caption(axes, "Adagrad keeps a larger rate for rarer words", line)
    canvas.legend(axes)
    return figure


EXPERIMENT = Experiment(
    name="infrequent-features",
    title="Infrequent features: Adagrad and Adam against SGD on sparse data",
    summary=(
        "Logistic regression on the presence of words of very different frequency. Each method "
        "gets nine rates and two schedules on its own tuning seeds; then it runs on fresh seeds. "
        "Adagrad's rate of a word goes like one over the root of its frequency, so that rare words "
        "are learnt; SGD's is bounded by the common ones. How much of the advantage is left once "
        "SGD's rate may fall is told separately."
    ),
    run=_run,
    seconds=8.0,
)
