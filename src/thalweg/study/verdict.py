"""The verdict in words: which optimizer is best, and which cannot be told apart from it.

The best is the one with the best mean among those that lost the fewest confirm runs. Every other is
compared with it on the seeds they share (paired t, Holm-corrected over these comparisons); those
that are not separable at the 5% level are tied with it. Where seeds do not vary (a deterministic
method on a test function) there is nothing to test and the values are compared directly. A metric
that counts samples can differ by the same count on every seed: that has a sign test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from thalweg.study.rows import Quantity, Row
from thalweg.study.statistics import Interval, differences, holm, number, paired_p


__all__ = ["LEVEL", "Comparison", "Verdict", "judge", "listed"]

LEVEL = 0.05
NAMED = 6  # of those that are tied; more are counted
MANY, FEW_SEEDS = 5, 5  # so many comparisons on fewer seeds find large differences only


@final
@dataclass(frozen=True)
class Comparison:
    """One optimizer against the best on the seeds they share.

    Args:
        label: the other optimizer.
        difference: the mean of (other - best) with its uncorrected 95% interval; None without a
            shared seed.
        p: the Holm-adjusted p-value; None where no test was made.
        separable: whether the other is told apart from the best.
        reason: why, in words.
    """

    label: str
    difference: Interval | None
    p: float | None
    separable: bool
    reason: str


@final
@dataclass(frozen=True)
class Verdict:
    """The outcome of a study in words.

    Args:
        best: label of the best optimizer; None if no confirm run finished.
        runner_up: label of the second; None if there is none with a result.
        tied: the best and all not separable from it, best first.
        comparisons: every other ranked optimizer against the best, in rank order.
        sentences: the verdict, one sentence each, the most important first.
    """

    best: str | None
    runner_up: str | None
    tied: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """All sentences as one paragraph."""
        return " ".join(self.sentences)


def judge(
    rows: Sequence[Row], quantity: Quantity, *, drawn: bool = True, tolerance: float = 0.0
) -> Verdict:
    """The verdict over rows that are ranked best first.

    Args:
        rows: ranked rows, see `thalweg.study.scoring.summarize`.
        quantity: what they are ranked by.
        drawn: whether the problem draws data; if not, a single seed is compared directly.
        tolerance: paired values closer than this count as equal.
    """
    ranked = [row for row in rows if row.score is not None]
    if not ranked:
        return Verdict(None, None, (), (), ("No confirm run finished, so there is no best.",))
    best, others = ranked[0], ranked[1:]
    counted = drawn and quantity.key.endswith("_metric")
    comparisons = _corrected([_compare(row, best, drawn, counted, tolerance) for row in others])
    tied = (best.label, *(c.label for c in comparisons if not c.separable))
    sentences = [_headline(best, tied, quantity)]
    if comparisons:
        sentences.append(_runner_up(best, others[0], comparisons[0], several=len(others) > 1))
    if _constant(ranked):
        sentences.append("Seeds do not vary here, so the values are compared directly.")
    elif best.score is not None and best.score.n == 1 and drawn:
        sentences.append("One seed carries no interval: run at least three to tell them apart.")
    elif best.score is not None and best.score.n < FEW_SEEDS and len(tied) > MANY:
        sentences.append(
            f"{best.score.n} seeds tell only large differences apart among {len(ranked)} "
            "optimizers: more seeds or fewer optimizers would say more."
        )
    sentences += [*_lost(rows), *_fastest(rows)]
    runner_up = others[0].label if others else None
    return Verdict(best.label, runner_up, tied, tuple(comparisons), tuple(sentences))


def _compare(row: Row, best: Row, drawn: bool, counted: bool, tolerance: float) -> Comparison:
    """Before correction: `p` is raw, and `separable` is decided later where it is a number."""
    values = differences(row.scores, best.scores)
    interval = Interval.of(values) if values else None
    if row.confirm.lost > best.confirm.lost:
        missing = row.confirm.total - row.confirm.finished
        reason = f"{missing} of {row.confirm.total} confirm runs did not finish"
        return Comparison(row.label, interval, None, True, reason)
    if interval is None:
        return Comparison(row.label, None, None, False, "no seed in common")
    if max(abs(value) for value in values) <= tolerance:
        reason = "equal on every seed" if not any(values) else "equal to rounding"
        return Comparison(row.label, interval, None, False, reason)
    if interval.n == 1 and drawn:
        return Comparison(row.label, interval, None, False, "one seed in common")
    if not interval.deviation and counted:
        return Comparison(row.label, interval, 2.0 ** (1 - interval.n), False, "")
    if not interval.deviation:
        reason = "one run each" if interval.n == 1 else "the same difference on every seed"
        return Comparison(row.label, interval, None, True, reason)
    return Comparison(row.label, interval, paired_p(interval), False, "")


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [c for c in comparisons if c.p is not None]
    adjusted = iter(holm([c.p for c in tested if c.p is not None]))
    result = []
    for comparison in comparisons:
        if comparison.p is not None:
            p = next(adjusted)
            spread = comparison.difference is not None and comparison.difference.deviation
            test = "paired t" if spread else "the same difference on each, sign test"
            reason = f"{test} over {_seeds(comparison)}, Holm-adjusted p {_p_words(p)}"
            comparison = replace(comparison, p=p, separable=p < LEVEL, reason=reason)
        result.append(comparison)
    return result


def _headline(best: Row, tied: Sequence[str], quantity: Quantity) -> str:
    score = best.score
    assert score is not None
    seeds = f"{score.n} fresh seeds" if score.n > 1 else "one fresh seed"
    if score.half_width:
        seeds = f"mean and 95% interval over {seeds}"
    result = f"{quantity.name} {score} ({seeds})"
    if len(tied) == 1:
        return f"{best.label} is best: {result}."
    names = tied[1:]
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return f"{best.label} leads with {result}, but is not separable from {listed(names)}."


def _runner_up(best: Row, row: Row, comparison: Comparison, *, several: bool) -> str:
    difference = comparison.difference
    if row.confirm.lost > best.confirm.lost:
        return f"The next, {row.label}, ranks below because {comparison.reason}."
    if difference is None or difference.mean == 0:
        return f"The next, {row.label}: {comparison.reason}."
    sign, side = (1, "higher") if difference.mean > 0 else (-1, "lower")
    gap = number(abs(difference.mean), 2)
    if comparison.p is not None and difference.low is not None and difference.high is not None:
        low, high = sorted((sign * difference.low, sign * difference.high))
        kind = "uncorrected 95% interval" if several else "95% interval"
        gap += f", {kind} {number(low, 2)} to {number(high, 2)}"
    return f"The next, {row.label}, is {side} by {gap} ({comparison.reason})."


def _lost(rows: Sequence[Row]) -> list[str]:
    sentences = []
    for row in rows:
        outcomes, words = row.confirm, []
        if outcomes.diverged:
            words.append(f"diverged in {outcomes.diverged} of {outcomes.total} confirm runs")
        if outcomes.failed:
            words.append(f"failed in {outcomes.failed} of {outcomes.total} confirm runs")
        if words:
            sentences.append(
                f"{row.label} {' and '.join(words)} and ranks below those that did not."
            )
        elif outcomes.total == 0 and row.tuning.total and not row.tuning.finished:
            total = row.tuning.total
            sentences.append(f"{row.label} finished none of its {total} tuning trials.")
    return sentences


def _fastest(rows: Sequence[Row]) -> list[str]:
    """Who reached the target first in the median, in steps and in seconds."""
    timed = [(row.label, row.reached) for row in rows if row.reached is not None]
    reached = [(label, r) for label, r in timed if math.isfinite(r.steps)]
    if not timed:
        return []
    if not reached:
        return ["No optimizer reached the target in at least half of its runs."]
    step_label, steps = min(reached, key=lambda pair: pair[1].steps)
    second_label, seconds = min(reached, key=lambda pair: pair[1].seconds)
    sentence = f"Fewest steps to the target: {step_label} ({number(steps.steps)})"
    return [f"{sentence}; least time: {second_label} ({number(seconds.seconds, 3)} s)."]


def _constant(rows: Sequence[Row]) -> bool:
    return all(row.score is not None and row.score.deviation == 0 for row in rows)


def _seeds(comparison: Comparison) -> str:
    return f"{comparison.difference.n if comparison.difference else 0} shared seeds"


def _p_words(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def listed(words: Sequence[str]) -> str:
    """Words joined for reading: `a`, `a and b`, `a, b and c`.

    Example:
        >>> listed(["sgd", "adam", "lion"])
        'sgd, adam and lion'
    """
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last
