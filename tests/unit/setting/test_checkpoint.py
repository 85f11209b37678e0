"""Checkpoints: what is read, and what is said of one that does not fit."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from thalweg.curvature.stability import step_rule
from thalweg.setting import StoredOptimizer, load_checkpoint


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.fixture
def trained():
    made = model()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(1.0)
    return made


def same(a, b):
    return all(torch.equal(x, b.state_dict()[k]) for k, x in a.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"model": weights},
        lambda weights: {"model_state_dict": weights, "epoch": 3},
        lambda weights: {"state_dict": {f"module.{k}": v for k, v in weights.items()}},
        lambda weights: {f"_orig_mod.{k}": v for k, v in weights.items()},
    ],
)
def test_weights_are_found(trained, tmp_path, wrap):
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pt")
    fresh = model()
    assert not same(trained, fresh)
    assert load_checkpoint(tmp_path / "w.pt", fresh) is None
    assert same(trained, fresh)


def test_the_optimizer_comes_along(trained, tmp_path):
    adam = torch.optim.Adam(trained.parameters(), lr=0.02)
    content = {"model": trained.state_dict(), "optimizer": adam.state_dict()}
    torch.save(content, tmp_path / "w.pt")
    assert load_checkpoint(tmp_path / "w.pt", model())["param_groups"][0]["lr"] == 0.02


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("0.bias"), r"missing: 0\.bias"),
        (lambda w: w.update(extra=torch.ones(1)), "unknown: extra"),
        (
            lambda w: w.update({"2.weight": torch.ones(5, 4)}),
            r"2\.weight has shape \(5, 4\), the model's has \(2, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(trained, tmp_path, change, said):
    weights = dict(trained.state_dict())
    change(weights)
    torch.save(weights, tmp_path / "w.pt")
    fresh = model()
    with pytest.raises(ValueError, match=said):
        load_checkpoint(tmp_path / "w.pt", fresh)
    assert same(model(), fresh)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize("kind", ["text", "empty", "code", "list", "numbers", "pickle"])
def test_what_is_no_checkpoint_is_refused_in_words(tmp_path, kind, capsys):
    path = tmp_path / "w.pt"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "code":
        torch.save({"model": Evil()}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    else:
        torch.save([1, 2] if kind == "list" else {"a": 1}, path)
    with pytest.raises(ValueError, match=r"--checkpoint .*w\.pt: "):
        load_checkpoint(path, model())
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"--checkpoint none\.pt: no such file"):
        load_checkpoint("none.pt", model())


def stored(make, steps=2):
    made = model()
    optimizer = make(made.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        made(torch.ones(5, 3)).square().mean().backward()
        optimizer.step()
    fresh = model()
    return StoredOptimizer(optimizer.state_dict(), list(fresh.parameters())), fresh


@pytest.mark.parametrize(
    ("make", "factor", "preconditioned"),
    [
        (lambda params: torch.optim.SGD(params, lr=0.1), 2.0, False),
        (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.5), 3.0, False),
        (lambda params: torch.optim.Adam(params), 38.0, True),
        (lambda params: torch.optim.AdamW(params), 38.0, True),
        (lambda params: torch.optim.RMSprop(params), 2.0, True),
        (lambda params: torch.optim.Adagrad(params), 2.0, True),
    ],
)
def test_the_rule_of_a_stored_optimizer_is_read_from_its_state(make, factor, preconditioned):
    optimizer, fresh = stored(make)
    rule = step_rule(optimizer)
    assert rule.factor == pytest.approx(factor)
    assert rule.preconditioned == preconditioned
    assert rule.optimizer == "the checkpoint's optimizer"
    assert optimizer.param_groups[0]["params"][0] is next(fresh.parameters())


@pytest.mark.parametrize("make", [torch.optim.NAdam, torch.optim.Rprop])
def test_a_method_that_cannot_be_told_has_no_limit(make):
    optimizer, _ = stored(lambda params: make(params, lr=0.01))
    assert step_rule(optimizer).factor is None


def test_a_stored_optimizer_of_another_model_is_refused():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="has 2 parameters, the model 4"):
        StoredOptimizer(optimizer.state_dict(), list(model().parameters()))
    other = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 2))
    adam = torch.optim.Adam(other.parameters())
    other(torch.ones(1, 3)).sum().backward()
    adam.step()
    with pytest.raises(ValueError, match="of another model"):
        StoredOptimizer(adam.state_dict(), list(model().parameters()))
