"""What every method keeps that needs a model: torch's contract, from its layers or outputs."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
import torch.nn.functional as F

from conformance.subjects import NETWORK, flat
from conformance.table import BAD, MODELLED
from thalweg.optim import KFACOptions, Needs


def begun(name, steps=5):
    row, model = MODELLED[name], NETWORK.model()
    optimizer = row.build(model, **row.settings)
    NETWORK.walk(optimizer, model, steps)
    return row, model, optimizer


def reloaded(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("name", MODELLED)
def test_it_descends(name):
    row, model = MODELLED[name], NETWORK.model()
    optimizer = row.build(model, **row.network)
    before = sum(NETWORK.closure(model, t).value() for t in range(3))
    NETWORK.walk(optimizer, model, 150)
    assert sum(NETWORK.closure(model, t).value() for t in range(3)) < 0.3 * before


@pytest.mark.parametrize("name", MODELLED)
def test_a_resumed_run_is_the_uninterrupted_run(name):
    row, model, optimizer = begun(name)
    weights, checkpoint = reloaded((model.state_dict(), optimizer.state_dict()))
    resumed = NETWORK.model()
    resumed.load_state_dict(weights)
    second = row.build(resumed, **row.settings)
    second.load_state_dict(checkpoint)
    whole = NETWORK.walk(optimizer, model, 6, start=5)
    parts = NETWORK.walk(second, resumed, 6, start=5)
    for t, (one, other) in enumerate(zip(whole, parts, strict=True)):
        assert torch.equal(one, other), t


@pytest.mark.parametrize("name", MODELLED)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_step_like_the_original(name, duplicate):
    _, model, optimizer = begun(name)
    twin, other = duplicate((model, optimizer))
    theirs = NETWORK.walk(other, twin, 4, start=5)
    for one, two in zip(NETWORK.walk(optimizer, model, 4, start=5), theirs, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", MODELLED)
def test_gradients_are_left_as_they_were(name):
    _, model, optimizer = begun(name)
    closure = NETWORK.closure(model, 5)
    expected = flat(closure.value_and_grad()[1])
    optimizer.step(closure)
    assert torch.equal(flat([p.grad for p in model.parameters()]), expected)


@pytest.mark.parametrize("name", MODELLED)
def test_schedulers_and_tensor_rates_are_followed(name):
    paths = []
    for rate in (0.25, torch.tensor(0.25, dtype=torch.float64)):
        row, model = MODELLED[name], NETWORK.model()
        optimizer = row.build(model, **{**row.settings, "lr": rate})
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        for t in range(5):
            optimizer.step(NETWORK.closure(model, t))
            scheduler.step()
        assert float(optimizer.param_groups[0]["lr"]) == 0.0625
        paths.append(flat(model.parameters()))
    torch.testing.assert_close(*paths)


@pytest.mark.parametrize("name", MODELLED)
def test_a_rate_of_zero_does_not_move(name):
    row, model = MODELLED[name], NETWORK.model()
    optimizer = row.build(model, **{**row.settings, "lr": 0.0})
    before = flat(model.parameters())
    NETWORK.walk(optimizer, model, 3)
    assert torch.equal(flat(model.parameters()), before)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in MODELLED for value in BAD["lr"]]
)
def test_bad_rates_are_refused(name, value):
    with pytest.raises(ValueError, match="lr"):
        MODELLED[name].build(NETWORK.model(), lr=value)


@pytest.mark.parametrize("name", MODELLED)
def test_misspelt_arguments_get_a_hint(name):
    with pytest.raises(TypeError, match="Did you mean 'damping'"):
        MODELLED[name].build(NETWORK.model(), dampin=0.1)


@pytest.mark.parametrize("name", MODELLED)
def test_parameters_without_gradient_stay(name):
    row, model = MODELLED[name], NETWORK.model()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    NETWORK.walk(row.build(model, **row.settings), model, 3)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("name", MODELLED)
def test_a_gradient_scaler_is_undone_or_refused(name):
    """What is learned of the layers is of the loss itself, whatever it was multiplied by."""
    ends = []
    for scale in (1024.0, None):
        row, model = MODELLED[name], NETWORK.model()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        if row.cls.needs is not Needs.LAYERS:
            optimizer = row.build(model, **row.settings)
            F.mse_loss(model(NETWORK.batch(0)[0]), NETWORK.batch(0)[1]).backward()
            with pytest.raises(TypeError, match=r"needs a closure|outputs are needed"):
                optimizer.step()
            return
        optimizer = row.build(model, **row.settings, options=KFACOptions(loss_fn=F.mse_loss))
        for t in range(4):
            x, y = NETWORK.batch(t)
            optimizer.zero_grad()
            scaler.scale(F.mse_loss(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append(flat(model.parameters()))
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("name", MODELLED)
def test_it_is_gone_when_it_is_dropped(name):
    _, model, optimizer = begun(name)
    gone = [weakref.ref(optimizer), weakref.ref(model[0].weight)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize("name", MODELLED)
def test_the_state_does_not_grow(name):
    _, model, optimizer = begun(name, 12)

    def size():
        return len(pickle.dumps(optimizer.state_dict()))

    before = size()
    NETWORK.walk(optimizer, model, 12, start=12)
    assert abs(size() - before) < 64
