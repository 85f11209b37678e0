"""Every way of evaluating gives the same numbers, and leaves the model as it was."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.landscape import line, plane, random_axes
from thalweg.objective import Objective
from unit.landscape.networks import classifier, drawn, images, perceptron


def convolutional(norm=True, dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(36, 3),
    )


def on_images(model, batches=1):
    x, y = images(), torch.arange(12) % 3
    objective = Objective(model, F.cross_entropy)
    if batches == 1:
        return objective.closure(x, y)
    return objective.over(list(zip(x.split(5), y.split(5), strict=True)))


def by_hand(closure, axes, surface):
    """Each value from the closure itself, which evaluates without touching the model."""
    return np.array([[float(closure.value(axes.at(a, b))) for a in surface.x] for b in surface.y])


class Bag(nn.Module):
    """An embedding, whose input is fixed, and a layer that uses the same table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.mix = nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(self.mix(self.table(x).mean(1))) @ self.table.weight.T


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("method", ["in-place", "first-layer", "vmap"])
def test_every_way_agrees_with_the_closure(method, batches):
    cases = [
        (classifier(perceptron(6, 8, 5, 3), batches=batches), 1e-5),
        (classifier(perceptron(6, 3), batches=batches), 1e-5),
        (on_images(convolutional(norm=False), batches), 1e-5),
        (on_images(convolutional().eval(), batches), 1e-5),
    ]
    for closure, tolerance in cases:
        surface = plane(
            closure, resolution=(5, 4), evaluation=method, metrics=["accuracy"], progress=False
        )
        assert surface.meta["evaluation"]["method"].startswith(method)
        expected = by_hand(closure, random_axes(closure), surface)
        np.testing.assert_allclose(surface.loss, expected, rtol=tolerance)


def test_double_precision_agrees_to_its_last_digits():
    model = perceptron(6, 8, 5, 3).double()
    x, y = drawn(40, 6, 3)
    closure = Objective(model, F.cross_entropy).closure(x.double(), y)
    expected = None
    for method in ("in-place", "first-layer", "vmap"):
        surface = plane(closure, resolution=7, evaluation=method, progress=False)
        expected = surface.loss if expected is None else expected
        np.testing.assert_allclose(surface.loss, expected, rtol=1e-12)


def test_an_embedding_is_reused_and_a_shared_table_still_moves():
    model = Bag()
    closure = Objective(model, F.cross_entropy).closure(
        torch.arange(18).view(6, 3) % 9, torch.arange(6)
    )
    surface = plane(closure, resolution=4, evaluation="first-layer", progress=False)
    np.testing.assert_allclose(
        surface.loss, by_hand(closure, random_axes(closure), surface), rtol=1e-5
    )


def test_a_loss_that_reads_the_first_layer_is_not_fooled():
    """The weights of a reused layer may be left behind only where nobody looks at them."""
    model = perceptron(6, 8, 3)

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets) + model[0].weight.square().sum()

    x, y = drawn(40, 6, 3)
    closure = Objective(model, loss).closure(x, y)
    surface = plane(closure, resolution=4, evaluation="first-layer", progress=False)
    direct = plane(closure, resolution=4, evaluation="in-place", progress=False)
    np.testing.assert_allclose(surface.loss, direct.loss, rtol=1e-5)


def test_a_layer_whose_input_moves_is_not_reused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(6))
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            return self.layer(x * self.scale)

    closure = classifier(Scaled())
    with pytest.raises(ValueError, match="no layer is affine with an input that is the same"):
        plane(closure, resolution=3, evaluation="first-layer", progress=False)
    surface = plane(closure, resolution=9, progress=False)
    assert "first-layer" not in surface.meta["evaluation"]["milliseconds_a_point"]


def test_a_layer_with_a_hook_is_not_reused():
    model = perceptron(6, 3)
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    closure = classifier(model)
    surface = plane(closure, resolution=9, progress=False)
    assert seen
    assert "first-layer" not in surface.meta["evaluation"]["milliseconds_a_point"]
    np.testing.assert_allclose(
        surface.loss, by_hand(closure, random_axes(closure), surface), rtol=1e-5
    )


def test_what_cannot_be_batched_falls_back():
    def looks(outputs, targets):
        return float(outputs.sum())  # a number: vmap refuses

    closure = classifier(perceptron(6, 3))
    surface = plane(closure, resolution=8, metrics={"looks": looks}, progress=False)
    assert np.isfinite(surface.metrics["looks"]).all()
    with pytest.raises(ValueError, match=r"evaluation='vmap'.*cannot be used here \(vmap of"):
        plane(closure, resolution=8, metrics={"looks": looks}, evaluation="vmap")


def test_the_choice_is_written_down():
    surface = plane(classifier(perceptron(6, 8, 3)), resolution=9, progress=False)
    choice = surface.meta["evaluation"]
    assert set(choice["milliseconds_a_point"]) >= {"in-place", "first-layer"}
    assert choice["method"] in choice["milliseconds_a_point"]


def test_dropout_draws_the_same_at_every_point():
    model = convolutional(norm=False, dropout=0.5).train()
    closure = on_images(model, batches=3)
    surface = plane(closure, resolution=4, progress=False)
    assert surface.meta["random"]
    assert surface.meta["mode"] == "training"
    np.testing.assert_allclose(
        surface.loss, by_hand(closure, random_axes(closure), surface), rtol=1e-5
    )
    again = plane(closure, resolution=4, progress=False)
    np.testing.assert_array_equal(again.loss, surface.loss)
    eval_ = plane(on_images(model.eval()), resolution=4, progress=False)
    assert not eval_.meta["random"]
    assert abs(eval_.loss - surface.loss).max() > 1e-3


