"""Every learning-rate scheduler of torch's, with the same rates and the same path as on torch's."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as sched
from torch.optim.swa_utils import SWALR

from conformance.subjects import NETWORK, flat
from conformance.table import CASES, ROWS


STEPS = 12


def _cycles(optimizer):
    return "momentum" in optimizer.defaults or "betas" in optimizer.defaults


SCHEDULERS = {
    "LambdaLR": lambda o: sched.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: sched.MultiplicativeLR(o, lambda _: 0.95),
    "StepLR": lambda o: sched.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda o: sched.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: sched.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: sched.LinearLR(o, 0.1, total_iters=6),
    "ExponentialLR": lambda o: sched.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: sched.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: sched.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 4),
    "CyclicLR": lambda o: sched.CyclicLR(o, 1e-3, 0.05, 3, cycle_momentum=_cycles(o)),
    "OneCycleLR": lambda o: sched.OneCycleLR(o, 0.05, STEPS + 1, cycle_momentum=_cycles(o)),
    "ReduceLROnPlateau": lambda o: sched.ReduceLROnPlateau(o, patience=1, cooldown=1),
    "SequentialLR": lambda o: sched.SequentialLR(
        o, [sched.LinearLR(o, 0.1, total_iters=4), sched.ExponentialLR(o, 0.8)], [4]
    ),
    "ChainedScheduler": lambda o: sched.ChainedScheduler(
        [sched.ConstantLR(o, 0.5, 3), sched.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: SWALR(o, 0.01, anneal_epochs=4),
}


def walk(build, scheduler, **options):
    """The path, and what the group said before each step."""
    model = NETWORK.model()
    optimizer = build(model.parameters(), **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step")
        schedule = scheduler(optimizer)
        path, seen = [], []
        for t in range(STEPS):
            group = optimizer.param_groups[0]
            seen.append({k: group.get(k) for k in ("lr", "momentum", "betas")})
            loss = optimizer.step(NETWORK.closure(model, t))
            path.append(flat(model.parameters()))
            if isinstance(schedule, sched.ReduceLROnPlateau):
                schedule.step(1.0 + 0.0 * float(loss))
            else:
                schedule.step()
    return path, seen


def test_none_is_left_out():
    known = {
        name
        for name, cls in vars(sched).items()
        if inspect.isclass(cls) and issubclass(cls, sched.LRScheduler) and name in sched.__all__
    }
    assert known - {"LRScheduler"} <= set(SCHEDULERS)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.torch_class])
def test_path_and_rates_are_as_on_torchs_optimizer(name, scheduler):
    row = ROWS[name]
    ours, seen = walk(row.build, SCHEDULERS[scheduler], lr=0.02)
    theirs, told = walk(row.torch_class, SCHEDULERS[scheduler], lr=0.02)
    assert seen == told
    if name == "rprop":  # torch's walks on at a rate of zero
        rates = [told[t]["lr"] for t in range(STEPS)]
        ours, theirs = (p[: rates.index(0.0) if 0.0 in rates else STEPS] for p in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", [n for n, row in CASES.items() if not row.torch_class])
def test_rates_are_as_on_torchs_sgd(name, scheduler):
    row = CASES[name]
    path, seen = walk(row.build, SCHEDULERS[scheduler], **{**row.settings, "lr": 0.02})
    _, told = walk(torch.optim.SGD, SCHEDULERS[scheduler], lr=0.02)
    assert [s["lr"] for s in seen] == [t["lr"] for t in told]
    assert path[-1].isfinite().all()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_rate_that_is_a_tensor_is_read_and_not_changed(name, shape):
    row = CASES[name]
    paths = []
    for tensor in (False, True):
        rate = torch.full(shape, 0.0625, dtype=torch.float64) if tensor else 0.0625
        model = NETWORK.model()
        optimizer = row.build(model.parameters(), **{**row.settings, "lr": rate})
        paths.append(NETWORK.walk(optimizer, model, 8))
        if tensor:
            assert torch.equal(rate, torch.full(shape, 0.0625, dtype=torch.float64))
            assert optimizer.param_groups[0]["lr"] is rate
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_rate_that_is_a_tensor_is_scheduled(name):
    row = CASES[name]
    plain, _ = walk(row.build, SCHEDULERS["StepLR"], **{**row.settings, "lr": 0.0625})
    rate = torch.tensor(0.0625, dtype=torch.float64)
    tensor, _ = walk(row.build, SCHEDULERS["StepLR"], **{**row.settings, "lr": rate})
    torch.testing.assert_close(plain, tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n, row in CASES.items() if row.wraps])
def test_a_scheduler_on_the_inner_optimizer_works_as_well(name):
    row = CASES[name]
    model = NETWORK.model()
    optimizer = row.build(model.parameters(), **row.settings)
    schedule = sched.ExponentialLR(optimizer.inner, 0.5)
    NETWORK.walk(optimizer, model, 1)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * row.settings["lr"])


@pytest.mark.parametrize("name", CASES)
def test_a_scheduler_does_not_keep_the_step_of_a_dropped_optimizer(name):
    row = CASES[name]
    model = NETWORK.model()
    optimizer = row.build(model.parameters(), **row.settings)
    schedule = sched.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        schedule.step()  # torch notices that step was not called: the patch is in place
