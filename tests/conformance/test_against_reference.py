"""The same numbers as torch's class, or as the published recurrence written out."""

from __future__ import annotations

import inspect
import io
from copy import deepcopy

import pytest
import torch

from conformance.references import nesterov_1983
from conformance.subjects import NETWORK, flat
from conformance.table import ROWS
from thalweg import optim


CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ROWS)
def test_equals_its_reference_over_fifty_steps(name, seed):
    row = ROWS[name]
    options = row.draw(seed)
    model = NETWORK.model()
    ours = NETWORK.walk(row.build(model.parameters(), **options), model, 50)
    torch.testing.assert_close(ours, row.reference(NETWORK, options, 50), **CLOSE)


@pytest.mark.parametrize("name", ROWS)
def test_the_draws_cover_every_choice(name):
    row = ROWS[name]
    for option, values in row.choices.items():
        drawn = [row.draw(seed)[option] for seed in range(40)]
        assert set(map(str, drawn)) == set(map(str, values)), option


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.torch_class])
def test_the_defaults_are_torchs(name):
    row = ROWS[name]
    model = NETWORK.model()
    ours, theirs = row.build(model.parameters()), row.torch_class(model.parameters())
    shared = set(ours.defaults) & set(theirs.defaults)
    assert {"lr", "maximize"} <= shared
    assert {k: ours.defaults[k] for k in shared} == {k: theirs.defaults[k] for k in shared}


def test_nesterov_is_the_recurrence_of_1983():
    options = {"lr": 0.05, "momentum": 0.8}
    model = NETWORK.model()
    ours = NETWORK.walk(optim.Nesterov(model.parameters(), **options), model, 50)
    torch.testing.assert_close(ours, nesterov_1983(NETWORK, options, 50), **CLOSE)


def test_adagrad_fills_the_accumulator_of_complex_parameters_as_torch_does():
    def walk(cls):
        p = torch.nn.Parameter(torch.tensor([1 + 2j, -1j], dtype=torch.complex128))
        optimizer = cls([p], lr=0.1, initial_accumulator_value=0.3)
        for _ in range(5):
            p.grad = p.detach() * (1 + 1j)
            optimizer.step()
        return p.detach()

    torch.testing.assert_close(walk(optim.Adagrad), walk(torch.optim.Adagrad), **CLOSE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.torch_class])
def test_continues_a_checkpoint_of_torchs(name, seed):
    row = ROWS[name]
    theirs_too = inspect.signature(row.torch_class).parameters
    options = {k: v for k, v in row.draw(seed).items() if k in theirs_too}
    model = NETWORK.model()
    theirs = row.torch_class(model.parameters(), **options)
    NETWORK.walk(theirs, model, 7)
    buffer = io.BytesIO()
    torch.save((model.state_dict(), theirs.state_dict()), buffer)
    buffer.seek(0)
    weights, checkpoint = torch.load(buffer, weights_only=True)

    copy = NETWORK.model()
    copy.load_state_dict(weights)
    ours = row.build(copy.parameters(), lr=0.123)
    ours.load_state_dict(checkpoint)
    assert ours.param_groups[0]["lr"] == options["lr"]
    torch.testing.assert_close(
        NETWORK.walk(ours, copy, 20, start=7), NETWORK.walk(theirs, model, 20, start=7), **CLOSE
    )


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.torch_class])
def test_torch_continues_a_checkpoint_of_ours(name):
    row = ROWS[name]
    model, copy = NETWORK.model(), NETWORK.model()
    ours = row.build(model.parameters(), **row.settings)
    NETWORK.walk(ours, model, 7)
    copy.load_state_dict(model.state_dict())
    theirs = row.torch_class(copy.parameters())
    theirs.load_state_dict(deepcopy(ours.state_dict()))  # torch keeps the very tensors it is given
    for group in theirs.param_groups:  # torch reads flags that ours do not have
        for key, value in theirs.defaults.items():
            group.setdefault(key, value)
    NETWORK.walk(ours, model, 10, start=7)
    NETWORK.walk(theirs, copy, 10, start=7)
    torch.testing.assert_close(flat(copy.parameters()), flat(model.parameters()), **CLOSE)
