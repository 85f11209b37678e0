"""State: resumed, copied, shared with nobody, constant in size, and gone when it is dropped."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import tracemalloc
import weakref

import pytest
import torch

from conformance.subjects import (
    NETWORK,
    Network,
    assert_same_state,
    flat,
    gradients,
    state_of,
    tensors_in,
)
from conformance.table import CASES, ROWS, WRAPPED


def reloaded(state):
    """Through a file, with nothing but plain data allowed."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def begun(name, network=NETWORK):
    row = CASES[name]
    model = network.model()
    optimizer = row.build(model.parameters(), **row.settings)
    network.walk(optimizer, model, 5)
    return row, model, optimizer


# In float32 only where torch's own NAdam is inside: its loader casts a float32 scalar of the state
# to the parameters' type.
RESUMED = [
    (name, dtype)
    for name in CASES
    for dtype in (torch.float32, torch.float64)
    if "nadam" not in name or dtype is torch.float32
]


@pytest.mark.parametrize(("name", "dtype"), RESUMED)
def test_a_resumed_run_is_the_uninterrupted_run(name, dtype):
    network = Network(dtype)
    row, model, optimizer = begun(name, network)
    weights, checkpoint = reloaded((model.state_dict(), optimizer.state_dict()))
    resumed = network.model()
    resumed.load_state_dict(weights)
    second = row.build(resumed.parameters(), **row.settings)
    second.load_state_dict(checkpoint)
    straight = network.walk(optimizer, model, 8, start=5)
    again = network.walk(second, resumed, 8, start=5)
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))
    assert_same_state(state_of(optimizer), state_of(second))


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_restores_the_settings(name):
    row, _, optimizer = begun(name)
    options = {k: v for k, v in row.settings.items() if k != "lr"}
    other = row.build(NETWORK.model().parameters(), lr=0.5)
    other.load_state_dict(reloaded(optimizer.state_dict()))
    for key in {"lr", *options} & set(optimizer.param_groups[0]):
        assert other.param_groups[0][key] == row.settings[key]


