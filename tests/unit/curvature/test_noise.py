"""The gradient noise scale against closed forms and stacked per-sample gradients."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature.dense import Dense
from thalweg.curvature.estimate import Estimate
from thalweg.curvature.noise import NoiseScale, noise_scale
from thalweg.curvature.sample_gradients import SampleGradients
from thalweg.objective.rows import row_count, rows_of


DOUBLE = torch.float64
SCALES = torch.tensor([2.0, 1.0, 0.5, 0.25], dtype=DOUBLE)
MEAN = torch.tensor([0.5, -0.4, 0.3, 0.2], dtype=DOUBLE)


class Point(nn.Module):
    """The loss of a sample y is |theta - y|^2 / 2: its gradient is theta - y."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(4, dtype=DOUBLE))

    def forward(self, x):
        return self.theta + x


def halves(outputs, targets):
    return (outputs - targets).square().sum(1).mean() / 2


def sample(count, seed):
    generator = torch.Generator().manual_seed(seed)
    y = MEAN + SCALES * torch.randn(count, 4, generator=generator, dtype=DOUBLE)
    return torch.zeros_like(y), y


def tiny(loss=F.cross_entropy, targets=None, extra=()):
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), *extra, nn.Linear(5, 4)).to(DOUBLE)
    x = torch.randn(12, 3, dtype=DOUBLE, generator=generator)
    y = torch.randint(0, 4, (12,), generator=generator) if targets is None else targets(generator)
    return Objective(model, loss), x, y


def stacked(objective, x, y):
    """One gradient at a time, by plain autograd; and the weights of the mean."""
    rows, weights = [], []
    for i in range(len(x)):
        outputs = objective.model(x[i : i + 1])
        loss = objective.loss_fn(outputs, y[i : i + 1])
        weights.append(objective.loss_fn.count(outputs, y[i : i + 1]))
        parts = torch.autograd.grad(loss, list(objective.model.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in parts]))
    return torch.tensor(weights, dtype=DOUBLE), torch.stack(rows)


EXPECTED = float(SCALES.square().sum() / MEAN.square().sum())


@pytest.mark.parametrize("method", ["per-sample", pytest.param("batches", marks=pytest.mark.slow)])
def test_the_interval_covers_and_the_parts_are_unbiased(method):
    inside, noises, signals = 0, [], []
    for seed in range(200):
        x, y = sample(120, seed)
        objective = Objective(Point(), halves)
        size = 120 if method == "per-sample" else 10
        batches = list(zip(x.split(size), y.split(size), strict=True))
        found = noise_scale(objective.over(batches), method)
        low, high = found.interval()
        inside += low <= EXPECTED <= high
        noises.append(float(found.noise))
        signals.append(float(found.signal))
    assert 0.9 <= inside / 200 <= 0.99
    for parts, truth in ((noises, SCALES.square().sum()), (signals, MEAN.square().sum())):
        parts = torch.tensor(parts)
        assert abs(parts.mean() - truth) < 4 * parts.std() / math.sqrt(200)


@pytest.mark.slow
def test_the_errors_are_those_of_repetitions():
    found = []
    for seed in range(200):
        x, y = sample(200, seed)
        found.append(noise_scale(Objective(Point(), halves).closure(x, y)))
    for part in ("noise", "signal"):
        values = torch.tensor([float(getattr(f, part)) for f in found])
        stated = torch.tensor([getattr(f, part).stderr for f in found]).square().mean().sqrt()
        assert float(stated / values.std()) == pytest.approx(1.0, abs=0.2)
    pairs = torch.tensor([[float(f.noise), float(f.signal)] for f in found])
    scale = float(pairs.std(0).prod())
    stated = sum(f.covariance for f in found) / 200
    assert stated == pytest.approx(float(torch.cov(pairs.T)[0, 1]), abs=0.2 * scale)


def test_ragged_batches_are_weighted():
    x, y = sample(900, 1)
    sizes = [10, 50] * 15
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    objective = Objective(Point(), halves)
    found = noise_scale(objective.over(batches), "batches")
    exact = noise_scale(objective.closure(x, y))
    assert abs(float(found.noise) - float(exact.noise)) < 4 * found.noise.stderr
    assert found.noise.stderr < 0.5 * float(found.noise)
    means = torch.stack([-b.mean(0) for _, b in batches])
    total, weights = -y.mean(0), torch.tensor(sizes, dtype=DOUBLE)
    plain = (weights * (means - total).square().sum(1)).sum() / 29
    assert float(found.noise) == pytest.approx(float(plain))


