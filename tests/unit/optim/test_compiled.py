"""Compiled steps are the rules' own steps; nothing that changes is compiled in."""

import copy
import warnings
from typing import Any

import pytest
import torch

from thalweg import optim
from thalweg.objective import Objective
from thalweg.optim import lanes
from thalweg.optim.arguments import argument_names
from thalweg.optim.compiled import LANES, Kernel, Traced
from thalweg.optim.first_order import AbstractFirstOrder


SHAPES = [(3, 4), (5,), (), (7, 2, 2), (1,), (0,), (9,), (33,)]
METHODS = {
    "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adamw": {"amsgrad": True},
}


@pytest.fixture(autouse=True)
def quiet():
    """torch.compile warns of its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def twins(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    first = [torch.randn(s, dtype=dtype, requires_grad=True) for s in SHAPES]
    second = [p.detach().clone().requires_grad_() for p in first]
    settings = {"lr": 0.05, **METHODS[name], **options}
    compiled = optim.create(name, first, compile=True, **settings)
    return compiled, optim.create(name, second, **settings)


def pairs_of(compiled, plain):
    first, second = (o.param_groups[0]["params"] for o in (compiled, plain))
    return list(zip(first, second, strict=True))


def walk(compiled, plain, steps, change=None):
    for t in range(steps):
        for a, b in pairs_of(compiled, plain):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in (compiled, plain):
            if change is not None:
                change(t, optimizer.param_groups[0])
            optimizer.step()


def apart(compiled, plain):
    pairs = pairs_of(compiled, plain)
    return max(float((a - b).detach().abs().max()) for a, b in pairs if a.numel())


@pytest.mark.parametrize("name", METHODS)
def test_a_compiled_step_is_the_rules_own_and_recompiles_for_nothing(name):
    compiled, plain = twins(name)

    def change(t, group):
        group["lr"] = 0.05 / (1 + t)
        if "betas" in group:
            group["betas"] = (0.9, 0.99) if t > 4 else (0.8, 0.999)
        group["weight_decay"] = 0.01 * (1 + t)

    walk(compiled, plain, 3, change)
    kernels = len(lanes._KERNELS)
    walk(compiled, plain, 9, change)
    assert apart(compiled, plain) < 1e-12
    assert len(lanes._KERNELS) == kernels, "one kernel for all rates, decays, steps and shapes"


def test_copies_checkpoints_and_moved_memory_are_followed():
    compiled, plain = twins("sgd")
    walk(compiled, plain, 3)
    saved = copy.deepcopy(compiled.state_dict())
    twin = copy.deepcopy(compiled)
    assert vars(twin).keys() == vars(compiled).keys()
    walk(compiled, plain, 2)
    compiled.load_state_dict(saved)
    plain.load_state_dict({**saved, "param_groups": plain.state_dict()["param_groups"]})
    for a, b in pairs_of(compiled, plain):
        a.data = b.detach().clone()
    walk(compiled, plain, 3)
    assert apart(compiled, plain) < 1e-12


def test_what_is_no_flat_lane_is_moved_all_the_same():
    torch.manual_seed(1)
    odd = torch.randn(4, 6, dtype=torch.float64).t().requires_grad_()
    assert not odd.is_contiguous()
    even = odd.detach().clone().requires_grad_()
    a = optim.SGD([odd], lr=0.1, momentum=0.9, compile=True)
    b = optim.SGD([even], lr=0.1, momentum=0.9)
    for _ in range(4):
        odd.grad = torch.randn_like(odd)
        even.grad = odd.grad.clone()
        a.step()
        b.step()
    assert torch.allclose(odd, even, rtol=0, atol=1e-15)


def test_a_number_that_is_compiled_in_gives_itself_away(monkeypatch):
    """As torch would: by its constants in place of our symbols."""
    monkeypatch.setattr(lanes, "_KERNELS", {})

    def broken(self, first, second, *, value=1):
        self.tensor.add_(first.tensor * second.tensor * 0.25)
        return self

    monkeypatch.setattr(Traced, "addcmul_", broken)
    p = torch.ones(8, dtype=torch.float64, requires_grad=True)
    optimizer = optim.Adam([p], compile=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RuntimeError, match="differs from the rule itself"):
        optimizer.step()


def test_a_rule_that_branches_on_a_number_is_refused():
    def rule(grad, param, state, group):
        return grad.mul(0.5) if state.step < 5 else grad.mul(0.5).add(param, alpha=0.1)

    group = {"lr": 0.1, "weight_decay": 0.0, "decoupled_weight_decay": False}
    kernel = Kernel(rule, [], group, 2.0, torch.empty(0, dtype=torch.float64))
    assert len(kernel.numbers(group, 4.0)) == 2
    with pytest.raises(RuntimeError, match="branches on a number; set compile=False"):
        kernel.numbers(group, 5.0)


def test_a_number_that_becomes_one_may_take_its_branch():
    torch.manual_seed(4)
    first = [torch.randn(6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    second = [p.detach().clone().requires_grad_() for p in first]
    compiled = optim.AdaHessian(first, lr=0.1, hessian_power=0.5, compile=True)
    plain = optim.AdaHessian(second, lr=0.1, hessian_power=0.5)
    for t in range(6):
        for optimizer, params in ((compiled, first), (plain, second)):
            optimizer.param_groups[0]["hessian_power"] = 1.0 if t > 3 else 0.5

            def closure(params=params, optimizer=optimizer):
                optimizer.zero_grad()
                loss = sum((p**4).sum() for p in params)
                loss.backward()
                return loss

            torch.manual_seed(t)
            optimizer.step(closure)
    assert apart(compiled, plain) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adahessian", {"interval": 2, "weight_decay": 0.01}),
        ("sophia", {"interval": 2, "gamma": 0.5, "weight_decay": 0.01}),
    ],
)
def test_steps_with_curvature_are_compiled_to_the_same(name, options):
    runs = []
    for compiled in (True, False):
        torch.manual_seed(5)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
        ).double()
        x, y = torch.randn(9, 3).double(), torch.randn(9, 2).double()
        optimizer: Any = optim.create(name, model, lr=0.05, compile=compiled, **options)
        objective, losses = Objective(model, torch.nn.functional.mse_loss), []
        for t in range(7):
            optimizer.param_groups[0]["lr"] = 0.05 / (1 + t)
            losses.append(float(optimizer.step(objective.closure(x, y))))
        curvature = [s[optimizer.curvature_slot] for s in optimizer.state.values()]
        assert all(bool(c.any()) for c in curvature)
        runs.append([torch.tensor(losses), *model.parameters(), *curvature])
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_more_tensors_than_lanes():
    torch.manual_seed(2)
    count = 2 * LANES + 1
    first = [torch.randn(4 + i, dtype=torch.float64, requires_grad=True) for i in range(count)]
    second = [p.detach().clone().requires_grad_() for p in first]
    compiled = optim.SGD(first, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, compile=True)
    plain = optim.SGD(second, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    walk(compiled, plain, 5)
    assert apart(compiled, plain) < 1e-13


def test_gradients_and_slots_of_any_layout_are_served():
    """A sum's gradient is one number spread out; a loaded slot may lie otherwise."""
    torch.manual_seed(3)
    first = [torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    second = [p.detach().clone().requires_grad_() for p in first]
    compiled = optim.SGD(first, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, compile=True)
    plain = optim.SGD(second, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    for t in range(5):
        for p in (*first, *second):
            p.grad = torch.full((1, 1), 1.0 + t, dtype=p.dtype).expand(6, 4)
        compiled.step()
        plain.step()
        if t == 2:
            for optimizer, p in ((compiled, first[0]), (plain, second[0])):
                buffer = optimizer.state[p]["momentum_buffer"]
                optimizer.state[p]["momentum_buffer"] = buffer.t().contiguous().t()
                optimizer.state[p]["momentum_buffer"].mul_(2)
    assert not first[1].grad.is_contiguous()
    assert apart(compiled, plain) < 1e-13


def test_autograd_is_told_of_what_compiled_code_writes():
    """As after any step in place: a graph that kept the old weights refuses to go backward."""
    p = torch.ones(8, dtype=torch.float64, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, compile=True)
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    buffer = optimizer.state[p]["momentum_buffer"]
    versions = p._version, buffer._version
    loss = (p**2).sum()
    optimizer.step()
    assert (p._version, buffer._version) == tuple(v + 1 for v in versions)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.slow
def test_every_rule_compiles_beside_all_others():
    names = [
        name
        for name, entry in optim.catalogue().items()
        if issubclass(entry.cls, AbstractFirstOrder)
        and "compile" in argument_names(entry.cls)  # those that need layers take no such flag
    ]
    assert len(names) > 7
    for name in names:
        torch.manual_seed(0)
        first = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in SHAPES]
        second = [p.detach().clone().requires_grad_() for p in first]
        compiled = optim.create(name, first, lr=0.05, compile=True)
        plain = optim.create(name, second, lr=0.05)
        for _ in range(8):
            gradients = [torch.randn_like(p) for p in first]
            for optimizer, params in ((compiled, first), (plain, second)):

                def closure(params=params, gradients=gradients):
                    for p, gradient in zip(params, gradients, strict=True):
                        p.grad = gradient.clone()
                    return torch.tensor(1.0)

                optimizer.step(closure)
        assert apart(compiled, plain) < 1e-12, name
