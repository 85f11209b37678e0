"""Planes and lines against functions that are known, and against evaluation point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.errors import NonFiniteError
from thalweg.landscape import AutoSpan, Axes, axes_along, axes_through, line, plane, random_axes
from thalweg.objective import Objective
from thalweg.vectors import Vector
from unit.landscape.networks import classifier, drawn, perceptron


def of(function, n=2):
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    return Objective.of(function).closure(x)


def test_a_linear_function_shows_which_axis_is_which():
    closure = of(lambda v: 10 * v[0] + v[1])
    surface = plane(
        closure, "coordinates", resolution=(4, 3), span=((-1.0, 2.0), (0.0, 5.0)), progress=False
    )
    assert surface.loss.shape == (3, 4)
    np.testing.assert_array_equal(surface.x, np.linspace(-1, 2, 4))
    np.testing.assert_array_equal(surface.y, np.linspace(0, 5, 3))
    np.testing.assert_allclose(surface.loss, 10 * surface.x + surface.y[:, None], atol=1e-12)
    assert surface.labels == ("θ1", "θ2")
    assert surface.computed.all()


def test_a_quadratic_along_oblique_axes_is_exact():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix = root @ root.T
    centre, first, second = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    closure = of(lambda v: v @ matrix @ v / 2, 7)
    surface = plane(
        closure, [first, second], resolution=(9, 6), span=(2.0, 0.5), centre=centre, progress=False
    )
    for i, b in enumerate(surface.y):
        for j, a in enumerate(surface.x):
            v = centre + a * first + b * second
            assert surface.loss[i, j] == pytest.approx(float(v @ matrix @ v / 2), rel=1e-12)
    assert surface.meta["cosine"] == pytest.approx(
        float(first @ second / first.norm() / second.norm())
    )


def test_a_line_through_two_weights_ends_at_them():
    closure = classifier(perceptron(6, 5, 3))
    a, b = (v.flatten().flat for v in (closure.params, closure.params * 3))
    found = line(closure, axes_through(closure, a, b), resolution=5, span=(0.0, 1.0))
    expected = [float(closure.value(a + t * (b - a))) for t in np.linspace(0, 1, 5)]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    assert found.label == "A to B"


def test_the_plane_of_three_weights_holds_them():
    closure = classifier(perceptron(6, 5, 3))
    weights = [torch.randn(closure.params.numel()) for _ in range(3)]
    axes = axes_through(closure, *weights, labels=["a", "b", "c"])
    xy, residual = axes.project(weights)
    assert residual.max() < 1e-5
    np.testing.assert_allclose(xy[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(xy[1], [float((weights[1] - weights[0]).norm()), 0.0], atol=1e-4)
    assert abs(axes.cosine) < 1e-6
    assert float(axes.directions[1].norm()) == pytest.approx(1.0, rel=1e-6)
    surface = plane(closure, axes, resolution=3, paths={"corners": weights}, progress=False)
    (path,) = surface.paths
    for weight, loss in zip(weights, path.loss, strict=True):
        assert loss == pytest.approx(float(closure.value(weight)), rel=1e-5)
    (low_x, low_y), (high_x, high_y) = xy.min(axis=0), xy.max(axis=0)
    assert surface.x[0] < low_x
    assert surface.x[-1] > high_x
    assert surface.y[0] < low_y
    assert surface.y[-1] > high_y


def test_oblique_axes_project_by_least_squares():
    centre = Vector([torch.zeros(3, dtype=torch.float64)])
    first = Vector([torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)])
    second = Vector([torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)])
    axes = Axes(centre, (first, second), ("a", "b"))
    xy, residual = axes.project([torch.tensor([5.0, 3.0, 4.0]), torch.zeros(3)])
    np.testing.assert_allclose(xy, [[1.0, 3.0], [0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(residual, [4 / math.sqrt(50), 0.0])


@pytest.mark.parametrize("batches", [1, 3])
def test_metrics_come_from_the_same_pass_and_are_weighted_by_samples(batches):
    model = perceptron(6, 5, 3)
    closure = classifier(model, batches=batches)
    before = closure.ledger.forward

    def margin(outputs, targets):
        return outputs.max(1)[0].mean()

    metrics = {"right": "accuracy", "wrong": "error", "margin": margin}
    surface = plane(closure, resolution=4, metrics=metrics, evaluation="in-place", progress=False)
    assert list(surface.metrics) == ["loss", "right", "wrong", "margin"]
    assert closure.ledger.forward - before == 16 * batches
    axes = random_axes(closure)
    x, y = drawn(40, 6, 3)
    point = axes.at(surface.x[3], surface.y[0])
    outputs = torch.func.functional_call(model, dict(zip(closure.names, point, strict=True)), (x,))
    assert surface.loss[0, 3] == pytest.approx(float(F.cross_entropy(outputs, y)), rel=1e-5)
    right = float((outputs.argmax(1) == y).double().mean())
    assert surface.metrics["right"][0, 3] == pytest.approx(right)
    np.testing.assert_allclose(surface.metrics["wrong"], 1 - surface.metrics["right"])
    assert surface.metrics["margin"][0, 3] == pytest.approx(float(outputs.max(1)[0].mean()), 1e-5)


def test_a_summed_loss_is_summed_and_its_accuracy_is_a_mean():
    model = perceptron(6, 5, 3)
    x, y = drawn(40, 6, 3)
    loss = nn.CrossEntropyLoss(reduction="sum")
    objective = Objective(model, loss)
    whole = plane(objective.closure(x, y), resolution=3, metrics=["accuracy"], progress=False)
    parts = objective.over([(x[:30], y[:30]), (x[30:], y[30:])])
    split = plane(parts, resolution=3, metrics=["accuracy"], progress=False)
    np.testing.assert_allclose(split.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(split.metrics["accuracy"], whole.metrics["accuracy"])


def test_derivatives_on_the_grid():
    scale = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64)
    closure = of(lambda v: (scale * v.square()).sum() / 2 + v[0] ** 3, 3)
    axes = axes_along(closure, *torch.eye(3, dtype=torch.float64)[:2])
    names = ["gradient_norm", "lambda_max", "lambda_min", "convexity"]
    surface = plane(closure, axes, resolution=3, span=0.25, metrics=names, progress=False)
    curvature = 3.0 + 6.0 * surface.x
    np.testing.assert_allclose(surface.metrics["lambda_max"][1], curvature, rtol=1e-3)
    np.testing.assert_allclose(surface.metrics["lambda_min"], -1.0, rtol=1e-3)
    np.testing.assert_allclose(surface.metrics["convexity"][1], 1 / curvature, rtol=1e-3)
    slope = np.hypot(3 * surface.x + 3 * surface.x**2, -surface.y[:, None])
    np.testing.assert_allclose(surface.metrics["gradient_norm"], slope, atol=1e-12)


def test_nan_stays_nan():
    closure = of(lambda v: v[0].sqrt() + v[1])
    surface = plane(closure, "coordinates", resolution=5, span=1.0, progress=False)
    assert np.isnan(surface.loss[:, :2]).all()
    assert np.isfinite(surface.loss[:, 2:]).all()
    assert surface.computed.all()


def test_infinity_stays_infinite():
    closure = of(lambda v: 1 / v[0] + 0 * v[1])
    surface = plane(closure, "coordinates", resolution=3, span=1.0, progress=False)
    np.testing.assert_array_equal(surface.loss, [[-1.0, np.inf, 1.0]] * 3)


def test_logarithmic_spacing_is_symmetric_and_dense_at_the_centre():
    closure = of(lambda v: v.square().sum())
    surface = plane(
        closure,
        "coordinates",
        resolution=(9, 3),
        span=2.0,
        spacing=("log", "linear"),
        progress=False,
    )
    np.testing.assert_allclose(surface.x, [-2, -0.2, -0.02, -0.002, 0, 0.002, 0.02, 0.2, 2])
    with pytest.raises(ValueError, match="not symmetric"):
        line(closure, torch.ones(2), span=(0.0, 1.0), spacing="log")


def test_the_automatic_range_ends_where_the_loss_has_risen():
    closure = of(lambda v: 1 + v[0] ** 2 + 100 * v[1] ** 2)
    span = AutoSpan(factor=5.0, least=0.0)
    surface = plane(closure, "coordinates", resolution=3, span=span, progress=False)
    assert surface.x[-1] == pytest.approx(2.0, rel=0.06)
    assert surface.y[-1] == pytest.approx(0.2, rel=0.06)
    assert "5 times" in surface.meta["span"]
    with pytest.raises(NonFiniteError, match="loss at the centre is nan"):
        plane(of(lambda v: (v[0] - 1).sqrt() + v[1]), "coordinates", progress=False)


def test_a_range_is_found_where_the_loss_falls_on_both_sides():
    closure = of(lambda v: 1 - v[0] ** 2 + v[1] ** 2)
    surface = plane(closure, "coordinates", resolution=3, span=AutoSpan(2.0), progress=False)
    assert surface.x[-1] == pytest.approx(1.0, rel=0.06)


def test_what_a_caption_needs_is_in_meta():
    closure = classifier(perceptron(6, 5, 3), batches=3)
    meta = plane(closure, resolution=3, seed=7, progress=False).meta
    assert meta["kind"] == "random"
    assert meta["normalisation"] == "filter"
    assert meta["biases"] == meta["norm_parameters"] == "zero"
    assert meta["seed"] == 7
    assert meta["batchnorm"] == "the model has none"
    assert (meta["samples"], meta["batches"], meta["parameters"]) == (40, 3, 53)
    assert meta["centre"]["loss"] == pytest.approx(float(closure.value()), rel=1e-6)
    assert meta["evaluation"]["method"] == "in-place"
    assert abs(meta["cosine"]) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directions": "filtre"}, "Did you mean 'filter'"),
        ({"directions": torch.ones(53)}, "1 directions.*must be 2 directions"),
        ({"resolution": 1}, "an integer >= 2"),
        ({"resolution": 3.0}, "one int or a pair"),
        ({"span": (1.0, 2.0, 3.0)}, "span must be"),
        ({"span": ((1.0, -1.0), 2.0)}, "low < high"),
        ({"spacing": "cubic"}, "one of 'linear', 'log'"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'"),
        ({"metrics": "accuracy"}, "a list of names"),
        ({"metrics": {"loss": len}}, "others than the loss"),
        ({"batchnorm": "frozen"}, "one of 'kept', 'recalibrated'"),
        ({"evaluation": "fast"}, "one of 'auto'"),
        ({"centre": torch.zeros(3)}, "a flat tensor of 53 entries"),
        ({"paths": {"sgd": []}}, "recorded weights"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    closure = classifier(perceptron(6, 5, 3))
    with pytest.raises(ValueError, match=message):
        plane(closure, progress=False, **{"resolution": 3, **arguments})


def test_what_is_no_closure_is_refused():
    with pytest.raises(TypeError, match="pass objective"):
        plane(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="no outputs to measure"):
        plane(of(lambda v: v.sum()), "coordinates", metrics=["accuracy"])
