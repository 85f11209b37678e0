"""An inspection against a dense Hessian of stacked double backward, and against closed forms."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg import Objective
from thalweg.curvature.dense import Dense
from thalweg.curvature.examination import inspect
from thalweg.curvature.inspection import Inspection
from thalweg.curvature.point import reach_of
from unit.curvature.oracle import Case, gradient, hessian, sample_gradients, untouched


DOUBLE = torch.float64


def network(n=40, wide=16):
    """A trained-for-a-while network of 600 parameters, too many for the exact way."""
    torch.manual_seed(1)
    draws = torch.Generator().manual_seed(3)
    x = torch.randn(n, 10, generator=draws, dtype=DOUBLE)
    y = torch.randint(0, 4, (n,), generator=draws)
    layers = nn.Sequential(
        nn.Linear(10, wide), nn.Tanh(), nn.Linear(wide, wide + 4), nn.Tanh(), nn.Linear(wide + 4, 4)
    )
    return Case(layers.double(), F.cross_entropy, x, y)


def trained(case, steps=60, lr=0.3):
    sgd = torch.optim.SGD(case.model.parameters(), lr=lr)
    closure = case.closure()
    for _ in range(steps):
        sgd.step(closure)
    sgd.zero_grad()
    return sgd


@pytest.fixture(scope="module")
def seen():
    case = network()
    sgd = trained(case)
    value, _, params = case.seen()
    dense = hessian(value, params)
    slope = gradient(value, params)
    half = [(case.x[:25], case.y[:25]), (case.x[25:], case.y[25:])]
    with untouched(case.model):
        found = inspect(case.objective(), half, optimizer=sgd, probes=8)
    return case, found, dense, torch.linalg.eigh(dense), slope


def test_loss_and_gradient(seen):
    case, found, _, _, slope = seen
    assert found.loss == pytest.approx(F.cross_entropy(case.model(case.x), case.y).item())
    assert found.gradient_norm == pytest.approx(float(slope.norm()))
    assert found.samples == 40
    assert found.batch_size == 25
    assert found.parameters == sum(p.numel() for p in case.model.parameters())


def test_both_ends_lie_within_their_errors(seen):
    _, found, _, (values, _), _ = seen
    for end, true in ((found.largest, values[-1]), (found.smallest, values[0])):
        assert end.products > 0
        assert abs(end.value - float(true)) <= 1.01 * end.error + 1e-9
        assert end.error < 0.1 * abs(float(true))


def test_trace_and_index_are_within_their_bounds(seen):
    _, found, _, (values, _), _ = seen
    assert abs(found.trace.value - float(values.sum())) < 4 * found.trace.error
    below = float((values < -found.point.tolerance).sum())
    assert found.point.index.low <= below <= found.point.index.high
    assert found.point.index.low <= found.point.index.value <= found.point.index.high
    inside = float((values.abs() <= found.point.tolerance).double().mean())
    assert found.point.inside.low <= inside <= found.point.inside.high


def test_the_condition_number_lies_between_its_bounds(seen):
    _, found, _, (values, _), _ = seen
    above = values[values > found.point.tolerance]
    true = float(values[-1] / above[0])
    assert found.condition.low <= true * 1.001
    assert true <= found.condition.high * 1.001
    assert found.condition.value == found.condition.low


def test_rows_are_the_eigenvalues_of_each_layers_own_block(seen):
    case, found, dense, (_, vectors), slope = seen
    start = 0
    assert [row.name for row in found.layers] == ["0", "2", "4"]
    for row, layer in zip(found.layers, [case.model[0], case.model[2], case.model[4]], strict=True):
        end = start + sum(p.numel() for p in layer.parameters())
        block = torch.linalg.eigvalsh(dense[start:end, start:end])
        assert row.parameters == end - start
        assert row.sharpness.value == pytest.approx(float(block[-1]), rel=2e-3)
        assert row.share == pytest.approx(float(vectors[start:end, -1].square().sum()), abs=0.02)
        assert row.gradient_norm == pytest.approx(float(slope[start:end].norm()))
        start = end
    assert sum(share.share for share in found.top) == pytest.approx(1.0)


def test_the_step_gains_in_the_model_what_is_said_and_in_the_loss_too(seen):
    case, found, dense, _, slope = seen
    reach = reach_of(Dense(dense), slope, found.point.tolerance)
    assert found.point.distance == pytest.approx(float(reach.step.norm()), rel=1e-6)
    model = -float(slope @ reach.step + 0.5 * reach.step @ dense @ reach.step)
    assert found.point.gain == pytest.approx(model, rel=1e-6)
    moved = copy.deepcopy(case.model)
    start = nn.utils.parameters_to_vector(moved.parameters())
    nn.utils.vector_to_parameters(start + reach.step, moved.parameters())
    lower = found.loss - F.cross_entropy(moved(case.x), case.y).item()
    assert found.point.taken == pytest.approx(lower, rel=1e-6)


def test_the_step_is_the_newton_step_where_the_space_is_whole():
    draws = torch.Generator().manual_seed(0)
    A = torch.randn(6, 6, generator=draws, dtype=DOUBLE)
    A, g = A + A.T, torch.randn(6, generator=draws, dtype=DOUBLE)
    values, vectors = torch.linalg.eigh(A)
    expected = -vectors @ ((vectors.T @ g) / values.abs())
    step = reach_of(Dense(A), g, 1e-6).step
    assert torch.allclose(step, expected, rtol=1e-8)


def test_the_learning_rate_is_measured_against_two_over_the_sharpness(seen):
    _, found, _, (values, _), _ = seen
    assert found.descent_limit.value == pytest.approx(2 / float(values[-1]), rel=2e-3)
    assert found.stability.limit.value == pytest.approx(2 / float(values[-1]), rel=2e-3)
    assert found.stability.ratio.value == pytest.approx(0.3 * float(values[-1]) / 2, rel=2e-3)
    assert found.optimal_rate is None
    assert "negative" in found.missing["optimal_rate"]


def test_noise_is_that_of_single_samples(seen):
    case, found, _, _, _ = seen
    each = sample_gradients(case)
    spread = float(each.var(0).sum())
    signal = float(each.mean(0).square().sum()) - spread / len(each)
    if signal <= 0:
        assert "cannot be told from zero" in found.missing["noise"]
    else:
        assert found.noise.value == pytest.approx(spread / signal, rel=1e-6)


def test_it_goes_through_json_and_back(seen):
    _, found, *_ = seen
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Inspection.from_dict(record) == found


def test_text_has_an_answer_to_each_question(seen):
    text = str(seen[1])
    for question in ("Is the learning rate too high?", "Is this a minimum?", "What would help?"):
        answer = text.split(question)[1].strip().splitlines()[0]
        assert len(answer) > 20


def test_the_same_seed_gives_the_same_numbers():
    case = network()
    trained(case, 5)
    first, second = (inspect(case.closure(), seed=4) for _ in range(2))
    assert first.to_dict() | {"seconds": 0.0} == second.to_dict() | {"seconds": 0.0}


def test_preconditioned_sharpness_is_that_of_the_dense_matrix():
    case = network()
    adam = torch.optim.Adam(case.model.parameters(), lr=0.01)
    closure = case.closure()
    for _ in range(30):
        adam.step(closure)
    value, _, params = case.seen()
    dense = hessian(value, params)
    second = torch.cat([adam.state[p]["exp_avg_sq"].reshape(-1) for p in case.model.parameters()])
    root = ((second / (1 - 0.999**30)).sqrt() + 1e-8).rsqrt()
    true = float(torch.linalg.eigvalsh(root[:, None] * dense * root)[-1])
    used = inspect(case.closure(), optimizer=adam).stability
    assert used.preconditioned
    assert used.sharpness.value == pytest.approx(true, rel=5e-3)
    assert used.ratio.value == pytest.approx(0.01 * true / 38, rel=5e-3)
    assert used.limit.value == pytest.approx(38 / true, rel=5e-3)
    assert "λ_max" in used.formula or "38" not in used.formula


def function(fn, *start):
    x = torch.tensor(start, dtype=DOUBLE, requires_grad=True)
    return inspect(Objective.of(fn), x)


@pytest.mark.parametrize(
    ("fn", "start", "kind"),
    [
        (lambda x: x[0] ** 2 + 3 * x[1] ** 2, (1e-9, 0.0), "minimum"),
        (lambda x: x[0] ** 2 + 3 * x[1] ** 2 + 7.0, (1e-9, 0.0), "minimum"),
        (lambda x: x[0] ** 2 - 3 * x[1] ** 2, (0.0, 1e-5), "saddle"),
        (lambda x: -(x[0] ** 2) - x[1] ** 2, (0.0, 0.0), "maximum"),
        (lambda x: x[0] ** 2 + 3 * x[1] ** 2, (0.5, 0.5), "not a critical point"),
        (lambda x: 2.0 + 1e-9 * torch.tanh(x[0] + x[1]), (0.3, 0.5), "plateau"),
        (lambda x: 1.0 + x[0] - x[1], (0.0, 0.0), "not a critical point"),
        (lambda x: x[0] ** 4 + x[1] ** 2, (0.0, 0.0), "minimum"),
        (lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, (1.0, 1.0), "minimum"),
        (lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, (-1.0, 1.0), "not a critical"),
    ],
)
def test_kinds_of_points(fn, start, kind):
    assert function(fn, *start).point.kind.startswith(kind)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_kind_does_not_depend_on_the_unit_of_the_loss(scale):
    near = function(lambda x: scale * (x[0] ** 2 - 3 * x[1] ** 2), 0.0, 1e-5)
    far = function(lambda x: scale * (5 + x[0] ** 2 - 3 * x[1] ** 2), 0.3, 1.0)
    assert (near.point.kind, far.point.kind) == ("saddle", "not a critical point")


def test_an_all_positive_spectrum_has_a_best_rate_and_a_condition_number():
    found = function(lambda x: 0.5 * x[0] ** 2 + 5 * x[1] ** 2, 1.0, 1.0)
    assert found.optimal_rate.value == pytest.approx(2 / 11)
    assert found.condition.value == pytest.approx(10.0)
    assert found.descent_limit.value == pytest.approx(0.2)


def test_nothing_curves_up():
    found = function(lambda x: -(x[0] ** 2), 0.0, 0.0)
    assert found.descent_limit is None
    assert "No direction curves up" in found.missing["descent_limit"]
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_no_objective_or_loader_is_refused():
    case = network()
    with pytest.raises(TypeError, match="Objective is needed"):
        inspect(case.model, [])
    with pytest.raises(TypeError, match="batches are needed"):
        inspect(case.objective())
    with pytest.raises(TypeError, match="pass no loader"):
        inspect(case.closure(), [(case.x, case.y)])
    with pytest.raises(ValueError, match="tolerance"):
        inspect(case.closure(), tolerance=0.0)


def test_the_random_state_is_left_alone_with_dropout():
    model = nn.Sequential(nn.Linear(10, 20), nn.Dropout(0.5), nn.Linear(20, 4))
    objective = Objective(model, F.cross_entropy)
    batch = torch.randn(8, 10), torch.zeros(8, dtype=torch.long)
    with untouched(model):
        inspect(objective, [batch])


def test_an_end_that_was_missed_is_looked_for_again():
    """Few products can settle on a neighbour; the density's nodes tell."""
    from thalweg.curvature.dense import Dense
    from thalweg.curvature.eigen import eigsh
    from thalweg.curvature.spectrum import _confirmed

    generator = torch.Generator().manual_seed(0)
    values = torch.cat([torch.tensor([10.0, 9.0]), torch.linspace(-1, 1, 598)]).double()
    basis = torch.linalg.qr(torch.randn(600, 600, generator=generator).double())[0]
    operator = Dense(basis @ torch.diag(values) @ basis.T, symmetric=True)
    true = eigsh(operator, 1, "LA")
    second = dataclasses.replace(true, values=true.values - 1.0)  # as if the neighbour was found
    found = _confirmed(operator, second, "LA", 9.99, 0)
    assert abs(float(found.values[0]) - 10.0) < 1e-3
    assert _confirmed(operator, found, "LA", 9.99, 0) is found
