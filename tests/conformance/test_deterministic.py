"""What every method keeps that judges its own steps: torch's contract, and never a worse point."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import thalweg as tw
from conformance.deterministic import DETERMINISTIC
from conformance.subjects import NETWORK, Network, assert_same_state, flat, rosenbrock, state_of
from conformance.table import bad_values
from thalweg.errors import NonFiniteError
from thalweg.optim.arguments import argument_names, domains


PLAIN = [name for name, row in DETERMINISTIC.items() if row.only == "any"]
NETS = [name for name, row in DETERMINISTIC.items() if row.only != "quadratic"]
FUNCTIONS = [name for name, row in DETERMINISTIC.items() if row.only != "outputs"]
WRONG = [
    (name, option, value)
    for name, row in DETERMINISTIC.items()
    for option in domains(row.cls)
    if option in argument_names(row.cls)
    for value in bad_values(name, option)
]
EXACT = torch.linspace(1.0, 10.0, 6, dtype=torch.float64)


def reloaded(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def begun(name, steps=4):
    model = NETWORK.model()
    optimizer = DETERMINISTIC[name].build(model.parameters())
    closure = NETWORK.closure(model, 0)
    for _ in range(steps):
        optimizer.step(closure)
    return model, optimizer, closure


def follow(optimizer, closure, model, steps):
    path = []
    for _ in range(steps):
        optimizer.step(closure)
        path.append(flat(model.parameters()))
    return path


def bowl(x):
    return 0.5 * (EXACT.to(x.dtype)[: x.numel()] * (x - 1) ** 2).sum()


@pytest.mark.parametrize(("name", "option", "value"), WRONG, ids=lambda v: str(v)[:20])
def test_refuses_bad_values(name, option, value):
    row = DETERMINISTIC[name]
    message = rf"^{row.cls.__name__}\({option}=.+\): {option} must be .+\.$"
    with pytest.raises(ValueError, match=message):
        row.build([nn.Parameter(torch.ones(2))], **{option: value})
    with pytest.raises(ValueError, match=message):
        row.build([{"params": [nn.Parameter(torch.ones(2))], option: value}])


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_refuses_unknown_names_and_a_model(name):
    cls = DETERMINISTIC[name].cls
    with pytest.raises(TypeError, match=rf"{cls.__name__}\(zzz=...\): unknown .* Known: "):
        cls([nn.Parameter(torch.ones(2))], zzz=1)
    with pytest.raises(TypeError, match=r"pass model.parameters\(\)"):
        cls(nn.Linear(2, 1))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_finds_the_minimum_of_a_quadratic(name, dtype):
    row = DETERMINISTIC[name]
    x = torch.linspace(-3.0, 2.0, 6, dtype=dtype, requires_grad=True)
    optimizer = row.build([x])
    closure = tw.Objective.of(bowl).closure(x)
    for _ in range(row.steps):
        optimizer.step(closure)
    assert closure.value() < (1e-8 if dtype is torch.float64 else 1e-5)
    assert optimizer.info.outcome in {"moved", "stationary", "no progress"}


@pytest.mark.parametrize("name", NETS)
def test_no_step_makes_it_worse_and_the_network_learns(name):
    model = NETWORK.model()
    optimizer = DETERMINISTIC[name].build(model.parameters())
    closure = NETWORK.closure(model, 0)
    losses = [closure.value().item()]
    for _ in range(60):
        assert float(optimizer.step(closure)) == pytest.approx(losses[-1], rel=1e-12)
        losses.append(closure.value().item())
        assert losses[-1] <= losses[-2] * (1 + 1e-12)
        if losses[-1] < 0.05 * losses[0]:
            break
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("name", PLAIN)
def test_rosenbrock(name):
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = DETERMINISTIC[name].build([x])
    closure = tw.Objective.of(rosenbrock).closure(x)
    for _ in range(400):
        optimizer.step(closure)
        if closure.value() < 1e-12:
            break
    assert closure.value() < 1e-12


@pytest.mark.parametrize("name", NETS)
def test_a_resumed_run_is_the_uninterrupted_run(name):
    model, optimizer, closure = begun(name)
    weights, checkpoint = reloaded((model.state_dict(), optimizer.state_dict()))
    resumed = NETWORK.model()
    resumed.load_state_dict(weights)
    second = DETERMINISTIC[name].build(resumed.parameters())
    second.load_state_dict(checkpoint)
    theirs = follow(second, NETWORK.closure(resumed, 0), resumed, 6)
    for one, other in zip(follow(optimizer, closure, model, 6), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_step_like_the_original(name, duplicate):
    model, optimizer, closure = begun(name)
    twin, other = duplicate((model, optimizer))
    theirs = follow(other, NETWORK.closure(twin, 0), twin, 4)
    for one, second in zip(follow(optimizer, closure, model, 4), theirs, strict=True):
        torch.testing.assert_close(one, second, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", PLAIN)
def test_torchs_closures_make_the_same_path(name):
    error = 1e-4 if DETERMINISTIC[name].looks else 1e-12
    model, other = NETWORK.model(), NETWORK.model()
    row = DETERMINISTIC[name]
    first = row.build(model.parameters(), **row.alike)
    second = row.build(other.parameters(), **row.alike)
    ours, theirs = NETWORK.closure(model, 0), NETWORK.torch_closure(other, 0)
    for _ in range(3):
        first.step(ours)
        second.step(theirs)
    torch.testing.assert_close(
        flat(model.parameters()), flat(other.parameters()), rtol=error, atol=error
    )


@pytest.mark.parametrize("name", NETS)
def test_groups_are_one_vector_and_frozen_parameters_stay(name):
    model, other = NETWORK.model(), NETWORK.model()
    for net in (model, other):
        net[0].bias.requires_grad_(False)
    first = DETERMINISTIC[name].build(model.parameters())
    groups = [{"params": list(other[0].parameters())}, {"params": list(other[2].parameters())}]
    second = DETERMINISTIC[name].build(groups)
    one = follow(first, NETWORK.closure(model, 0), model, 4)
    two = follow(second, NETWORK.closure(other, 0), other, 4)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
    assert torch.equal(model[0].bias, NETWORK.model()[0].bias)
    option = next(iter(set(second.defaults) & set(domains(type(second)))), None)
    if option is not None and isinstance(second.defaults[option], float):
        second.param_groups[1][option] = second.defaults[option] * 0.75 + 1e-9
        with pytest.raises(ValueError, match=rf"{option} must be the same in all groups"):
            second.step(NETWORK.closure(other, 0))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("when", [0, 1, 2, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ArithmeticError])
def test_an_exception_leaves_the_last_accepted_point(name, when, error, monkeypatch):
    model, optimizer, closure = begun(name)
    params, state, calls = flat(model.parameters()), state_of(optimizer), []
    forward = nn.Sequential.forward

    def failing(self, *args):
        calls.append(1)
        if len(calls) > when:
            raise error
        return forward(self, *args)

    monkeypatch.setattr(nn.Sequential, "forward", failing)
    try:
        for _ in range(6):
            before = flat(model.parameters())
            optimizer.step(closure)
    except error:
        assert torch.equal(flat(model.parameters()), before)
    monkeypatch.undo()
    if when == 0:
        assert torch.equal(flat(model.parameters()), params)
        assert_same_state(state, state_of(optimizer))
    value = closure.value()
    optimizer.step(closure)
    assert closure.value() <= value * (1 + 1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_a_loss_that_is_not_finite_at_the_start_changes_nothing(name):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = DETERMINISTIC[name].build([x])
    closure = tw.Objective.of(lambda x: x.sum() * float("nan")).closure(x)
    with pytest.raises(NonFiniteError, match=r"\.step\(\): the loss is nan at call 1"):
        optimizer.step(closure)
    assert x.tolist() == [1.0, 2.0]
    assert not state_of(optimizer).get(0)


@pytest.mark.parametrize("name", PLAIN)
def test_a_wall_of_nan_is_only_too_far(name):
    x = torch.tensor([5.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = DETERMINISTIC[name].build([x])

    def barrier(x):  # minimum at (0.1, 0.1); NaN where an entry is negative
        return (10 * x - x.log()).sum()

    closure = tw.Objective.of(barrier).closure(x)
    for _ in range(80):
        optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.full((2,), 0.1, dtype=x.dtype), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if DETERMINISTIC[n].scale_free])
@pytest.mark.parametrize("factor", [2.0**-27, 2.0**27])
def test_the_path_does_not_depend_on_the_functions_scale(name, factor):
    paths = []
    for scale in (1.0, factor):
        x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        optimizer = DETERMINISTIC[name].build([x])
        fn = bowl if DETERMINISTIC[name].only == "quadratic" else rosenbrock
        closure = tw.Objective.of(lambda x, fn=fn, scale=scale: scale * fn(x)).closure(x)
        paths.append([])
        for _ in range(6):
            optimizer.step(closure)
            paths[-1].append(x.detach().clone())
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "fn",
    [
        lambda x: 0.0 * x.sum() + 3.0,
        lambda x: (x**4).sum(),
        lambda x: (x[0] - x[-1]) ** 2,
        lambda x: x.abs().sum(),
        lambda x: x.sum(),
    ],
    ids=["constant", "quartic", "duplicates", "kink", "unbounded"],
)
@pytest.mark.parametrize("start", [[0.0], [0.7], [1e-3, -2.0, 3.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_crashes_and_nothing_gets_worse(name, fn, start, dtype):
    x = torch.tensor(start, dtype=dtype, requires_grad=True)
    optimizer = DETERMINISTIC[name].build([x])
    closure = tw.Objective.of(fn).closure(x)
    value = closure.value()
    for _ in range(8):
        optimizer.step(closure)
        assert x.isfinite().all()
        assert closure.value() <= value + 1e-6 * value.abs()
        value = closure.value()


@pytest.mark.parametrize("name", NETS)
def test_empty_scalar_and_unused_parameters(name):
    network = Network(torch.float32)
    model = network.model()
    scalar = nn.Parameter(torch.tensor(0.5))
    empty = nn.Parameter(torch.zeros(0, 3))
    model.register_parameter("scalar", scalar)
    model.register_parameter("empty", empty)
    optimizer = DETERMINISTIC[name].build(model.parameters())
    closure = network.closure(model, 0)
    before = closure.value()
    for _ in range(4):
        optimizer.step(closure)
    assert closure.value() < before
    assert scalar.item() == 0.5
    assert not any("NaN" in str(s) for s in state_of(optimizer).values())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_needs_a_closure(name):
    optimizer = DETERMINISTIC[name].build([nn.Parameter(torch.ones(2))])
    with pytest.raises(TypeError, match=r"\.step\(\): this method needs a closure"):
        optimizer.step()
