"""The autoencoder's runs, their marks and their trials; whole, the verdicts on record."""

import math

import numpy as np
import pytest

from thalweg.reproduce import autoencoder as experiment, autoencoder_runs as runs


def halving(start=8.0, every=10, looks=5):
    steps = np.arange(looks) * every
    return runs.Run(steps, start * 0.5 ** np.arange(looks))


def test_marks_are_met_between_looks_by_the_logarithm():
    run = halving()  # 8, 4, 2, 1, 1/2 at 0, 10, 20, 30, 40
    assert run.reaches(2.0) == pytest.approx(20.0)
    assert run.reaches(math.sqrt(8.0)) == pytest.approx(15.0)
    assert run.reaches(9.0) == 0.0
    assert run.reaches(0.4) == math.inf
    assert run.at(15.0) == pytest.approx(math.sqrt(8.0))
    assert run.at(100.0) == pytest.approx(0.5)


@pytest.fixture
def plain(monkeypatch):
    """K-FAC halves the loss in 10 steps of 3 s, its rivals in 10 and 40 steps of 1 s."""
    made = {"kfac": halving(), "momentum": halving(), "adam": halving(every=40)}
    taken = {"kfac": 3.0, "momentum": 1.0, "adam": 1.0}
    monkeypatch.setattr(experiment, "best", lambda m: runs.Setting(m, 1, ()))
    monkeypatch.setattr(experiment, "run", lambda s, *_: (made[s.method], None))
    monkeypatch.setattr(experiment, "STEPS", {m: {1: int(r.steps[-1])} for m, r in made.items()})
    monkeypatch.setattr(experiment, "seconds", lambda: {m: np.full(3, t) for m, t in taken.items()})


def test_ratios_are_of_steps_and_of_seconds(plain):
    counts, times = experiment.ratios("adam")
    assert counts == pytest.approx(np.full(5, 1 / 4))
    assert times == pytest.approx(np.full(5, 3 / 4))
    # After K-FAC's 120 s it has halved four times and Adam three; after momentum's 40 s, 4/3 and 4.
    assert experiment.shares("adam") == pytest.approx(np.full(5, 1 / 2))
    assert experiment.shares("momentum") == pytest.approx(np.full(5, 2 ** (8 / 3)))


def test_a_method_that_is_slower_fails_its_claims(plain):
    verdicts = [claim.holds for claim in experiment.claims()]
    #           steps, seconds (momentum); steps, seconds (Adam); loss after equal time
    assert verdicts == [False, False, True, True, False, True]


def test_every_trial_is_another_point_of_the_methods_space():
    for method, space in runs.SPACES.items():
        chosen = [setting for setting, _ in runs.tuned(method)]
        assert len({s.values for s in chosen}) == runs.TRIALS == len(chosen)
        assert {s.batch for s in chosen} <= set(runs.STEPS[method])
        for name in set(space) - {"batch", "slack"}:
            found = [dict(s.values)[name] for s in chosen]
            assert space[name].low <= min(found) < max(found) <= space[name].high


def test_k_fac_falls_faster_than_adam_in_equal_steps(monkeypatch):
    short = {"adam": {50: 10}, "kfac": {125: 10}}
    monkeypatch.setattr(runs, "STEPS", {**runs.STEPS, **short})
    ends = {}
    for method in short:
        found, _ = runs.run.__wrapped__(runs.best(method), 9, looks=2)
        assert found.steps.tolist() == [0, 1, 2, 4, 5, 10]
        ends[method] = found.losses[-1]
    assert ends["kfac"] < 0.9 * ends["adam"]


@pytest.mark.slow
def test_trials_on_record_are_found_again():
    assert runs.trial("kfac", 0) == pytest.approx(runs.FOUND["kfac"][0], rel=0.05)
    assert runs.trial("adam", 0) == pytest.approx(runs.FOUND["adam"][0], rel=0.05)


@pytest.mark.slow
def test_every_verdict_is_the_one_on_record():
    assert all(claim.as_recorded for claim in experiment.claims())