def test_batch_norm_in_training_mode_uses_each_batch_and_moves_nothing():
    model = convolutional().train()
    closure = on_images(model, batches=3)
    before = copy.deepcopy(model.state_dict())
    surface = plane(closure, resolution=4, progress=False)
    assert surface.meta["batchnorm"] == "statistics of each batch (training mode)"
    np.testing.assert_allclose(
        surface.loss, by_hand(closure, random_axes(closure), surface), rtol=1e-5
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_recalibrated_statistics_are_those_of_the_point():
    model = convolutional().eval()
    closure = on_images(model, batches=2)
    axes = random_axes(closure)
    kept = plane(closure, axes, resolution=3, progress=False)
    anew = plane(closure, axes, resolution=3, batchnorm="recalibrated", progress=False)
    assert "gathered anew" in anew.meta["batchnorm"]
    assert abs(kept.loss - anew.loss).max() > 0.01
    # By hand: all images through the convolution at the point, their mean and variance.
    point = dict(zip(closure.names, axes.at(1.0, -1.0), strict=True))
    h = F.conv2d(images(), point["0.weight"], point["0.bias"], padding=1)
    variance, mean = torch.var_mean(h, (0, 2, 3))
    h = F.batch_norm(h, mean, variance, point["1.weight"], point["1.bias"])
    z = F.linear(F.max_pool2d(h.relu(), 2).flatten(1), point["6.weight"], point["6.bias"])
    expected = F.cross_entropy(z, torch.arange(12) % 3)
    assert anew.loss[0, 2] == pytest.approx(float(expected), rel=1e-5)


def test_a_module_that_moves_its_buffers_is_one_function():
    model = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 3)
    ).train()
    closure = classifier(model)
    before = copy.deepcopy(model.state_dict())
    forth = line(closure, resolution=7, progress=False)
    back = line(closure, resolution=7, span=(-1.0, 1.0), progress=False)
    np.testing.assert_array_equal(forth.loss, back.loss)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def state_of(model):
    return {
        "values": copy.deepcopy(model.state_dict()),
        "memory": [p.data_ptr() for p in model.parameters()],
        "identity": [id(p) for p in model.parameters()],
        "buffers": [id(b) for b in model.buffers()],
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "wanted": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "forward": ["forward" in m.__dict__ for m in model.modules()],
        "hooks": [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()],
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()),
    }


def assert_same(before, after):
    for name, value in before["values"].items():
        assert torch.equal(value, after["values"][name]), name
    for a, b in zip(before["grad"], after["grad"], strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    for name in ("memory", "identity", "buffers", "wanted", "modes", "forward", "hooks"):
        assert before[name] == after[name], name
    assert torch.equal(before["random"][0], after["random"][0])
    assert before["random"][1] == after["random"][1]
    np.testing.assert_array_equal(before["random"][2], after["random"][2])


def mixed_up():
    """A model with something of everything that could be left behind."""
    model = convolutional(dropout=0.3).train()
    model[1].eval()
    model[6].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resolution": 9},
        {"batchnorm": "recalibrated"},
        {"metrics": ["accuracy", "gradient_norm", "convexity"], "resolution": 2},
        {"span": "auto"},
        {"directions": "hessian"},
    ],
    ids=str,
)
def test_nothing_of_the_model_changes(options):
    model = mixed_up()
    closure = on_images(model, batches=2)
    before = state_of(model)
    plane(closure, progress=False, **{"resolution": 3, **options})
    assert_same(before, state_of(model))


class Stop(BaseException):
    """As Ctrl-C is."""


@pytest.mark.parametrize("after", [1, 4, 30])
@pytest.mark.parametrize("error", [Stop, RuntimeError])
def test_nothing_changes_when_it_breaks_in_the_middle(after, error):
    model = mixed_up()
    calls = []

    def breaks(outputs, targets):
        calls.append(1)
        random.random()
        np.random.rand()
        if len(calls) >= after:
            raise error("now")
        return outputs.sum()

    closure = on_images(model, batches=2)
    before = state_of(model)
    with pytest.raises(error, match="now"):
        plane(closure, resolution=5, metrics={"m": breaks}, progress=False)
    assert_same(before, state_of(model))


def test_training_goes_on_as_if_nothing_had_been_measured():
    def train(look):
        torch.manual_seed(0)
        model = convolutional(dropout=0.3).train()
        closure = on_images(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(4):
            if look:
                plane(closure, resolution=3, progress=False)
            optimizer.zero_grad()
            F.cross_entropy(model(images()), torch.arange(12) % 3).backward()
            optimizer.step()
        return model.state_dict()

    plain, watched = train(False), train(True)
    for name, value in plain.items():
        assert torch.equal(value, watched[name]), name


def test_half_precision_moves_in_single_precision():
    model = perceptron(6, 8, 3).to(torch.bfloat16)
    x, y = drawn(40, 6, 3)
    closure = Objective(model, F.cross_entropy).closure(x.to(torch.bfloat16), y)
    surface = plane(closure, resolution=3, evaluation="in-place", progress=False)
    single = perceptron(6, 8, 3)
    single.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    there = plane(Objective(single, F.cross_entropy).closure(x, y), resolution=3, progress=False)
    np.testing.assert_allclose(surface.loss, there.loss, rtol=0.05)


def test_a_loader_is_read_once():
    reads = []

    def loader():
        reads.append(1)
        x, y = drawn(40, 6, 3)
        yield from zip(x.split(16), y.split(16), strict=True)

    risk = Objective(perceptron(6, 3), F.cross_entropy).over(loader())
    plane(risk, resolution=5, progress=False)
    assert len(reads) == 1
