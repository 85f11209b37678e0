"""Directions: normalisations by their definition, output units of every layer, given vectors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import Hessian
from thalweg.landscape import (
    axes_along,
    axes_through,
    hessian_axes,
    normalised,
    plane,
    random_axes,
    state_vector,
)
from thalweg.objective import Objective
from unit.landscape.networks import classifier, drawn, perceptron


def closure_of(model):
    """A closure of a model that is not evaluated."""
    return Objective(model, F.mse_loss).closure(torch.zeros(1), torch.zeros(1))


def parts(model, normalisation="filter", **options):
    closure = closure_of(model)
    axes = random_axes(closure, normalisation, **options)
    return dict(zip(closure.names, axes.directions[0], strict=True))


def lengths(tensor, *dims):
    return tensor.double().square().sum(dim=dims).sqrt()


UNITS = [
    (nn.Linear(5, 3), (1,)),
    (nn.Conv1d(2, 3, 4), (1, 2)),
    (nn.Conv2d(4, 6, 3, groups=2), (1, 2, 3)),
    (nn.Conv3d(1, 2, 2), (1, 2, 3, 4)),
    (nn.ConvTranspose1d(2, 5, 3), (0, 2)),
    (nn.ConvTranspose2d(2, 5, 3), (0, 2, 3)),
    (nn.ConvTranspose3d(2, 5, 3), (0, 2, 3, 4)),
    (nn.Embedding(7, 4), (1,)),
    (nn.Bilinear(3, 2, 4), (1, 2)),
]


@pytest.mark.parametrize(("layer", "dims"), UNITS, ids=lambda case: type(case).__name__)
def test_each_output_unit_has_the_norm_of_its_weights(layer, dims):
    weight = parts(layer)["weight"]
    torch.testing.assert_close(lengths(weight, *dims), lengths(layer.weight.detach(), *dims))
    # One norm for the whole tensor would not do it.
    whole = parts(layer, "layer")["weight"]
    assert not torch.allclose(lengths(whole, *dims), lengths(layer.weight.detach(), *dims))
    torch.testing.assert_close(whole.norm(), layer.weight.detach().norm())


def test_a_grouped_transposed_convolution_has_its_outputs_group_by_group():
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)  # weight (4, 3, 3, 3): 2 groups of 2 -> 3
    weight = parts(layer)["weight"]
    for group in range(2):
        rows = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(
            lengths(weight[rows], 0, 2, 3), lengths(layer.weight.detach()[rows], 0, 2, 3)
        )


def test_a_unit_is_what_produces_one_output():
    """Scaling the weights of one output scales that unit of the direction alone."""
    for layer, x, axis in [
        (nn.Linear(5, 3, bias=False), torch.randn(2, 5), 1),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), torch.randn(2, 4, 5, 5), 1),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), torch.randn(2, 4, 5, 5), 1),
    ]:
        before = parts(layer)["weight"]
        units = layer(x).shape[axis]
        for unit in range(units):
            gradient = torch.autograd.grad(layer(x).select(axis, unit).sum(), layer.weight)[0]
            scaled = copy.deepcopy(layer)
            with torch.no_grad():
                scaled.weight[gradient != 0] *= 3.0
            after = parts(scaled)["weight"]
            used = gradient != 0
            torch.testing.assert_close(after[used], 3.0 * before[used])
            torch.testing.assert_close(after[~used], before[~used])


def test_biases_and_normalisation_parameters_stay_unless_asked():
    model = nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.PReLU()
    )
    zero = parts(model)
    assert [name for name, part in zero.items() if not part.any()] == [
        "0.bias",
        "1.weight",
        "1.bias",
        "2.weight",
        "2.bias",
        "3.weight",
        "3.bias",
    ]
    moved = parts(model, biases="random", norms="random")
    assert moved["0.bias"].norm() == pytest.approx(float(model[0].bias.detach().norm()), rel=1e-5)
    assert moved["1.weight"].norm() == pytest.approx(3**0.5, rel=1e-5)
    assert moved["1.weight"].std() > 0  # random, and not the weights themselves
    assert not moved["1.bias"].any()  # a fresh bias is zero, and so is its share


def test_a_recurrent_network_and_attention_have_biases_too():
    model = nn.LSTM(3, 4)
    zero = parts(model)
    assert not zero["bias_ih_l0"].any()
    held = model.weight_hh_l0.detach()
    torch.testing.assert_close(lengths(zero["weight_hh_l0"], 1), lengths(held, 1))
    attention = parts(nn.MultiheadAttention(4, 2, add_bias_kv=True))
    assert not attention["in_proj_bias"].any()
    assert not attention["bias_k"].any()
    assert attention["in_proj_weight"].any()


def test_shared_weights_are_one_parameter():
    embedding, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head)
    closure = Objective(model, F.cross_entropy).closure(torch.arange(7), torch.arange(7))
    axes = random_axes(closure)
    assert len(axes.directions[0]) == 1
    surface = plane(closure, axes, resolution=3, progress=False)
    for along, found in zip(surface.x, surface.loss[0], strict=True):
        moved = axes.at(float(along), -1.0)[0]
        expected = F.cross_entropy(moved @ moved.T, torch.arange(7))
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_units_without_weights_or_without_direction_stay():
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight[1] = 0.0
    weight = parts(layer)["weight"]
    assert weight.isfinite().all()
    assert not weight[1].any()
    with pytest.raises(ValueError, match="not zero everywhere"):
        random_axes(closure_of(nn.LayerNorm(3)))


def test_the_other_normalisations_are_what_they_say():
    model = perceptron(5, 4, 3, bias=False)
    norm = float(closure_of(model).params.detach().norm())
    drawn_ = parts(model, "none")
    for name, p in model.named_parameters():
        torch.testing.assert_close(parts(model, "weight")[name], drawn_[name] * p.detach())
    for name, length in (("model", norm), ("unit", 1.0)):
        axes = random_axes(closure_of(model), name)
        assert float(axes.directions[0].norm()) == pytest.approx(length, rel=1e-6)
    entries = torch.cat([part.reshape(-1) for part in drawn_.values()])
    assert abs(float(entries.mean())) < 0.4
    assert 0.6 < float(entries.std()) < 1.4


def test_a_seed_means_a_direction_and_global_randomness_is_left_alone():
    closure = closure_of(nn.Linear(9, 9))
    state = torch.get_rng_state()
    first, again = random_axes(closure, seed=1), random_axes(closure, seed=1)
    other = random_axes(closure, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.directions[1][0], again.directions[1][0])
    assert not torch.equal(first.directions[0][0], other.directions[0][0])
    assert not torch.equal(first.directions[0][0], first.directions[1][0])


def test_the_norms_are_those_of_the_centre():
    closure = closure_of(nn.Linear(4, 3, bias=False))
    centre = torch.arange(12.0)
    direction = random_axes(closure, centre=centre).directions[0][0]
    torch.testing.assert_close(lengths(direction, 1), lengths(centre.view(3, 4), 1))


def test_the_output_axis_of_the_users_own_module_can_be_said():
    class Columns(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(4, 3))

    model = Columns()
    torch.testing.assert_close(
        lengths(parts(model)["matrix"], 1), lengths(model.matrix.detach(), 1)
    )
    columns = parts(model, output_axes={"matrix": 1})["matrix"]
    torch.testing.assert_close(lengths(columns, 0), lengths(model.matrix.detach(), 0))
    with pytest.raises(ValueError, match="names of parameters, such as 'matrix'"):
        parts(model, output_axes={"martix": 1})
    with pytest.raises(ValueError, match="a dimension of matrix"):
        parts(model, output_axes={"matrix": 2})


def test_a_given_direction_can_be_normalised():
    closure = closure_of(nn.Linear(4, 3))
    given = closure.params.map(torch.ones_like)
    weight, bias = normalised(closure, given)
    torch.testing.assert_close(lengths(weight, 1), lengths(closure.params[0].detach(), 1))
    assert float(bias.norm()) == pytest.approx(float(closure.params[1].detach().norm()), rel=1e-6)


def test_eigenvectors_are_those_of_the_dense_hessian():
    model = perceptron(4, 3, 2).double()
    x, y = drawn(20, 4, 2)
    closure = Objective(model, F.cross_entropy).closure(x.double(), y)
    values, vectors = torch.linalg.eigh(Hessian(closure).to_dense())
    axes = hessian_axes(closure, "BE", tol=1e-6)
    for direction, column in zip(axes.directions, (-1, 0), strict=True):
        flat = direction.flatten().flat
        assert abs(float(flat @ vectors[:, column])) == pytest.approx(1.0, abs=1e-5)
    found = axes.meta["eigenvalues"]
    assert found == pytest.approx([float(values[-1]), float(values[0])], rel=1e-5)
    assert "λ = " in axes.labels[0]


def test_eigenvectors_at_another_centre_leave_the_model_where_it_is():
    model = perceptron(4, 3, 2)
    closure = classifier(model, width=4, classes=2)
    before = copy.deepcopy(model.state_dict())
    centre = closure.params.clone() * 2.0
    there = hessian_axes(closure, count=1, centre=centre)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    here = hessian_axes(closure, count=1)
    assert abs(float(there.directions[0].dot(here.directions[0]))) == pytest.approx(1.0, abs=1e-3)


def test_the_state_of_an_optimizer_is_a_direction():
    model = perceptron(6, 4, 3)
    closure = classifier(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.step(closure)
    moment = state_vector(closure, optimizer, "exp_avg")
    for part, p in zip(moment, closure.params, strict=True):
        assert torch.equal(part, optimizer.state[p]["exp_avg"])
    kept = moment[0].clone()
    optimizer.step(closure)
    assert torch.equal(kept, moment[0])
    axes = axes_along(closure, moment, state_vector(closure, optimizer, "exp_avg_sq"))
    assert axes.meta == {"kind": "given"}
    with pytest.raises(ValueError, match=r"there are \['exp_avg', 'exp_avg_sq', 'step'\]"):
        state_vector(closure, optimizer, "momentum")


def test_weights_may_be_models_and_state_dicts():
    a, b = perceptron(6, 4, 3), perceptron(6, 4, 3)
    closure = classifier(a)
    axes = axes_through(closure, a, b.state_dict())
    for part, p in zip(axes.at(1.0), b.parameters(), strict=True):
        torch.testing.assert_close(part, p.detach())


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([torch.zeros(2)], "two or three"),
        ([torch.zeros(2), torch.zeros(2)], "not zero everywhere"),
        ([torch.zeros(2), torch.ones(2), 2 * torch.ones(2)], "not (parallel|zero)"),
        ([torch.zeros(3), torch.ones(2)], "flat tensor of 2 entries"),
    ],
)
def test_points_that_make_no_axes_are_refused(points, message):
    x = torch.zeros(2, requires_grad=True)
    closure = Objective.of(lambda x: x.sum()).closure(x)
    with pytest.raises(ValueError, match=message):
        axes_through(closure, *points)
