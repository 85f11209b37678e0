"""The monitor: what it measures, what it leaves alone, what it costs, and what survives a kill."""

from __future__ import annotations

import json
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg import Objective
from thalweg.curvature import CurvatureWarning, monitor as monitors
from thalweg.curvature.journal import read_journal
from thalweg.curvature.monitor import CurvatureMonitor
from thalweg.curvature.training_state import undisturbed


class Net(nn.Module):
    """Dropout, BatchNorm, and draws from Python's and NumPy's generators: all there is to move."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 16), nn.BatchNorm1d(16)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.norm(self.first(x)))))


def batches(count, seed=0):
    draws = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randn(20, 6, generator=draws)
        yield x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long()


def trained(make_optimizer, *, watched, steps=25):
    """Everything that training leaves behind."""
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    model = Net()
    objective = Objective(model, F.cross_entropy)
    optimizer = make_optimizer(model.parameters())
    monitor = CurvatureMonitor(objective, optimizer, every=3, share=1.0) if watched else None
    losses = []
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if monitor is not None:
            monitor.step(x, y)
    drawn = torch.rand(3), random.random(), np.random.rand()
    grads = [p.grad for p in model.parameters()]
    return model.state_dict(), losses, drawn, grads, model.training, optimizer.state_dict(), monitor


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: torch.optim.Adam(params, lr=0.01),
    ],
)
def test_training_is_bit_for_bit_what_it_is_without(make):
    plain = trained(make, watched=False)
    watched = trained(make, watched=True)
    assert len(watched[-1].records) == 8
    for name, value in plain[0].items():
        assert torch.equal(value, watched[0][name]), name
    assert plain[1] == watched[1]
    assert torch.equal(plain[2][0], watched[2][0])
    assert plain[2][1:] == watched[2][1:]
    assert all(torch.equal(a, b) for a, b in zip(plain[3], watched[3], strict=True))
    assert plain[4] == watched[4]
    same = [plain[5]["state"], watched[5]["state"]]
    for key, slots in same[0].items():
        for slot, value in slots.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(same[1][key][slot]))


def test_every_generator_is_put_back():
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    with undisturbed([]):
        torch.rand(2), random.random(), np.random.rand()
    drawn = torch.rand(1).item(), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    assert drawn == (torch.rand(1).item(), random.random(), np.random.rand())


def quadratic(curvatures=(1.0, 4.0), noise=0.0):
    """A linear model whose Hessian is the diagonal of ``curvatures`` and does not move."""
    model = nn.Linear(len(curvatures), 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    roots = torch.tensor(curvatures, dtype=torch.float64).sqrt()
    x = torch.diag(roots * (len(curvatures) / 2) ** 0.5)
    return model, Objective(model, F.mse_loss), (x, torch.zeros(len(curvatures), 1).double())


def test_what_it_logs_is_true():
    model, objective, batch = quadratic((1.0, 3.0, 8.0))
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    monitor = CurvatureMonitor(objective, sgd, every=1, share=1.0)
    record: dict = {}
    for _ in range(4):
        record |= monitor.step(*batch) or {}
    assert record["sharpness"] == pytest.approx(8.0)
    assert record["limit"] == pytest.approx(3.8 / 8)
    assert record["ratio"] == pytest.approx(0.05 * 8 / 3.8)
    assert record["trace"] == pytest.approx(12.0)
    assert record["index"] == 0.0
    assert record["lr"] == 0.05
    assert record["loss"] == pytest.approx(6.0)
    assert record["steepest"] == "weight"
    assert "noise" in record


def test_it_measures_on_batches_of_its_own():
    _, objective, batch = quadratic((2.0, 6.0))
    monitor = CurvatureMonitor(objective, every=2, batches=[batch], quantities=("sharpness",))
    assert monitor.step() is None
    assert monitor.step()["sharpness"] == pytest.approx(6.0)


def test_it_warns_once_a_crossing():
    model, objective, batch = quadratic((1.0, 10.0))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = CurvatureMonitor(objective, sgd, every=1, share=1.0, quantities=("sharpness",))
    monitor.step(*batch)
    sgd.param_groups[0]["lr"] = 0.25
    with pytest.warns(CurvatureWarning, match=r"at step 2 the learning rate 0.25 is 1.25 times"):
        monitor.step(*batch)
    monitor.step(*batch)
    sgd.param_groups[0]["lr"] = 0.19  # inside, but too near to the limit to count as below it
    monitor.step(*batch)
    sgd.param_groups[0]["lr"] = 0.25
    monitor.step(*batch)
    sgd.param_groups[0]["lr"] = 0.1
    monitor.step(*batch)
    sgd.param_groups[0]["lr"] = 0.3
    with pytest.warns(CurvatureWarning, match="1.5 times"):
        monitor.step(*batch)


class Clock:
    """Seconds that pass when they are told to: one a training step, ``cost`` a look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(monitors, "_clock", made)
    return made


def slow(monitor, clock, name, cost):
    """Make a quantity take time."""
    inner = getattr(monitor, f"_{name}")

    def measure(*arguments):
        clock.now += cost
        return inner(*arguments)

    setattr(monitor, f"_{name}", measure)


@pytest.mark.parametrize(("cost", "share"), [(10.0, 0.05), (0.5, 0.05), (4.0, 0.2)])
def test_the_interval_stretches_to_keep_its_share_of_the_time(clock, cost, share):
    _, objective, batch = quadratic()
    monitor = CurvatureMonitor(objective, every=10, share=share, quantities=("sharpness",))
    slow(monitor, clock, "sharpness", cost)
    for _ in range(5000):
        clock.now += 1.0
        monitor.step(*batch)
        # The first look is made in any case; from then on the share is kept.
        if len(monitor.records) > 1:
            assert monitor.time_share <= share + 1e-9
    steps = [record["step"] for record in monitor.records]
    gaps = np.diff(steps)
    assert steps[0] == 10
    assert gaps.min() >= 10
    expected = max(10, cost * (1 - share) / share)
    assert np.median(gaps) == pytest.approx(expected, rel=0.1, abs=1)


