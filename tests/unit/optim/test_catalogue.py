"""Every method by name, from the classes themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.optim import Cost, Needs, Range, Reference, catalogue, create, resolve
from thalweg.optim.arguments import argument_names


NAMES = [
    "adagrad",
    "adam",
    "adamw",
    "adan",
    "delta-bar-delta",
    "lookahead",
    "nesterov",
    "projected-gradient",
    "rmsprop",
    "rprop",
    "sam",
    "sgd",
    "weight-averaging",
]


def test_lists_every_exported_method_once():
    entries = catalogue()
    assert list(entries) == sorted(entries)
    assert set(NAMES) <= set(entries)
    exported = {getattr(optim, name) for name in optim.__all__}
    finals = {
        cls
        for cls in exported
        if isinstance(cls, type)
        and issubclass(cls, optim.AbstractOptimizer)
        and not cls.__name__.startswith("Abstract")
    }
    assert {entry.cls for entry in entries.values()} == finals


@pytest.mark.parametrize("name", catalogue())
def test_rows_are_complete(name):
    entry = catalogue()[name]
    assert isinstance(entry.needs, Needs)
    assert isinstance(entry.cost, Cost)
    assert isinstance(entry.reference, Reference)
    assert 1800 < entry.reference.year < 2100
    assert entry.summary.endswith(".")
    assert all(isinstance(r, Range) for r in entry.space.values())
    # Methods that judge their own steps have no learning rate to be searched.
    assert "lr" in entry.space or getattr(entry.cls, "deterministic", False)
    assert entry.wraps == issubclass(entry.cls, optim.AbstractWrapper)


def test_state_names_the_slots_at_the_defaults():
    rows = catalogue()
    assert rows["adam"].state == "exp_avg, exp_avg_sq"
    assert rows["sgd"].state == "none"
    assert rows["nesterov"].needs is Needs.LOSS


@pytest.mark.parametrize("name", catalogue())
@pytest.mark.parametrize("spelling", [str, str.upper, str.title, lambda s: s.replace("-", "_")])
def test_resolves_any_spelling(name, spelling):
    assert resolve(spelling(name)) is catalogue()[name].cls


@pytest.mark.parametrize("name", catalogue())
def test_creates_from_a_model_or_its_parameters(name):
    model = nn.Linear(2, 1)
    given = [model, model.parameters(), [{"params": model.parameters()}]]
    for params in given[:1] if catalogue()[name].needs is Needs.LAYERS else given:
        has_rate = "lr" in argument_names(catalogue()[name].cls)
        optimizer = create(name, params, **({"lr": 0.25} if has_rate else {}))
        assert type(optimizer) is catalogue()[name].cls
        assert not has_rate or optimizer.param_groups[0]["lr"] == 0.25
        assert len(optimizer.param_groups[0]["params"]) == 2


def test_a_wrapper_takes_its_own_options_and_hands_on_the_rest():
    optimizer = create("weight-averaging", nn.Linear(2, 1), inner="AdamW", lr=0.1, every=3)
    assert isinstance(optimizer.inner, optim.AdamW)
    assert optimizer.param_groups[0]["every"] == 3
    assert optimizer.param_groups[0]["lr"] == 0.1
    with pytest.raises(TypeError, match=r"AdamW\(evry=...\): unknown argument"):
        create("weight-averaging", nn.Linear(2, 1), inner="adamw", evry=3)


def test_any_importable_optimizer_by_its_path():
    assert isinstance(create("torch.optim.NAdam", nn.Linear(2, 1), lr=0.1), torch.optim.NAdam)
    inner = create("weight-averaging", nn.Linear(2, 1), inner="torch.optim.NAdam").inner
    assert isinstance(inner, torch.optim.NAdam)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adm", r"unknown optimizer 'adm'\. Did you mean 'adam'\? Known: adagrad, "),
        ("zzzzz", r"unknown optimizer 'zzzzz'\. Known: adagrad, "),
        ("torch.optim.Adm", r"cannot import the optimizer 'torch\.optim\.Adm'"),
        ("no.such.module", r"cannot import the optimizer 'no\.such\.module'"),
        ("torch.nn.Linear", r"'torch\.nn\.Linear' is not a torch\.optim\.Optimizer class"),
        ("torch.nn.functional.relu", r"'torch\.nn\.functional\.relu' is not a torch\.optim\.Opt"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=r"^thalweg\.optim: " + message):
        resolve(name)


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0.0, 1.0, True), (-1.0, 1.0, True), (1.0, 1.0, False), (2, 1, False)]
)
def test_ranges_that_are_none(low, high, log):
    with pytest.raises(ValueError, match=r"^Range\(low=.*\): low must be below high"):
        Range(low, high, log)


def test_ranges_are_walked_evenly():
    assert [Range(1e-4, 1.0).at(u) for u in (0, 0.25, 0.5, 1)] == [1e-4, 1e-3, 1e-2, 1.0]
    assert [Range(-1.0, 1.0, log=False).at(u) for u in (0, 0.25, 1)] == [-1.0, -0.5, 1.0]
    assert Range(1e-5, 3.0).at(1.0) == 3.0