CASES = {
    "cross-entropy": (F.cross_entropy, None),
    "class weights": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3, 0.5, 2]).double()), None),
    "ignored": (nn.CrossEntropyLoss(ignore_index=2), None),
    "squared error": (F.mse_loss, lambda g: torch.randn(12, 4, generator=g, dtype=DOUBLE)),
    "any loss": (
        lambda z, t: (z - t).pow(4).sum(1).mean(),
        lambda g: torch.randn(12, 4, generator=g, dtype=DOUBLE),
    ),
}


@pytest.mark.parametrize("split", [[12], [5, 5, 2]], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_whole_population_is_exact(case, split):
    objective, x, y = tiny(*CASES[case])
    weights, rows = stacked(objective, x, y)
    rows = rows[weights > 0]
    weights = weights[weights > 0] / weights.sum()
    mean = weights @ rows
    noise = weights @ (rows - mean).square().sum(1)
    batches = list(zip(x.split(split), y.split(split), strict=True))
    found = noise_scale(objective.over(batches), population=True)
    assert found.value == pytest.approx(float(noise / mean.square().sum()), rel=1e-10)
    assert found.stderr == 0.0


def test_a_sum_has_the_scale_of_its_mean():
    objective, x, y = tiny()
    summed = Objective(objective.model, partial(F.cross_entropy, reduction="sum"))
    expected = noise_scale(objective.closure(x, y))
    assert noise_scale(summed.closure(x, y)).value == pytest.approx(expected.value)
    batches = [(x[i : i + 4], y[i : i + 4]) for i in (0, 4, 8)]
    by_batch = noise_scale(objective.over(batches), "batches").value
    assert noise_scale(summed.over(batches), "batches").value == pytest.approx(by_batch)


def test_with_an_operator():
    objective, x, y = tiny()
    _, rows = stacked(objective, x, y)
    n = rows.shape[1]
    H = torch.diag(torch.linspace(0.1, 2.0, n, dtype=DOUBLE)) + 0.01
    mean = rows.mean(0)
    centred = rows - mean
    expected = ((centred @ H) * centred).sum() / 12 / (mean @ H @ mean)
    operator = Dense(H, symmetric=True)
    found = noise_scale(objective.closure(x, y), operator=operator, population=True)
    assert found.value == pytest.approx(float(expected), rel=1e-10)
    assert found.products == operator.products == 13


def test_one_at_a_time_and_all_at_once_agree():
    objective, x, y = tiny()
    expected = stacked(objective, x, y)[1]
    units = SampleGradients(objective.closure(x, y))
    at_once = torch.cat([g for _, g in units])
    assert units._fast
    units._fast = False
    torch.testing.assert_close(at_once, expected)
    torch.testing.assert_close(torch.cat([g for _, g in units]), expected)


class Stubborn(nn.Module):
    """Branches on a value, which vmap refuses."""

    def forward(self, x):
        return x * 2 if float(x.sum()) > 1e9 else x


def test_a_model_that_cannot_be_vectorised_is_looped_over():
    objective, x, y = tiny(extra=[Stubborn()])
    units = SampleGradients(objective.closure(x, y))
    torch.testing.assert_close(torch.cat([g for _, g in units]), stacked(objective, x, y)[1])
    assert not units._fast


def test_dict_batches():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4).double()

        def forward(self, input_values, flag=None):
            return {"logits": self.layer(input_values)}

    torch.manual_seed(0)
    model = Model()
    x, y = torch.randn(9, 3).double(), torch.randint(0, 4, (9,))
    batch = {"input_values": x, "labels": y, "flag": None}
    found = noise_scale(Objective(model, F.cross_entropy).closure(batch))
    pairs = Objective(model.layer, F.cross_entropy).closure(x, y)
    assert found.value == pytest.approx(noise_scale(pairs).value)


class Coupled(nn.Module):
    """Each sample sees the batch's mean, as under BatchNorm, but says so to nobody."""

    def forward(self, x):
        return x - x.mean(0)


