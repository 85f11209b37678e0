"""Adagrad's rate, against torch's Adagrad and sums written out."""

import math

import torch

from thalweg.optim import SGD
from thalweg.reproduce import adagrad_stalls as experiment


def test_steps_over_a_distance_are_those_of_the_sums(monkeypatch):
    monkeypatch.setattr(experiment, "DISTANCES", (2.0, 4.0, 8.0))
    steps = {n: [experiment.crossing(n, d) for d in (2.0, 4.0, 8.0)] for n in experiment.METHODS}
    exact = [c for c in experiment._crossing_claims(steps) if "steps over 2, 4, 8" in c.claim]
    assert [claim.holds for claim in exact] == [True, True]
    steps["adagrad"][1] += 1
    assert not all(c.holds for c in experiment._crossing_claims(steps) if "over 2, 4" in c.claim)


def test_the_wall_is_remembered():
    wall = torch.ones(experiment.WALL_STEPS + experiment.FLAT_STEPS, 1, dtype=torch.float64)
    wall[: experiment.WALL_STEPS] = experiment.WALL
    after = {name: experiment.rates(name, wall)[:, 0] for name in experiment.METHODS}
    assert all(claim.holds for claim in experiment._wall_claims(after))
    swapped = dict(zip(after, reversed(after.values()), strict=True))
    assert not experiment._wall_claims(swapped)[0].holds


def test_the_regret_stays_under_its_bound(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 2000)
    games = experiment._games()
    assert all(claim.holds for claim in experiment._regret_claims(games))
    games["adagrad"] = games["rmsprop"]
    assert not any(claim.holds for claim in experiment._regret_claims(games)[1:2])


def test_torchs_adagrad_takes_the_same_steps():
    p = torch.zeros(1, dtype=torch.float64)
    optimizer, steps = torch.optim.Adagrad([p], lr=0.1), 0
    while p.item() < 4:
        p.grad = torch.full_like(p, -1.0)
        optimizer.step()
        steps += 1
    assert experiment.crossing("adagrad", 4.0) == steps
    way, t = 0.0, 0
    while way < 4:
        t += 1
        way += 0.1 / math.sqrt(t)
    assert steps == t


def test_a_constant_rate_is_found_out(monkeypatch):
    monkeypatch.setitem(experiment.METHODS, "adagrad", lambda p, lr: SGD(p, lr=lr))
    alone = {name: experiment.rates(name, torch.ones(500, 1))[:, 0] for name in experiment.METHODS}
    monkeypatch.setattr(experiment, "STEPS", 500)
    assert not experiment._rate_claims(alone, torch.ones(500, 2))[0].holds