def test_no_quantity_takes_the_part_of_another(clock):
    _, objective, batch = quadratic()
    monitor = CurvatureMonitor(objective, every=1, share=0.4, quantities=("sharpness", "trace"))
    slow(monitor, clock, "sharpness", 1.0)
    slow(monitor, clock, "trace", 30.0)
    for _ in range(2000):
        clock.now += 1.0
        monitor.step(*batch)
    parts = {name: monitor._spent[name] / clock.now for name in ("sharpness", "trace")}
    assert parts["sharpness"] == pytest.approx(0.2, abs=0.02)
    assert 0.15 < parts["trace"] <= 0.2 + 1e-9


def loop(path, steps, state=None):
    """Train to ``steps`` in all, with a log; the model, the monitor and what is saved at 12."""
    torch.manual_seed(2)
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    monitor = CurvatureMonitor(
        Objective(model, F.cross_entropy), sgd, every=4, share=1.0, log=path,
        quantities=("sharpness",),
    )  # fmt: skip
    begin, saved = 0, None
    if state is not None:
        begin = state["steps"]
        model.load_state_dict(state["model"])
        monitor.load_state_dict(state["monitor"])
        torch.set_rng_state(state["random"])
    for step, (x, y) in enumerate(batches(steps), start=1):
        if step <= begin:
            continue
        sgd.zero_grad()
        F.cross_entropy(model(x), y).backward()
        sgd.step()
        monitor.step(x, y)
        if step == 10:
            saved = {
                "steps": step,
                "model": {k: v.clone() for k, v in model.state_dict().items()},
                "monitor": monitor.state_dict(),
                "random": torch.get_rng_state(),
            }
    return saved


def told(path):
    keys = ("step", "sharpness", "loss", "ratio")
    return [{key: record[key] for key in keys} for record in read_journal(path)]


def test_a_killed_run_goes_on_to_the_same_log(tmp_path):
    loop(tmp_path / "whole.jsonl", 20)
    cut = tmp_path / "cut.jsonl"
    saved = loop(cut, 14)  # killed after 14; the checkpoint is of 10, the log has 12
    torch.save(saved, tmp_path / "state.pt")
    with open(cut, "ab") as file:
        file.write(b'{"step": 16, "sharp')  # killed while it wrote
    loop(cut, 20, torch.load(tmp_path / "state.pt", weights_only=True))
    assert told(cut) == told(tmp_path / "whole.jsonl")
    assert [record["step"] for record in told(cut)] == [4, 8, 12, 16, 20]


def test_a_log_is_whole_after_being_cut_at_any_byte(tmp_path):
    path = tmp_path / "log.jsonl"
    loop(path, 12)
    whole = path.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        kept = len(read_journal(path))
        assert kept == sum(end < size for end in ends)
    path.write_bytes(whole[: ends[1] + 5])
    _, objective, batch = quadratic()
    monitor = CurvatureMonitor(objective, every=1, log=path, quantities=("sharpness",))
    assert monitor.step(*batch)["step"] == 9
    assert [record["step"] for record in read_journal(path)] == [4, 8, 9]


def test_a_log_that_is_no_log_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("not a record\n{}\n")
    with pytest.raises(ValueError, match="line 1 is not a record"):
        read_journal(path)


def test_records_are_plain_json(tmp_path):
    path = tmp_path / "deep" / "log.jsonl"
    loop(path, 8)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_a_loss_that_is_not_finite_is_a_record_and_no_exception():
    model, objective, batch = quadratic()
    monitor = CurvatureMonitor(objective, every=1, quantities=("sharpness",))
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    record = monitor.step(*batch)
    assert "nan" in record["error"]
    assert "sharpness" not in record


def test_the_ledger_counts_training_alone():
    _, objective, batch = quadratic()
    before = objective.ledger.as_dict()
    CurvatureMonitor(objective, every=1).step(*batch)
    assert objective.ledger.as_dict() == before


def test_a_method_without_a_limit_is_followed_all_the_same():
    model, objective, batch = quadratic()
    rprop = torch.optim.Rprop(model.parameters())
    monitor = CurvatureMonitor(objective, rprop, every=1, quantities=("sharpness",))
    record = monitor.step(*batch)
    assert record["ratio"] is None
    assert record["sharpness"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("argument", "value"), [("every", 0), ("share", 1.5), ("quantities", ("sharp",))]
)
def test_bad_arguments_are_named(argument, value):
    _, objective, _ = quadratic()
    with pytest.raises(ValueError, match=argument):
        CurvatureMonitor(objective, **{argument: value})


def test_a_step_without_a_batch_is_refused():
    _, objective, _ = quadratic()
    with pytest.raises(ValueError, match="batch"):
        CurvatureMonitor(objective).step()


def test_a_warm_start_is_cheaper():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 60), nn.Tanh(), nn.Linear(60, 5))
    objective = Objective(model, F.cross_entropy)
    batch = torch.randn(64, 30), torch.randint(0, 5, (64,))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(100):
        sgd.step(objective.closure(*batch))
    monitor = CurvatureMonitor(objective, every=1, share=1.0, quantities=("sharpness",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = monitor.step(*batch), monitor.step(*batch)
    assert second["products"] <= first["products"]
    assert second["sharpness"] == pytest.approx(first["sharpness"], rel=1e-3)
