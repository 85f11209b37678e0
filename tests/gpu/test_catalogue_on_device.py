"""Every method of the catalogue walks on the accelerator as it walks on the CPU."""

from __future__ import annotations

import io

import pytest
import torch

from gpu import subjects
from gpu.subjects import (
    CPU,
    DEVICE,
    NETWORKS,
    REHEARSAL,
    apart,
    built,
    catalogued,
    flat,
    moved,
    placed,
    takes,
    walk,
)


subjects.require()
pytestmark = pytest.mark.gpu

FOREACH = [(name, how) for name in catalogued() for how in (True, False) if takes(name, "foreach")]
FOREACH += [(name, None) for name in catalogued() if not takes(name, "foreach")]
COMPILED = [name for name in catalogued() if takes(name, "compile")]
# At its first step SOAP's bases span null spaces, in which any basis is as good: two devices
# differ. Beside full-rank gradients there are none.
ANY_BASIS = {"soap"}


def both(name, network, steps, **changes):
    """Where the walks on the CPU and on the device end, and where they start."""
    ends = []
    for device in (CPU, DEVICE):
        model = placed(network, device)
        start = flat(model)
        ends.append(walk(built(name, model, **changes), model, network, steps))
    return *ends, start


@pytest.mark.parametrize(("name", "foreach"), FOREACH)
def test_the_walk_is_that_of_the_cpu(name, foreach):
    changes = {} if foreach is None else {"foreach": foreach}
    on_cpu, on_device, start = both(name, "perceptron", 20, **changes)
    assert bool(on_device.isfinite().all())
    assert apart(on_cpu, on_device, start) < 1e-6


@pytest.mark.parametrize("network", ["convolutional", "text"])
@pytest.mark.parametrize("name", catalogued())
def test_a_checkpoint_of_the_cpu_goes_on_here(name, network):
    """Two steps on the CPU, a checkpoint, and ten more on both from the same state."""
    first = placed(network, CPU)
    optimizer = built(name, first)
    walk(optimizer, first, network, 2)
    buffer = io.BytesIO()
    torch.save((first.state_dict(), optimizer.state_dict()), buffer)
    buffer.seek(0)
    weights, state = torch.load(buffer, weights_only=True)
    second = placed(network, DEVICE)
    second.load_state_dict(weights)
    resumed = built(name, second)
    resumed.load_state_dict(state)
    start = flat(first)
    assert torch.equal(start, flat(second))
    steps = 10 if name in ANY_BASIS else 18
    on_device = walk(resumed, second, network, steps, start=2)
    on_cpu = walk(optimizer, first, network, steps, start=2)
    assert apart(on_cpu, on_device, start) < (1e-3 if name in ANY_BASIS else 1e-6)


@pytest.mark.parametrize("name", catalogued())
def test_a_resumed_run_is_the_uninterrupted_run(name):
    model = placed("perceptron", DEVICE)
    optimizer = built(name, model)
    walk(optimizer, model, "perceptron", 5)
    weights, state = moved(model.state_dict()), moved(optimizer.state_dict())
    start = flat(model)
    twin = placed("perceptron", DEVICE)
    twin.load_state_dict(weights)
    other = built(name, twin)
    other.load_state_dict(state)
    whole = walk(optimizer, model, "perceptron", 6, start=5)
    parts = walk(other, twin, "perceptron", 6, start=5)
    assert apart(whole, parts, start) < 1e-9
    # The state is where the parameters are, but for counters.
    held = [t for slots in other.state.values() for t in slots.values() if torch.is_tensor(t)]
    assert {t.device for t in held if t.numel() > 1} <= {DEVICE}


@pytest.mark.filterwarnings("default:::torch")
@pytest.mark.parametrize("name", COMPILED[:2] if REHEARSAL else COMPILED)
def test_compiled_rules_walk_alike(name):
    on_cpu = placed("perceptron", CPU)
    start = flat(on_cpu)
    expected = walk(built(name, on_cpu), on_cpu, "perceptron", 20)
    model = placed("perceptron", DEVICE)
    found = walk(built(name, model, compile=True), model, "perceptron", 20)
    assert apart(expected, found, start) < 1e-6


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", catalogued())
def test_single_precision_goes_the_same_way(name, network):
    """In float32 the loss falls to where it falls on the CPU; paths may part slowly."""
    ends = []
    for device in (CPU, DEVICE):
        model = placed(network, device, torch.float32)
        optimizer = built(name, model)
        walk(optimizer, model, network, 12)
        ends.append(sum(float(subjects.closure(model, network, t).value()) for t in range(3)))
    first = placed(network, CPU, torch.float32)
    before = sum(float(subjects.closure(first, network, t).value()) for t in range(3))
    assert abs(ends[1] - ends[0]) <= 0.05 * abs(before - ends[0]) + 1e-3 * abs(before)
