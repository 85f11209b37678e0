"""Products by differences of gradients; other products and other costs are found out."""

import pytest
import torch

from thalweg.reproduce import hessian_free_difference as experiment


@pytest.fixture(autouse=True)
def small(monkeypatch):
    experiment.errors.cache_clear()
    monkeypatch.setattr(experiment, "SAMPLES", 60)
    monkeypatch.setattr(experiment, "HIDDEN", 4)
    monkeypatch.setattr(experiment, "VECTORS", 2)
    yield
    experiment.errors.cache_clear()


def failed(claims):
    return [claim.claim for claim in claims if not claim.holds]


def test_the_laws_of_the_error_hold():
    assert failed(experiment.product_claims()) == []


def test_a_product_that_is_a_little_off_is_found_out(monkeypatch):
    problem = experiment.problem

    def off(dtype=torch.float64):
        model, closure = problem(dtype)
        found = closure.value_and_grad

        def rough(theta):
            value, gradient = found(theta)
            return value, gradient.map(lambda part: part * (1 + 1e-6 * torch.randn(part.shape)))

        monkeypatch.setattr(closure, "value_and_grad", rough)
        return model, closure

    monkeypatch.setattr(experiment, "problem", off)
    torch.manual_seed(0)
    assert len(failed(experiment.product_claims())) >= 3


def test_paths_and_costs_in_double_precision():
    runs = {how: experiment.run(how, torch.float64, 3) for how in experiment.HOW}
    claims = experiment.path_claims(runs, runs)[:6]
    assert failed(claims) == []
    assert experiment.apart(runs["exact"], runs["exact"]) == [0.0] * 3
    wrong = {**runs, "forward": runs["central"]}
    assert failed(experiment.path_claims(wrong, runs)[:6]) == [
        "forward differences: cost of the run, in gradients"
    ]
    rough = experiment.run("exact", torch.float32, 3)
    assert experiment.apart(runs["exact"], rough)[0] > 1e-9


@pytest.mark.slow
def test_every_claim_holds(monkeypatch):
    monkeypatch.undo()
    outcome = experiment.EXPERIMENT.run()
    assert failed(outcome.claims) == []
    assert set(outcome.figures) == {"product", "path"}
