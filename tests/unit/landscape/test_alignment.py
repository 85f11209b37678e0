"""A renumbered network is the same function; copies are found again; wrong guesses are refused."""

import copy
from itertools import permutations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.landscape import PermutationSpec, align, interpolate
from thalweg.landscape.alignment_tracing import traced_spec
from thalweg.objective import Objective
from thalweg.problems.networks import cnn, image_cnn, perceptron
from thalweg.problems.residual import ResidualNetwork


class Wide(nn.Module):
    """Branches that are joined, a layer that runs twice, a gate, a functional flattening."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 3, padding=1)
        self.norm, self.prelu = nn.GroupNorm(1, 8), nn.PReLU(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.same = nn.Conv2d(8, 8, 1)
        self.gate = nn.Linear(8, 6)
        self.last, self.out = nn.Linear(8 * 9, 6), nn.Linear(6, 3)
        self.layer_norm = nn.LayerNorm(6)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = torch.cat([F.relu(self.one(x)), self.two(x)], dim=1)
        x = self.depth(self.prelu(self.norm(x)))
        x = F.relu(self.same(F.relu(self.same(x))))
        gate = torch.sigmoid(self.gate(x.mean((2, 3))))
        x = F.avg_pool2d(x, 2)
        x = self.layer_norm(self.last(x.reshape(x.shape[0], -1)))
        return self.out(2 * x * gate)


class Convolutions(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv1d(2, 6, 3, padding=1),
            nn.InstanceNorm1d(6, affine=True),
            nn.GELU(),
            nn.ConvTranspose1d(6, 5, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(3),
            nn.Flatten(),
            nn.Linear(15, 4),
        )


NETWORKS = {
    "perceptron": (lambda: perceptron(5, 9, 7, 3), (5,)),
    "cnn": (lambda: cnn(8), (64,)),
    "image-cnn": (lambda: image_cnn((1, 8, 8)), (1, 8, 8)),
    "residual-padded": (lambda: ResidualNetwork((4, 7), 2, 3, projected=False), (3, 8, 8)),
    "residual-projected": (lambda: ResidualNetwork((4, 7), 2, 3, projected=True), (3, 8, 8)),
    "wide": (Wide, (1, 6, 6)),
    "convolutions": (Convolutions, (2, 7)),
}


def made(name, seed):
    torch.manual_seed(seed)
    build, shape = NETWORKS[name]
    model = build().double()
    for buffer_name, buffer in model.named_buffers():  # statistics that tell units apart
        if "running" in buffer_name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    for p in model.parameters():  # and scales
        if p.ndim == 1:
            p.data.copy_(torch.randn_like(p))
    return model.eval(), torch.randn(6, *shape, dtype=torch.float64)


def shuffled(model, spec, seed=3):
    """The model with all units renumbered at random, and the numbering."""
    draws = torch.Generator().manual_seed(seed)
    numbering = spec.identity()
    for cell in spec.cells:
        numbering[cell] = cell[torch.randperm(len(cell), generator=draws)]
    other = copy.deepcopy(model)
    state = spec.permuted(model.state_dict(), numbering)
    other.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    return other


@pytest.mark.parametrize("name", NETWORKS)
def test_renumbered_units_are_the_same_function(name):
    model, x = made(name, 1)
    spec = traced_spec(model)
    other = shuffled(model, spec)
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x), rtol=1e-10, atol=1e-12)
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, other.get_parameter(n))]
    hidden = sum(n.endswith("weight") and p.ndim > 1 for n, p in model.named_parameters())
    assert len([n for n in moved if model.get_parameter(n).ndim > 1]) == hidden


@pytest.mark.parametrize("name", NETWORKS)
def test_a_renumbered_copy_is_found_again(name):
    model, x = made(name, 1)
    other = shuffled(model, traced_spec(model))
    found = align(model, other, inputs=x)
    assert found.similarity == pytest.approx(1.0, abs=1e-12)
    assert found.before < 0.9
    for key, tensor in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor), key


def test_the_barrier_between_renumbered_copies_vanishes():
    model, x = made("image-cnn", 1)
    model[-1].weight.data *= 10.0
    y = model(x).argmax(1)  # so that it is right, and sure of it
    other = shuffled(model, traced_spec(model))
    closure = Objective(model, F.cross_entropy).closure(x, y)
    before = interpolate(closure, model, other, points=9)
    after = interpolate(closure, model, align(model, other).model, points=9)
    assert before.barrier() > 0.1
    assert after.distance == 0.0
    assert after.barrier() == 0.0


@pytest.mark.parametrize("name", ["perceptron", "residual-padded"])
def test_independent_networks_become_more_alike_and_stay_themselves(name):
    a, x = made(name, 1)
    b, _ = made(name, 2)
    before = copy.deepcopy(b.state_dict())
    found = align(a, b, inputs=x)
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), b(x), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(before[key], b.state_dict()[key]) for key in before)
    flat = [
        torch.cat([p.detach().reshape(-1) for p in m.parameters()]) for m in (a, b, found.model)
    ]
    cosines = [float(F.cosine_similarity(flat[0], other, dim=0)) for other in flat[1:]]
    assert [found.before, found.similarity] == pytest.approx(cosines)
    assert found.similarity > found.before
    for numbering in found.permutations.values():
        assert sorted(numbering.tolist()) == list(range(len(numbering)))


def test_of_one_layer_it_is_the_best_of_all_numberings():
    a = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    b = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    first, shift, last, end = (
        (p.detach(), q.detach()) for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )
    best = max(
        float(
            (first[0] * first[1][list(p)]).sum()
            + (shift[0] * shift[1][list(p)]).sum()
            + (last[0] * last[1][:, list(p)]).sum()
            + (end[0] * end[1]).sum()
        )
        for p in permutations(range(5))
    )
    norms = [float(nn.utils.parameters_to_vector(m.parameters()).detach().norm()) for m in (a, b)]
    assert align(a, b).similarity == pytest.approx(best / (norms[0] * norms[1]), rel=1e-12)


def test_a_specification_by_names():
    model, x = made("cnn", 1)
    named = {
        "1.weight": ("first", None, None, None),
        "1.bias": ("first",),
        "4.weight": ("second", "first", None, None),
        "4.bias": ("second",),
        "8.weight": (None, "second"),  # flattened: four positions a channel
    }
    spec = PermutationSpec.of(model, named)
    assert [len(cell) for cell in spec.cells] == [8, 16]
    other = shuffled(model, spec)
    torch.testing.assert_close(other(x), model(x))
    assert align(model, other, named, inputs=x).similarity == pytest.approx(1.0)
    wrong = named | {"4.bias": (None,)}
    with pytest.raises(ValueError, match="another function"):
        align(model, other, wrong, inputs=x)
    with pytest.raises(ValueError, match="one entry for each of its axes"):
        PermutationSpec.of(model, {"1.weight": ("first",)})
    with pytest.raises(ValueError, match=r"a multiple of the 10 units"):
        PermutationSpec.of(model, {"8.bias": ("last",), "8.weight": (None, "last")})


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.last(self.first(x) * self.scale)


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x).permute(0, 2, 3, 1))


REFUSED = {
    "cannot be traced": Branching,
    "a parameter is used outside of a layer": Raw,
    "permute is in the way": Turned,
    r"1 \(LSTM\) is in the way": lambda: nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 2)),
    "its channels are in groups": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2)
    ),
    "it normalises groups of channels": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4)
    ),
    "it works on the last": lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.Linear(4, 2)),
    "how many dimensions it flattens": lambda: nn.Sequential(nn.Linear(3, 4), nn.Flatten()),
    "its weight is computed": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2)
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_known_is_refused(words):
    model = REFUSED[words]()
    with pytest.raises(TypeError, match=words):
        align(model, copy.deepcopy(model))


def test_networks_that_differ_are_refused():
    with pytest.raises(ValueError, match="the same tensors"):
        align(perceptron(3, 4, 2), perceptron(3, 5, 2))
    with pytest.raises(ValueError, match="hidden units"):
        align(perceptron(3, 2), perceptron(3, 2))


def test_sums_with_an_input_hold_units_in_place():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.out = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(x + self.two(torch.relu(self.one(x))))

    spec = traced_spec(Residual())
    assert [len(cell) for cell in spec.cells] == [4]


def test_padded_shortcuts_tie_what_they_carry():
    model, _ = made("residual-padded", 1)
    spec = traced_spec(model)
    stem = spec.axes["stem.weight"][0]
    after = spec.axes["blocks.2.second.weight"][0]
    assert torch.equal(after[1:5], stem)  # (7 - 4) // 2 channels of zeros come first
    sizes = sorted(len(cell) for cell in spec.cells)
    assert sizes == [3, 4, 4, 4, 7, 7]  # three zero channels, the stream, and four inner layers
