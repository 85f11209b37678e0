"""Gathered statistics are those of the data; nothing stays changed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.landscape.batch_norm import batch_statistics, bound_to, recalibrated
from thalweg.objective import Objective
from thalweg.problems.residual import ResidualNetwork


def network():
    return nn.Sequential(
        nn.Linear(5, 7),
        nn.BatchNorm1d(7),
        nn.Tanh(),
        nn.Linear(7, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Linear(6, 3),
    ).double()


def batches(*sizes):
    return [(torch.randn(n, 5, dtype=torch.float64), torch.randint(0, 3, (n,))) for n in sizes]


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_the_statistics_are_the_mean_and_the_variance_of_all_samples():
    model = network().eval()
    data = batches(4, 9, 2)
    x = torch.cat([x for x, _ in data])
    with recalibrated(Objective(model, F.cross_entropy).over(data)):
        first = model[0](x)
        torch.testing.assert_close(model[1].running_mean, first.mean(0))
        torch.testing.assert_close(model[1].running_var, first.var(0))


def test_later_layers_see_batches_normalised_by_themselves():
    model = network().eval()
    data = batches(4, 9)
    with recalibrated(Objective(model, F.cross_entropy).over(data)):
        second = []
        for x, _ in data:
            h = model[0](x)
            h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
            h = h * model[1].weight + model[1].bias
            second.append(model[3](torch.tanh(h)))
        second = torch.cat(second)
        torch.testing.assert_close(model[4].running_mean, second.mean(0))
        torch.testing.assert_close(model[4].running_var, second.var(0))


def test_exactly_the_same_whatever_the_batches():
    model = network().eval()
    data = batches(4, 9, 1)
    whole = [(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))]
    found = []
    for loader in (data, whole):
        with recalibrated(Objective(model, F.cross_entropy).over(loader), exact=True):
            found.append(copy.deepcopy(model.state_dict()))
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])
    # The second layer's input comes from a first layer that normalises by all data.
    h = whole[0][0] @ model[0].weight.T + model[0].bias
    h = (h - h.mean(0)) / (h.var(0) + 1e-5).sqrt()
    h = model[3](torch.tanh(h * model[1].weight + model[1].bias))
    torch.testing.assert_close(found[0]["4.running_mean"], h.mean(0))
    torch.testing.assert_close(found[0]["4.running_var"], h.var(0))


def test_on_one_batch_it_is_torchs_own_update():
    model = ResidualNetwork((4, 8), 1, 3, projected=True)
    x, y = torch.randn(6, 3, 8, 8), torch.randint(0, 3, (6,))
    reference = copy.deepcopy(model)
    for m in reference.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    reference.train()(x)
    with recalibrated(Objective(model.eval(), F.cross_entropy).closure(x, y)):
        for name, buffer in model.named_buffers():
            if "running" in name:
                torch.testing.assert_close(buffer, reference.get_buffer(name))


def test_at_other_weights_and_on_other_data():
    model, other = network().eval(), network()
    data, more = batches(6), batches(5, 3)
    closure = Objective(model, F.cross_entropy).over(data)
    with recalibrated(closure, flat(other), data=more):
        first = other[0](torch.cat([x for x, _ in more]))
        torch.testing.assert_close(model[1].running_mean, first.mean(0))
        value = closure.value(flat(other))
    for layer in (1, 4):
        assert torch.equal(model[layer].running_mean, torch.zeros_like(model[layer].running_mean))
    assert value != closure.value(flat(other))


@pytest.mark.parametrize("exact", [False, True])
def test_nothing_stays_changed_also_after_an_error(exact):
    model = network()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    closure = Objective(model, F.cross_entropy).over(batches(4, 4))
    random = torch.get_rng_state()
    for error in (None, RuntimeError):
        try:
            with recalibrated(closure, exact=exact):
                assert not model[4].training
                if error:
                    raise error
        except RuntimeError:
            pass
        with batch_statistics(closure):
            closure.value()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_batch_of_one_is_refused_in_words():
    model = network().eval()
    closure = Objective(model, F.cross_entropy).over(batches(4, 1))
    with pytest.raises(ValueError, match="single value a channel"), recalibrated(closure):
        pass
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm1d))


def test_a_layer_used_twice_pools_both_uses():
    norm = nn.BatchNorm1d(5).double()
    model = nn.Sequential(norm, nn.Linear(5, 5).double(), norm).eval()
    (x, y) = batches(8)[0]
    for exact in (False, True):
        with recalibrated(Objective(model, F.cross_entropy).closure(x, y), exact=exact):
            assert not torch.allclose(norm.running_mean, x.mean(0))


def test_batch_statistics_are_those_of_training():
    model = network().eval()
    (x, y) = batches(8)[0]
    closure = Objective(model, F.cross_entropy).closure(x, y)
    with batch_statistics(closure):
        value = closure.value()
    torch.testing.assert_close(value, F.cross_entropy(copy.deepcopy(model).train()(x), y).detach())


def test_a_function_has_no_layers():
    x = torch.ones(2, requires_grad=True)
    closure = Objective.of(lambda x: x.sum()).closure(x)
    with recalibrated(closure), batch_statistics(closure):
        assert closure.value() == 2
    with pytest.raises(TypeError, match="plain function"):
        bound_to(closure, [x])
