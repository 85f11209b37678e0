"""Kronecker factors against dense matrices, and factors that are built by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.curvature import GGN, EmpiricalFisher, How
from thalweg.curvature.kronecker import KroneckerFactors
from thalweg.curvature.layer_records import layer_records
from thalweg.objective import Objective


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def blocks_of(matrix, operator):
    """The matrix without what lies between layers."""
    layers = [
        n.rsplit(".", 1)[0]
        for n, p in zip(operator.names, operator.domain, strict=True)
        for _ in range(p.numel())
    ]
    same = torch.tensor([[a == b for a in layers] for b in layers])
    return matrix * same


def close(first, second, tolerance=1e-10):
    assert (first - second).abs().max() <= tolerance * second.abs().max().clamp_min(1.0)


@pytest.fixture
def regression():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 2)).double()
    return Objective(model, F.mse_loss).closure(double(20, 3), double(20, 2))


@pytest.fixture
def classification():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)).double()
    return Objective(model, F.cross_entropy).closure(double(30, 3), torch.randint(0, 3, (30,)))


def test_factors_are_those_built_by_hand():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    x, y = double(10, 3), torch.randint(0, 2, (10,))
    closure = Objective(layer, F.cross_entropy).closure(x, y)
    (factors,) = KroneckerFactors(closure, fisher="exact").factors.values()
    ones = torch.cat([x, torch.ones(10, 1)], 1)
    p = layer(x).softmax(1).detach()
    close(factors.inputs, ones.T @ ones / 10)
    close(factors.outputs, (torch.diag_embed(p) - p[:, :, None] * p[:, None]).mean(0))


def test_deep_linear_networks_with_squared_error_are_exact(regression):
    K = KroneckerFactors(regression, fisher="exact")
    close(K.to_dense(), blocks_of(GGN(regression).to_dense(), K))
    assert K.uncovered == []


def test_an_embedding_before_a_linear_layer_is_exact():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)).double()
    closure = Objective(model, F.mse_loss).closure(torch.randint(0, 4, (12,)), double(12, 2))
    K = KroneckerFactors(closure, fisher="exact")
    close(K.to_dense(), blocks_of(GGN(closure).to_dense(), K))


def test_padding_has_no_part_in_an_embeddings_factors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(4, 3, padding_idx=0), nn.Linear(3, 2)).double()
    closure = Objective(model, F.mse_loss).closure(torch.tensor([1, 2, 0, 3, 0]), double(5, 2))
    K = KroneckerFactors(closure, fisher="exact", params=["0.weight"])
    dense = K.to_dense()
    assert dense[:3].abs().max() == 0
    assert dense[3:, 3:].diagonal().min() > 0


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # of an odd sum, torch's own
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 3, 3, stride=2, padding=1),
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(2, 1)),
        nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", bias=False),
        nn.Conv2d(2, 3, 2, padding="valid"),
        nn.Conv3d(2, 3, 2, stride=2, padding=1),
        nn.Linear(7, 3),
    ],
)
def test_rows_of_a_layer_make_up_its_gradient(layer):
    torch.manual_seed(0)
    layer.double()
    sizes = (7,) * (layer.weight.ndim - 2 or 1)
    x = double(2, 2, *sizes)
    slope = double(*layer(x).shape)
    closure = Objective(layer, lambda z, _: (z * slope).sum()).closure(x, torch.zeros(2))
    still = closure.still()
    (record,), refused, _ = layer_records(still, list(still.params), lambda *_: [slope])
    made = record.slopes[0].T @ record.inputs
    expected = closure.value_and_grad()[1]
    biased = layer.bias is not None
    close(made[:, :-1] if biased else made, expected[0].reshape(3, -1))
    if biased:
        close(made[:, -1], expected[1])
    assert not refused


def test_one_position_of_a_convolution_is_exact():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(3, 2)).double()
    closure = Objective(model, F.cross_entropy).closure(double(1, 2, 4, 4), torch.tensor([1]))
    K = KroneckerFactors(closure, fisher="exact")
    close(K.to_dense(), blocks_of(GGN(closure).to_dense(), K))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_scale_and_shift_have_the_fishers_own_blocks_on_each_channel(norm):
    torch.manual_seed(0)
    layer = nn.LayerNorm(3) if norm == "layer" else nn.BatchNorm1d(3)
    model = nn.Sequential(layer, nn.Linear(3, 2)).double()
    closure = Objective(model, F.mse_loss).closure(double(8, 3), double(8, 2))
    K = KroneckerFactors(closure, fisher="exact", params=["0.*"])
    G = GGN(closure, params=["0.*"], how=How(check=False)).to_dense()
    kept = torch.eye(3).repeat(2, 2)  # a channel's scale and shift
    close(K.to_dense(), G * kept)


def test_positions_of_one_sample_do_not_meet():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (3, 2))).double()
    closure = Objective(model, F.cross_entropy).closure(double(1, 4), torch.tensor([[1, 2]]))
    close(KroneckerFactors(closure, fisher="exact").to_dense(), GGN(closure).to_dense())


def test_outputs_without_classes_are_one_number_a_sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()
    closure = Objective(model, F.mse_loss).closure(double(6, 4), double(6))
    close(KroneckerFactors(closure, fisher="exact").to_dense(), GGN(closure).to_dense())


def test_the_corrected_eigenvalues_are_the_diagonal_in_the_eigenbasis(classification):
    E = KroneckerFactors(classification, fisher="exact", corrected=True)
    G = blocks_of(GGN(classification).to_dense(), E)
    close(E.to_dense().trace(), G.trace())
    assert E.domain is not None
    for key, f in E.factors.items():
        _, left, _, right = f.eigenbasis()
        start = sum(p.numel() for p in list(E.domain)[: key[0]])
        out, inside = len(left), len(right)
        order = [
            start + (o * (inside - 1) + i if i < inside - 1 else out * (inside - 1) + o)
            for o in range(out)
            for i in range(inside)
        ]
        block = G[order][:, order]
        basis = torch.kron(left, right)
        close((basis.T @ block @ basis).diagonal().view(out, inside), f.scales)


def test_the_correction_is_nearer_to_the_fisher(classification):
    K = KroneckerFactors(classification, fisher="exact")
    E = KroneckerFactors(classification, fisher="exact", corrected=True)
    G = blocks_of(GGN(classification).to_dense(), K)
    assert (E.to_dense() - G).norm() < (K.to_dense() - G).norm()


@pytest.mark.parametrize("corrected", [False, True])
def test_the_exact_inverse_is_the_dense_one(classification, corrected):
    K = KroneckerFactors(classification, fisher="exact", corrected=corrected)
    dense = torch.linalg.inv(K.to_dense() + 0.1 * torch.eye(K.shape[0], dtype=torch.float64))
    close(K.inverse(0.1, factored=False).to_dense(), dense)


def test_the_factored_inverse_splits_the_damping_by_pi():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2, bias=False).double()
    closure = Objective(layer, F.mse_loss).closure(10 * double(8, 3), double(8, 2))
    K = KroneckerFactors(closure, fisher="exact")
    (f,) = K.factors.values()
    pi = ((f.inputs.trace() / 3) / (f.outputs.trace() / 2)) ** 0.5
    left = f.outputs + 0.2**0.5 / pi * torch.eye(2, dtype=torch.float64)
    right = f.inputs + 0.2**0.5 * pi * torch.eye(3, dtype=torch.float64)
    expected = torch.kron(torch.linalg.inv(left), torch.linalg.inv(right))
    close(K.inverse(0.2).to_dense(), expected)


def test_drawn_labels_have_the_exact_fisher_as_their_mean(classification):
    exact = KroneckerFactors(classification, fisher="exact")
    drawn = [KroneckerFactors(classification, seed=s) for s in range(200)]
    for key, f in exact.factors.items():
        each = torch.stack([d.factors[key].outputs for d in drawn])
        error = each.std(0) / len(drawn) ** 0.5
        assert ((each.mean(0) - f.outputs).abs() <= 4 * error + 1e-12).all()


def test_smoothing_is_no_part_of_the_drawn_fisher():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    x, y = double(10, 3), torch.randint(0, 2, (10,))
    smooth = Objective(layer, nn.CrossEntropyLoss(label_smoothing=0.5)).closure(x, y)
    plain = Objective(layer, F.cross_entropy).closure(x, y)
    first, second = (KroneckerFactors(c, seed=3).to_dense() for c in (smooth, plain))
    close(first, second)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
def test_the_empirical_form_of_one_sample_is_its_gradients_square(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    y = torch.tensor([2]) if loss is F.cross_entropy else double(1, 3)
    closure = Objective(model, loss).closure(double(1, 3), y)
    K = KroneckerFactors(closure, fisher="empirical")
    close(K.to_dense(), blocks_of(EmpiricalFisher(closure).to_dense(), K))


def test_batches_add_up_to_the_whole(classification):
    x, y = classification.program.batch
    objective = Objective(classification.program._module.model, F.cross_entropy)
    risk = objective.over([(x[:7], y[:7]), (x[7:], y[7:])])
    whole = KroneckerFactors(classification, fisher="exact", corrected=True)
    close(KroneckerFactors(risk, fisher="exact", corrected=True).to_dense(), whole.to_dense())


def test_cross_attention_has_a_block_for_each_slice():
    torch.manual_seed(0)

    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, q, kv):
            return self.attend(q, kv, kv)[0].mean(1)

    closure = Objective(Cross().double(), F.mse_loss).closure(
        (double(3, 2, 4), double(3, 5, 4)), double(3, 4)
    )
    K = KroneckerFactors(closure, fisher="exact")
    assert sorted(k[2:] for k in K.factors) == [(0, 0), (0, 4), (4, 8)]
    assert K.uncovered == []
    dense = K.to_dense()
    close(dense, dense.T)
    assert dense.diagonal().min() > 0 or (dense.diagonal() == 0).sum() <= 4  # keys' bias


def test_a_weight_tied_to_an_embedding_is_refused_by_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 3)
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return F.linear(self.inner(self.table(x)), self.table.weight)

    closure = Objective(Tied(), F.cross_entropy).closure(torch.tensor([1, 2]), torch.tensor([0, 1]))
    assert KroneckerFactors(closure, fisher="exact").uncovered == ["table.weight"]


def test_a_layer_used_twice_pools_both_uses():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3).double()
    x = double(6, 3)
    twice = Objective(nn.Sequential(layer, nn.Tanh(), layer), F.mse_loss).closure(x, double(6, 3))
    (factors,) = KroneckerFactors(twice, fisher="exact").factors.values()
    both = torch.cat([x, layer(x).tanh()]).detach()
    both = torch.cat([both, torch.ones(12, 1)], 1)
    assert factors.rows == 12
    close(factors.inputs, both.T @ both / 12)


def test_what_has_no_form_is_listed():
    model = nn.Sequential(nn.Conv1d(4, 4, 2, groups=2), nn.Flatten(), nn.Linear(8, 2), nn.PReLU())
    closure = Objective(model, F.mse_loss).closure(torch.randn(2, 4, 3), torch.randn(2, 2))
    K = KroneckerFactors(closure)
    assert K.uncovered == ["0.weight", "0.bias", "3.weight"]
    assert K.to_dense()[:20].abs().max() == 0


def test_an_unknown_loss_has_no_labels_to_draw():
    closure = Objective(nn.Linear(1, 1), lambda z, y: (z - y).abs().mean()).closure(
        torch.ones(1, 1), torch.ones(1, 1)
    )
    with pytest.raises(TypeError, match="no distribution to draw"):
        KroneckerFactors(closure)


@pytest.mark.parametrize("options", [{"fisher": "full"}, {"samples": 0}])
def test_bad_arguments(regression, options):
    with pytest.raises(ValueError, match="KroneckerFactors"):
        KroneckerFactors(regression, **options)
