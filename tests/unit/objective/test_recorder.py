"""The recorder sees every use of a parameter in a linear map, and every use that is none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.objective.recorder import Recorder


def recorded(model, *inputs):
    params = list(model.parameters())
    names = [name for name, _ in model.named_parameters()]
    with Recorder(params) as recorder:
        model(*inputs)
    uses = [(u.kind, names[u.weight], u.bias is None or names[u.bias]) for u in recorder.uses]
    return recorder, uses, {names[i] for i in recorder.other}


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [
        (nn.Linear(3, 2), (4, 3), "linear"),
        (nn.Conv1d(3, 2, 2), (4, 3, 5), "conv1d"),
        (nn.Conv2d(3, 2, 3, padding="same"), (4, 3, 5, 5), "conv2d"),
        (nn.Conv3d(3, 2, 2), (1, 3, 5, 5, 5), "conv3d"),
        (nn.LayerNorm(3), (4, 3), "layer_norm"),
        (nn.BatchNorm1d(3), (4, 3), "batch_norm"),
    ],
)
def test_layers_are_seen_with_their_bias(layer, shape, kind):
    recorder, uses, other = recorded(layer, torch.randn(shape))
    assert uses == [(kind, "weight", "bias")]
    assert not other
    assert recorder.uses[0].input.shape == shape


def test_an_embedding_is_seen():
    recorder, uses, _ = recorded(nn.Embedding(5, 2), torch.tensor([[1, 4]]))
    assert uses == [("embedding", "weight", True)]
    assert recorder.uses[0].options["table"] == 5


def test_the_projections_of_self_attention_are_one_use():
    x = torch.randn(2, 3, 4)
    _, uses, other = recorded(nn.MultiheadAttention(4, 2, batch_first=True), x, x, x)
    assert uses == [
        ("linear", "in_proj_weight", "in_proj_bias"),
        ("linear", "out_proj.weight", "out_proj.bias"),
    ]
    assert not other


def test_the_projections_of_cross_attention_are_slices():
    q, kv = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    recorder, uses, other = recorded(nn.MultiheadAttention(4, 2, batch_first=True), q, kv, kv)
    assert [u.rows and (u.rows.start, u.rows.stop) for u in recorder.uses] == [
        (0, 4),
        (4, 12),
        None,
    ]
    assert len(uses) == 3
    assert not other


def test_a_bias_that_is_a_slice_beside_a_whole_weight_has_no_form():
    model = nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True)
    _, uses, other = recorded(model, torch.randn(2, 3, 4), *[torch.randn(2, 5, 3)] * 2)
    assert other == {"q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"}
    assert uses == [("linear", "out_proj.weight", "out_proj.bias")]


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w: x @ w.T,
        lambda x, w: F.linear(x, w.t()),
        lambda x, w: F.linear(x, 2 * w),
        lambda x, w: F.linear(w, x[:3, :3]),
        lambda x, w: torch.cat([x, w]),
        lambda _, w: torch.stack([w, w]).sum(),
        lambda x, w: F.linear(x, w.view(3, 3)[:, [0, 1, 2]]),
        lambda _, w: torch.var_mean(w, 0),
        lambda x, w: torch.einsum("ni,oi->no", x, w),
        lambda x, w: F.conv_transpose1d(x[:, :, None], w[:, :, None]),
    ],
)
def test_other_uses_are_noted(use):
    weight = nn.Parameter(torch.randn(3, 3))
    with Recorder([weight]) as recorder:
        use(torch.randn(4, 3), weight)
    assert recorder.other == {0}


def test_lstm_weights_are_noted_as_other():
    _, uses, other = recorded(nn.LSTM(2, 3), torch.randn(4, 1, 2))
    assert not uses
    assert len(other) == 4


def test_the_input_is_kept_where_the_model_overwrites_it():
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    with Recorder(list(layer.parameters())) as recorder:
        layer(x)
        x.zero_()
    assert recorder.uses[0].input.tolist() == [[1.0, 1.0]]


def test_the_gradient_of_an_output_that_is_changed_in_place_is_the_outputs_own():
    layer = nn.Linear(1, 1, bias=False)
    with Recorder([layer.weight]) as recorder:
        z = layer(torch.ones(1, 1)).mul_(3.0)
    (edge,) = [u.edge for u in recorder.uses]
    assert torch.autograd.grad(z.sum(), [edge])[0].item() == 3.0


def test_results_are_those_without_it():
    model = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    x = torch.randn(2, 3, 4)
    with Recorder(list(model.parameters())):
        seen = model(x)
    assert torch.equal(seen, model(x))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(2)])
def test_functions_that_torch_dispatches_by_an_argument(pool):
    """Their Python code stands in another module than their name says."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), pool, nn.Flatten(), nn.LazyLinear(2))
    model(torch.ones(1, 1, 6, 6))
    with Recorder(list(model.parameters())) as recorder:
        model(torch.ones(1, 1, 6, 6))
    assert [use.kind for use in recorder.uses] == ["conv2d", "linear"]
    assert not recorder.other
