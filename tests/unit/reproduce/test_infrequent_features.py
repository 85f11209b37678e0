"""Sparse features, in small: the same conclusions from fewer documents."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from thalweg.reproduce import infrequent_features as experiment


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 120)
    monkeypatch.setattr(experiment, "TEST", 500)
    return experiment.Documents.draw(range(1, 4))


def test_words_are_as_frequent_as_zipf_says(small):
    found = small.presence.float().mean((0, 1))
    assert torch.allclose(found, experiment.FREQUENCY, atol=0.04)
    assert experiment.FREQUENCY[0] > 0.99
    assert experiment.FREQUENCY[-1] < 0.02


def test_the_gradient_is_autograds(small):
    """SGD against a loop with autograd, one seed and one rate at a time."""
    found = experiment.play("sgd", [0.1, 0.4], "linear", small)
    p = torch.zeros(experiment.WORDS + 1, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.4)
    for step in range(experiment.STEPS):
        optimizer.param_groups[0]["lr"] = 0.4 * (1 - step / experiment.STEPS)
        x, y = small.batch(step * experiment.BATCH, experiment.BATCH)
        optimizer.zero_grad()
        cross_entropy(x[1] @ p, y[1]).backward()
        optimizer.step()
    error = (p.detach()[: experiment.WORDS] - small.weights[1]).square()
    rare = error[experiment.RARE :].sum() / small.weights[1, experiment.RARE :].square().sum()
    assert found.rare[1, 1].item() == pytest.approx(rare.item(), rel=1e-4)


def test_adagrad_learns_the_rare_words_better(small):
    sgd = experiment.play("sgd", [0.3], "constant", small)
    adagrad = experiment.play("adagrad", [0.3], "constant", small)
    assert (adagrad.rare < sgd.rare).all()
    claim = next(iter(experiment._rates_of_words(adagrad)))
    assert claim.measured == pytest.approx(-0.5, abs=0.08)


def test_equal_methods_are_not_told_apart(small):
    same = experiment.play("sgd", [0.3], "constant", small)
    scores = dict.fromkeys(experiment.METHODS, same)
    assert not any(claim.holds for claim in experiment._comparisons(scores, "twice the same"))


@pytest.mark.slow
def test_the_experiment_holds_and_no_rate_is_on_the_edge():
    outcome = experiment.EXPERIMENT.run()
    assert outcome.holds
    for name, chosen in outcome.settings["rates chosen"].items():
        rates = experiment._rates(name)
        assert all(rates[0] < rate < rates[-1] for rate in chosen.values())
        assert np.allclose(np.diff(np.log2(rates)), 1)
