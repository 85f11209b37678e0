"""Experiments with conjugate gradients, L-BFGS and Gauss-Newton find out what is something else."""

from functools import partial

import pytest
import torch

from thalweg.optim import BFGS, LBFGS
from thalweg.reproduce import fletcher_reeves, lbfgs_memory, rank_deficient


def failing(claims):
    return [claim.claim for claim in claims if not claim.holds]


# ---- Fletcher-Reeves against Polak-Ribiere ------------------------------------------------------
def test_one_rule_keeps_the_angle_and_the_other_drops_it():
    assert failing(fletcher_reeves.angle_claims()) == []


@pytest.mark.parametrize("rule", ["polak-ribiere", "hestenes-stiefel", "hager-zhang"])
def test_another_rule_in_the_place_of_the_first_is_found_out(rule):
    assert len(failing(fletcher_reeves.angle_claims(first=rule))) >= 6


@pytest.mark.parametrize("rule", ["fletcher-reeves", "dai-yuan"])
def test_another_rule_in_the_place_of_the_second_is_found_out(rule):
    assert "PR+" in failing(fletcher_reeves.angle_claims(second=rule))[-1]


def test_the_published_functions_have_their_published_minima():
    cases = {case.name: case for case in fletcher_reeves.cases(8)}
    zero, one = torch.zeros(8).double(), torch.ones(4).double()
    assert cases["XPOWELL"].fn(zero).item() == cases["TRIGON"].fn(zero).item() == 0
    assert cases["GENROS"].fn(one).item() == 1
    assert cases["XPOWELL"].fn(cases["XPOWELL"].start).item() == pytest.approx(2 * 215)  # MGH 13


def test_few_variables_show_the_same_order():
    found = fletcher_reeves.walks(40, 400)
    for runs in found.values():
        assert runs["PR+"].ended
        assert runs["FR"].steps > runs["PR+"].steps
    assert min(found["XPOWELL"]["FR"].cosines) < 0.1


@pytest.mark.slow
def test_every_claim_of_the_thousand_variables_holds():
    assert failing(fletcher_reeves.EXPERIMENT.run().claims) == []


# ---- L-BFGS's memory ----------------------------------------------------------------------------
def test_memory_changes_nothing_where_it_should_not():
    assert failing(lbfgs_memory.same_claims()) == []


@pytest.mark.parametrize("broken", ["scaling", "search"])
def test_another_method_is_found_out(broken):
    def make(params, **given):
        if broken == "scaling":
            return LBFGS(params, **{**given, "scaling": "last"})
        return LBFGS(params, **{**given, "curvature": 0.9})

    chain = broken == "scaling"
    names = failing(lbfgs_memory.same_claims(make))
    assert any(("chain" in name) == chain for name in names)


def test_counts_are_of_runs_that_ended_and_storage_is_as_stated():
    fn, start = lbfgs_memory.starts()["GENROS"]
    row = {m: lbfgs_memory.count(fn, start[:30], partial(LBFGS, memory=m)) for m in (3, 20)}
    row[None] = lbfgs_memory.count(fn, start[:30], BFGS)
    assert all(run.ended and run.evaluations >= run.steps for run in row.values())
    assert row[None].numbers == 30 * 30
    assert 2 * 3 * 30 <= row[3].numbers < row[20].numbers
    assert not lbfgs_memory.count(fn, start[:30], BFGS, most=5).ended


@pytest.mark.slow
def test_every_claim_about_memory_holds():
    outcome = lbfgs_memory.EXPERIMENT.run()
    assert failing(outcome.claims) == []
    assert set(outcome.figures) == {"memory"}


# ---- a Jacobian that loses rank -----------------------------------------------------------------
def test_a_parameter_too_many_is_no_trouble_and_normal_equations_are():
    assert failing(rank_deficient.constant_claims()) == []


def test_the_method_that_holds_does_not_stall_and_the_other_does_not_hold(monkeypatch):
    monkeypatch.setattr(rank_deficient, "STARTS", rank_deficient.STARTS[:1])
    monkeypatch.setattr(rank_deficient, "STEPS", 8)
    rank_deficient.ends.cache_clear()
    try:
        assert failing(rank_deficient.valley_claims()) == []
        swapped = failing(rank_deficient.valley_claims(stalls="lm"))
        assert any("Gauss-Newton, " not in name and "gradient over 1" in name for name in swapped)
    finally:
        rank_deficient.ends.cache_clear()


@pytest.mark.slow
def test_every_claim_about_rank_holds():
    outcome = rank_deficient.EXPERIMENT.run()
    assert failing(outcome.claims) == []
    assert set(outcome.figures) == {"paths", "cost"}
