"""Scoring against hand computations and scipy, and the verdict in its several cases."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from thalweg.study.scoring import Interval, Summary, summarize
from thalweg.study.statistics import holm, number, paired_p


METRIC = {"name": "accuracy", "higher_is_better": True}


def make_study(labels, *, metric=None, target=None, data=True):
    return {
        "problem": {
            "name": "toy",
            "metric": metric,
            "target": target,
            "data": {"source": "made up"} if data else None,
            "surface": None if data else {"minima": [[0.0, 0.0, 0.0]]},
        },
        "optimizers": [{"label": label} for label in labels],
        "selection": "validation_loss" if data else "train_loss",
    }


def make_run(label, seed=1, *, stage="confirm", status="finished", lr=0.1, hit=None, **final):
    keys = ("train_loss", "validation_loss", "validation_metric", "test_loss", "test_metric")
    return {
        "optimizer": label,
        "stage": stage,
        "seed": seed,
        "status": status,
        "hyperparameters": {"lr": lr},
        "curve": {"step": [0, 400], "train_loss": [100.0, final.get("train_loss")]},
        "final": dict.fromkeys(keys) | final,
        "hit": hit,
        "ledger": {"forward": 400 + seed, "backward": 400, "product": 0, "seconds": 2.0},
        "seconds": 2.0,
    }


def race(results, *, key="test_loss", study=None, **options) -> Summary:
    """One confirm run for each number in `results[label]`, at seeds 1, 2, ..."""
    runs = [
        make_run(label, seed, **{key: value})
        for label, values in results.items()
        for seed, value in enumerate(values, start=1)
    ]
    return summarize(study or make_study(list(results), **options), runs)


def test_interval_is_the_student_interval_of_scipy():
    values = [0.91, 0.95, 0.90, 0.97, 0.93]
    interval = Interval.of(values)
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose((interval.low, interval.high), expected, rtol=1e-12)
    assert interval.n == 5
    assert interval.deviation == pytest.approx(np.std(values, ddof=1))


def test_interval_by_hand():
    # n = 4, t(0.975, 3) = 3.18245: s = sqrt(20/3) / 2, so the half-width is 3.18245 * s.
    interval = Interval.of([1.0, 3.0, 5.0, 7.0])
    assert interval.mean == 4.0
    assert interval.half_width == pytest.approx(3.18245 * math.sqrt(20 / 3) / 2, rel=1e-5)


def test_interval_of_one_and_of_equal_values():
    assert Interval.of([0.3]) == Interval(0.3, None, None, 1)
    assert Interval.of([0.1, 0.1, 0.1]) == Interval(0.1, 0.0, 0.0, 3)
    with pytest.raises(ValueError, match="at least one number"):
        Interval.of([])


def test_paired_p_is_that_of_scipy():
    a, b = [1.2, 1.5, 1.1, 1.9], [1.0, 1.6, 0.9, 1.4]
    p = paired_p(Interval.of(np.subtract(a, b)))
    assert p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_numbers_for_reading():
    assert [number(v) for v in (None, math.nan, math.inf, 3.0, 0.12345)] == (
        ["–", "–", "∞", "3", "0.1235"]
    )


def test_clear_winner_where_lower_is_better():
    summary = race({"sgd": [1.0, 1.1, 1.2, 1.05], "adam": [0.5, 0.58, 0.71, 0.53]})
    verdict = summary.verdict
    assert (verdict.best, verdict.runner_up, verdict.tied) == ("adam", "sgd", ("adam",))
    [comparison] = verdict.comparisons
    expected = stats.ttest_rel([1.0, 1.1, 1.2, 1.05], [0.5, 0.58, 0.71, 0.53]).pvalue
    assert comparison.p == pytest.approx(expected)
    assert comparison.separable
    assert comparison.difference.mean == pytest.approx(0.5075)
    assert verdict.sentences[0].startswith("adam is best: test loss 0.58 ± 0.15")
    assert "sgd, is higher by 0.51, 95% interval" in verdict.text


def test_clear_winner_where_higher_is_better():
    runs = {"sgd": [0.90, 0.91, 0.92], "adam": [0.80, 0.82, 0.81]}
    summary = race(runs, key="test_metric", metric=METRIC)
    assert summary.quantity.name == "test accuracy"
    assert [row.label for row in summary.rows] == ["sgd", "adam"]
    assert "adam, is lower by 0.1" in summary.verdict.text


def test_not_separable_is_said():
    summary = race({"sgd": [1.0, 1.2, 0.9], "adam": [1.1, 0.9, 1.05], "lion": [3.0, 3.1, 2.9]})
    assert set(summary.verdict.tied) == {"sgd", "adam"}
    assert "but is not separable from" in summary.verdict.sentences[0]
    assert [c.separable for c in summary.verdict.comparisons] == [False, True]


def test_pairing_over_shared_seeds_separates_what_two_samples_would_not():
    noise = np.array([0.0, 5.0, -3.0, 8.0])
    shift = np.array([0.5, 0.52, 0.49, 0.51])
    summary = race({"a": noise + shift, "b": noise})
    assert summary.verdict.tied == ("b",)
    assert not summary.rows[0].score.high < summary.rows[1].score.low


def test_holm_corrects_over_the_comparisons_with_the_best():
    summary = race({"a": [0.0, 0.1, 0.2], "b": [1.0, 1.3, 1.1], "c": [2.0, 2.2, 2.1]})
    raw = [stats.ttest_rel(x, [0.0, 0.1, 0.2]).pvalue for x in ([1.0, 1.3, 1.1], [2.0, 2.2, 2.1])]
    assert [c.p for c in summary.verdict.comparisons] == pytest.approx(holm(raw))


def test_diverged_confirm_run_ranks_below():
    study = make_study(["fast", "safe"])
    runs = [make_run("safe", s, test_loss=1.0 + s / 10) for s in (1, 2, 3)]
    runs += [make_run("fast", s, test_loss=0.1 + s / 10) for s in (1, 2)]
    runs.append(make_run("fast", 3, status="diverged", test_loss=0.01))
    summary = summarize(study, runs)
    assert summary.verdict.best == "safe"
    assert summary.verdict.tied == ("safe",)
    assert summary.row("fast").score.n == 2
    assert "ranks below because 1 of 3 confirm runs did not finish" in summary.verdict.text
    assert "fast diverged in 1 of 3 confirm runs" in summary.verdict.text


def test_deterministic_values_are_compared_directly():
    results = {"newton": [1e-20] * 3, "bfgs": [3e-14] * 3, "sgd": [0.1] * 3}
    summary = race(results, key="train_loss", data=False)
    assert summary.quantity.name == "final f"
    assert summary.verdict.tied == ("newton", "bfgs")
    assert "Seeds do not vary" in summary.verdict.text
    assert summary.verdict.comparisons[0].reason == "equal to rounding"


def test_one_seed_decides_only_where_nothing_is_drawn():
    drawn = race({"a": [0.1], "b": [0.9]})
    assert drawn.verdict.tied == ("a", "b")
    assert "One seed carries no interval" in drawn.verdict.text
    fixed = race({"a": [0.1], "b": [0.9]}, key="train_loss", data=False)
    assert fixed.verdict.tied == ("a",)


def test_no_finished_run_and_no_run_at_all():
    study = make_study(["a", "b"])
    lost = [make_run("a", 1, status="diverged"), make_run("b", 0, stage="tune", status="diverged")]
    for runs in ([], lost):
        summary = summarize(study, runs)
        assert summary.verdict.best is None
        assert summary.verdict.tied == ()
        json.dumps(summary.to_dict(), allow_nan=False)
    assert summary.row("b").tuning.diverged == 1


def test_an_optimizer_without_a_finished_trial_is_named():
    study = make_study(["a", "b"])
    runs = [make_run("a", s, test_loss=0.1 * s) for s in (1, 2)]
    runs += [make_run("b", 0, stage="tune", status="diverged", lr=lr) for lr in (0.1, 1.0)]
    verdict = summarize(study, runs).verdict
    assert verdict.tied == ("a",)
    assert "b finished none of its 2 tuning trials." in verdict.sentences


def test_target_medians_count_misses_as_infinity():
    study = make_study(["a", "b"], target={"quantity": "validation_loss", "value": 0.1})
    hits = [{"step": s, "seconds": s / 10, "gradients": 2.0 * s} for s in (10, 30)] + [None]
    runs = [make_run("a", k, hit=hit, test_loss=1.0 + k) for k, hit in enumerate(hits)]
    runs += [make_run("b", k, test_loss=3.0 - k) for k in range(3)]
    summary = summarize(study, runs)
    a, b = summary.row("a").reached, summary.row("b").reached
    assert (a.steps, a.seconds, a.gradients, a.hits, a.n) == (30, 3.0, 60.0, 2, 3)
    assert (b.steps, b.hits) == (math.inf, 0)
    assert "Fewest steps to the target: a (30)" in summary.verdict.text
    assert summary.to_dict()["rows"][0]["reached"]["hits"] in (0, 2)


@pytest.mark.parametrize(("lr", "edge"), [(0.1, ()), (0.01, ("lr",)), (1.0, ("lr",))])
def test_edge_of_what_was_tried(lr, edge):
    tuned = [
        make_run("a", 0, stage="tune", lr=tried, validation_loss=1.0) for tried in (0.01, 0.1, 1.0)
    ]
    runs = [*tuned, make_run("a", 1, lr=lr, test_loss=1.0)]
    row = summarize(make_study(["a"]), runs).row("a")
    assert row.edge == edge
    assert row.hyperparameters == {"lr": lr}


def test_default_stage_ledger_and_test_loss():
    runs = [make_run("a", s, test_loss=s / 10, test_metric=0.9) for s in (1, 3)]
    runs += [make_run("a", s, stage="default", test_loss=1.0, test_metric=0.5) for s in (1, 3)]
    row = summarize(make_study(["a"], metric=METRIC), runs).row("a")
    assert row.default.mean == 0.5
    assert row.test_loss.mean == pytest.approx(0.2)
    assert row.ledger["forward"] == 402
    assert (row.seconds, row.steps) == (2.0, 400)


def test_validation_stands_in_where_there_is_no_test():
    assert race({"a": [0.5, 0.6]}, key="validation_loss").quantity.key == "validation_loss"
    assert race({"a": [0.5, 0.6]}, key="train_loss").quantity.name == "training loss"


def test_csv_has_a_line_for_each_optimizer(tmp_path):
    summary = race({"a": [0.1, 0.2], "b": [0.9, 1.1]})
    with summary.write_csv(tmp_path / "summary.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["optimizer"] for line in lines] == ["a", "b"]
    assert float(lines[0]["test_loss_mean"]) == pytest.approx(0.15)
    assert float(lines[1]["difference_to_best"]) == pytest.approx(0.85)
    assert lines[0]["steps_to_target"] == ""


def test_a_small_mean_does_not_vanish_beside_large_ones():
    from thalweg.study.statistics import Interval, column

    large, small = Interval.of([0.30, 0.32, 0.34]), Interval.of([1.0e-6, 1.2e-6, 1.4e-6])
    shown = column([large, large, small])
    assert shown[0].startswith("0.32")
    assert not shown[2].startswith("0.0 ")
    assert float(shown[2].split(" ")[0]) == pytest.approx(1.2e-6)


def test_losses_at_the_minimum_to_rounding_are_tied_on_data_too():
    results = {"a": [1e-16, 2e-16, 4e-16], "b": [3e-14] * 3, "c": [1e-7] * 3}
    verdict = race(results).verdict  # the loss at the start is 100
    assert verdict.tied == ("a", "b")
    assert verdict.comparisons[0].reason == "equal to rounding"
    assert "95% interval" not in verdict.sentences[1]


def test_one_sample_more_on_each_of_three_seeds_separates_nothing():
    three = race({"a": [0.98] * 3, "b": [0.97] * 3}, key="test_metric", metric=METRIC)
    [comparison] = three.verdict.comparisons
    assert comparison.p == stats.binomtest(3, 3).pvalue == 0.25
    assert not comparison.separable
    assert "sign test" in comparison.reason
    eight = race({"a": [0.98] * 8, "b": [0.97] * 8}, key="test_metric", metric=METRIC)
    assert eight.verdict.comparisons[0].separable


def test_many_that_are_tied_are_counted_and_few_seeds_said():
    rng = np.random.default_rng(0)
    results = {f"m{k}": rng.normal(1.0, 0.1, 3).tolist() for k in range(12)}
    text = race(results).verdict.text
    assert "and 6 more." in text
    assert "3 seeds tell only large differences apart among 12 optimizers" in text
    enough = {label: rng.normal(1.0, 0.1, 6).tolist() for label in results}
    assert "large differences" not in race(enough).verdict.text
    assert "uncorrected 95% interval" in text


def test_a_mean_keeps_two_digits_beside_larger_ones():
    from thalweg.study.statistics import Interval, column

    large, small = Interval.of([0.0080, 0.0060, 0.0200]), Interval.of([1.0e-5, 1.4e-5, 0.9e-5])
    shown = column([large, large, small])
    assert float(shown[2].split(" ")[0]) == pytest.approx(1.1e-5, rel=0.05)