@pytest.mark.parametrize("name", CASES)
def test_two_optimizers_of_one_state_dict_share_nothing(name):
    row, model, optimizer = begun(name)
    shared = optimizer.state_dict()
    pairs = []
    for _ in range(2):
        twin = copy.deepcopy(model)
        loaded = row.build(twin.parameters(), **row.settings)
        loaded.load_state_dict(shared)
        pairs.append((twin, loaded))
    (twin, first), (other, second) = pairs
    owners = [
        {t.data_ptr() for t in tensors_in(o) if t.numel()} for o in (optimizer, first, second)
    ]
    assert not owners[0] & owners[1]
    assert not owners[1] & owners[2]
    before = state_of(second)
    walked = NETWORK.walk(first, twin, 6, start=5)
    assert_same_state(before, state_of(second))
    later = NETWORK.walk(second, other, 6, start=5)
    assert all(torch.equal(a, b) for a, b in zip(walked, later, strict=True))


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "scheduled"])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", CASES)
def test_copies_step_like_the_original(name, how, patched):
    _, model, optimizer = begun(name)
    if patched:  # schedulers put their own step on the instance
        torch.optim.lr_scheduler.StepLR(optimizer, step_size=100)
    pair = (model, optimizer)
    twin, second = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    assert "step" not in vars(second)
    before = flat(model.parameters())
    theirs = NETWORK.walk(second, twin, 4, start=5)
    assert torch.equal(flat(model.parameters()), before)
    ours = NETWORK.walk(optimizer, model, 4, start=5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    torch.optim.lr_scheduler.StepLR(second, step_size=1)
    second.state_dict()
    second.zero_grad()


@pytest.mark.parametrize("name", CASES)
def test_a_group_added_later_steps_as_one_given_first(name):
    row = CASES[name]
    model, other = NETWORK.model(), NETWORK.model()
    late = row.build([{"params": model[0].parameters()}], **row.settings)
    late.add_param_group({"params": model[2].parameters(), "lr": 0.003})
    groups = [
        {"params": other[0].parameters()},
        {"params": other[2].parameters(), "lr": 0.003},
    ]
    at_once = row.build(groups, **row.settings)
    first, second = NETWORK.walk(late, model, 6), NETWORK.walk(at_once, other, 6)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_group_added_mid_run_starts_fresh(name):
    row = CASES[name]
    if name == "adahessian":
        pytest.skip("what counts as small curvature is measured over all groups")
    model = NETWORK.model()
    optimizer = row.build(model[0].parameters(), **row.settings)
    NETWORK.walk(optimizer, model, 5)
    optimizer.add_param_group({"params": model[2].parameters()})
    alone = copy.deepcopy(model)
    fresh = row.build(alone[2].parameters(), **row.settings)
    gradient = [torch.full_like(p, 0.1) for p in model[2].parameters()]

    def given(net):
        def closure():
            net.zero_grad()
            for p, g in zip(net[2].parameters(), gradient, strict=True):
                p.grad = g.clone()

        return closure

    for _ in range(3):
        optimizer.step(given(model))
        fresh.step(given(alone))
    torch.testing.assert_close(
        flat(model[2].parameters()), flat(alone[2].parameters()), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("name", CASES)
def test_hooks_run_around_step_and_state_dict(name):
    _, model, optimizer = begun(name)
    seen = []
    for kind in ("step_pre", "step_post", "state_dict_pre", "state_dict_post"):
        register = getattr(optimizer, f"register_{kind}_hook")
        register(lambda *_, kind=kind: seen.append(kind))
    for kind in ("load_state_dict_pre", "load_state_dict_post"):
        register = getattr(optimizer, f"register_{kind}_hook")
        register(lambda *_, kind=kind: seen.append(kind))
    NETWORK.walk(optimizer, model, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [
        "step_pre",
        "step_post",
        "state_dict_pre",
        "state_dict_post",
        "load_state_dict_pre",
        "load_state_dict_post",
    ]


@pytest.fixture(scope="module")
def frozen():
    """Only what the steps make is counted and collected."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", CASES)
def test_memory_does_not_grow(name):
    row = CASES[name]
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    optimizer = row.build(model.parameters(), **row.settings)
    give = gradients(model.parameters())

    def walk(steps):
        for _ in range(steps):
            optimizer.step(give)
        gc.collect()
        tensors = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
        return tensors, sum(t.nbytes for t in tensors_in(optimizer))

    before = walk(100)
    tracemalloc.start()
    walk(400)  # until Python's pools of small objects have been seen by the tracer
    start, _ = tracemalloc.get_traced_memory()
    assert walk(250) == before
    growth = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert growth < 250 * 50  # bytes: less than one Python object a step
    assert walk(1250) == before, "2,000 steps in all"


@pytest.mark.parametrize("name", CASES)
def test_what_is_dropped_is_freed_without_the_collector(name):
    row = CASES[name]
    gc.collect()
    gc.disable()
    try:
        model = NETWORK.model()
        optimizer = row.build(model.parameters(), **row.settings)
        NETWORK.walk(optimizer, model, 3)
        optimizer.step(NETWORK.torch_closure(model, 0))
        optimizer.load_state_dict(optimizer.state_dict())
        with optimizer.evaluation():
            pass
        gone = [weakref.ref(optimizer), weakref.ref(model), weakref.ref(model[0].weight)]
        gone += [weakref.ref(t) for t in tensors_in(optimizer)]
        del model, optimizer
        assert [r() for r in gone] == [None] * len(gone)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ROWS)
def test_what_a_step_did_can_be_looked_at(name):
    row, _, optimizer = begun(name)
    assert optimizer.info.step_length == row.settings["lr"]
    assert not optimizer.info.rejected


@pytest.mark.parametrize("name", [*ROWS, *WRAPPED])
def test_the_slots_are_what_the_class_declares(name):
    _, _, optimizer = begun(name)
    declared = {slot.name for slot in type(optimizer).slots}
    for p, slots in optimizer.state.items():
        assert declared <= set(slots)
        assert all(slots[slot].shape == p.shape for slot in declared)