def test_samples_that_see_each_other_are_refused():
    objective, x, y = tiny(extra=[nn.BatchNorm1d(5)])
    with pytest.raises(ValueError, match="BatchNorm layer in train mode"):
        noise_scale(objective.closure(x, y))
    objective.model.eval()
    assert noise_scale(objective.closure(x, y)).value > 0
    objective, x, y = tiny(extra=[Coupled()])
    with pytest.raises(TypeError, match="samples see each other"):
        noise_scale(objective.closure(x, y))
    batches = [(x[i::4], y[i::4]) for i in range(4)] * 2
    assert noise_scale(objective.over(batches)).method == "batches"


def test_dropout_and_the_random_state():
    objective, x, y = tiny(extra=[nn.Dropout(0.5)])
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = (noise_scale(objective.closure(x, y), seed=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    masks = torch.cat([g for _, g in SampleGradients(objective.closure(x[:1].repeat(12, 1), y))])
    same = y == y[0]
    assert same.sum() > 1
    assert not torch.equal(masks[same][0], masks[same][1])


def test_nothing_of_the_model_changes():
    objective, x, y = tiny(extra=[nn.BatchNorm1d(5)])
    before = {k: v.clone() for k, v in objective.model.state_dict().items()}
    batches = [(x[i::4], y[i::4]) for i in range(4)]
    noise_scale(objective.over(batches), "batches")
    after = objective.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in objective.params)
    assert objective.model.training


def test_some_of_the_samples():
    x, y = sample(500, 1)
    closure = Objective(Point(), halves).closure(x, y)
    found = noise_scale(closure, samples=100, seed=1)
    assert found.samples == 100
    assert found.interval()[0] <= EXPECTED <= found.interval()[1]
    assert found != noise_scale(closure, samples=100, seed=2)
    chosen = SampleGradients(Objective(Point(), halves).over([(x, y), (x, y)]), samples=50)
    assert sum(len(w) for w, _ in chosen) == 50


def test_an_interval_is_open_where_there_may_be_no_signal():
    x, y = sample(50, 3)
    found = noise_scale(Objective(Point(), halves).closure(x, y - y.mean(0)))
    low, high = found.interval()
    assert high == math.inf
    assert low > 0
    assert found.value == math.inf
    assert "inf" in str(found)


def test_fieller_by_its_definition():
    e = NoiseScale(Estimate(10.0, 1.0, 0, "x", 30), Estimate(4.0, 0.5, 0, "x", 30), 0.2, 0, "x", 30)
    for ratio in e.interval():
        gap = abs(10.0 - ratio * 4.0)
        error = math.sqrt(1.0 + ratio**2 * 0.25 - 2 * ratio * 0.2)
        assert gap / error == pytest.approx(2.04523, abs=1e-4)
    assert e.stderr == pytest.approx(math.sqrt(1 + 2.5**2 * 0.25 - 5 * 0.2) / 4)
    assert e.batch(0.8) == pytest.approx(10.0)
    assert e.progress(10.0) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="share must be"):
        e.batch(1.0)


def test_refusals():
    objective, x, y = tiny()
    closure = objective.closure(x, y)
    with pytest.raises(ValueError, match="method must be one of"):
        noise_scale(closure, "two")
    with pytest.raises(ValueError, match="at least 3 batches"):
        noise_scale(closure, "batches")
    with pytest.raises(ValueError, match="population must be"):
        noise_scale(closure, samples=5, population=True)
    with pytest.raises(ValueError, match="operator must be"):
        noise_scale(closure, operator=Dense(torch.eye(3)))
    point = torch.zeros(2, requires_grad=True)
    with pytest.raises(TypeError, match="plain function"):
        noise_scale(Objective.of(lambda p: p.sum()).closure(point))


def test_rows():
    batch = {"a": [torch.zeros(3, 2), "name"], "b": torch.tensor(1.0)}
    assert row_count(batch) == 3
    assert rows_of(batch, torch.tensor([0, 2]))["a"][0].shape == (2, 2)
    with pytest.raises(TypeError, match=r"lengths \[2, 3\]"):
        row_count((torch.zeros(2), torch.zeros(3)))
    with pytest.raises(TypeError, match="no tensor"):
        row_count("text")
