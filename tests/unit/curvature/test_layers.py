"""Every kind of layer: Hessian, Gauss-Newton and Jacobian against matrices built entry by entry."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.curvature import GGN, Hessian, How, Jacobian
from unit.curvature.oracle import (
    Case,
    close,
    difference,
    gauss_newton,
    hessian,
    jacobian,
    untouched,
)


DOUBLE = torch.float64


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Attention(nn.Module):
    """Attention as written by hand around torch's kernel."""

    def __init__(self, causal=False):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.causal = causal

    def forward(self, x):
        q, k, v = (part.view(2, 3, 2, 2).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


class SelfAttention(nn.Module):
    """torch's own module of attention."""

    def __init__(self, need_weights):
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x):
        return self.inner(x, x, x, need_weights=self.need_weights)[0]


class Recurrent(nn.Module):
    """A recurrent layer's outputs, without its state."""

    def __init__(self, layer):
        super().__init__()
        self.inner = layer

    def forward(self, x):
        return self.inner(x)[0]


def flat(op):
    """Between two linear layers, on five samples of three features."""
    return lambda: (nn.Sequential(nn.Linear(3, 4), op()), (5, 3))


def function(f):
    return flat(partial(Apply, f))


def images(op, channels=2, size=4, spatial=2):
    return lambda: (nn.Sequential(op()), (3, channels) + (size,) * spatial)


def sequence(op):
    return lambda: (nn.Sequential(op()), (2, 3, 4))


def words(op):
    return lambda: (nn.Sequential(op(), nn.Tanh()), None)


def encoder(**options):
    return sequence(
        partial(nn.TransformerEncoderLayer, 4, 2, 3, dropout=0.0, batch_first=True, **options)
    )


NAMES = (
    "SiLU Mish ReLU LeakyReLU GELU Softplus ELU SELU CELU Hardswish Sigmoid Tanh LogSigmoid "
    "Softsign PReLU ReLU6 Hardtanh Tanhshrink Softshrink GLU"
)
ACTIVATIONS = {name: flat(getattr(nn, name)) for name in NAMES.split(" ")}
FUNCTIONS = {
    "GELU tanh": flat(partial(nn.GELU, approximate="tanh")),
    "softmax": flat(partial(nn.Softmax, -1)),
    "log_softmax": flat(partial(nn.LogSoftmax, -1)),
    "logsumexp": function(lambda h: h.logsumexp(-1, keepdim=True)),
    "norm": function(lambda h: h.norm(dim=-1, keepdim=True)),
    "norm of one": function(lambda h: h.norm(p=1, dim=-1, keepdim=True)),
    "normalize": function(lambda h: F.normalize(h, dim=-1)),
    "cosine": function(lambda h: F.cosine_similarity(h[:, :2], h[:, 2:], dim=-1)[:, None]),
    "einsum": function(lambda h: torch.einsum("ni,nj->nij", h, h).flatten(1)),
    "matmul": function(lambda h: h @ h.T),
    "var": function(lambda h: h.var(-1, keepdim=True)),
    "std": function(lambda h: h.std(-1, keepdim=True)),
    "sort": function(lambda h: h.sort(-1).values * torch.arange(1.0, 5.0)),
    "cumsum": function(lambda h: h.tanh().cumsum(-1)),
    "cumprod": function(lambda h: h.cumprod(-1)),
    "prod": function(lambda h: h.prod(-1, keepdim=True)),
    "max": function(lambda h: h.max(-1, keepdim=True).values ** 2),
    "topk": function(lambda h: h.topk(2).values ** 2),
    "where": function(lambda h: torch.where(h > 0, h.sin(), h.exp())),
    "pow": function(lambda h: h.abs() ** 1.5),
    "gather": function(lambda h: h.gather(1, torch.tensor([[0, 2]] * 5)).exp()),
}
NORMS = {
    "LayerNorm": flat(partial(nn.LayerNorm, 4)),
    "LayerNorm plain": flat(partial(nn.LayerNorm, 4, elementwise_affine=False)),
    "RMSNorm": flat(partial(nn.RMSNorm, 4)),
    "GroupNorm": images(partial(nn.GroupNorm, 2, 4), channels=4, size=2),
    "InstanceNorm": images(partial(nn.InstanceNorm2d, 2, affine=True)),
    "InstanceNorm tracking": images(
        partial(nn.InstanceNorm2d, 2, affine=True, track_running_stats=True)
    ),
    "BatchNorm train": flat(partial(nn.BatchNorm1d, 4)),
    "BatchNorm cumulative": flat(partial(nn.BatchNorm1d, 4, momentum=None)),
    "BatchNorm2d train": images(partial(nn.BatchNorm2d, 2)),
    "BatchNorm eval": flat(lambda: nn.BatchNorm1d(4).eval()),
    "BatchNorm no track": flat(partial(nn.BatchNorm1d, 4, track_running_stats=False)),
    "BatchNorm no track eval": flat(lambda: nn.BatchNorm1d(4, track_running_stats=False).eval()),
    "LocalResponseNorm": images(partial(nn.LocalResponseNorm, 2)),
    "spectral_norm eval": flat(
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).eval()
    ),
}
GRIDS = {
    "Conv1d": images(partial(nn.Conv1d, 2, 2, 3, padding=1), spatial=1),
    "Conv2d": images(partial(nn.Conv2d, 2, 2, 2, stride=2)),
    "Conv2d groups": images(partial(nn.Conv2d, 2, 4, 2, groups=2, dilation=2)),
    "Conv2d reflect": images(partial(nn.Conv2d, 2, 1, 3, padding=1, padding_mode="reflect")),
    "Conv3d": images(partial(nn.Conv3d, 1, 2, 2), channels=1, size=2, spatial=3),
    "ConvTranspose1d": images(partial(nn.ConvTranspose1d, 2, 2, 2), spatial=1, size=3),
    "ConvTranspose2d": images(partial(nn.ConvTranspose2d, 2, 1, 2), size=2),
    "MaxPool2d": images(partial(nn.MaxPool2d, 2)),
    "AvgPool2d": images(partial(nn.AvgPool2d, 2)),
    "AdaptiveAvgPool2d": images(partial(nn.AdaptiveAvgPool2d, 2)),
    "AdaptiveMaxPool2d": images(partial(nn.AdaptiveMaxPool2d, 2)),
    "LPPool2d": images(partial(nn.LPPool2d, 2, 2)),
    "Upsample": images(
        partial(nn.Upsample, scale_factor=2, mode="bilinear", align_corners=False), size=2
    ),
    "PixelShuffle": images(partial(nn.PixelShuffle, 2), channels=4, size=2),
}
SEQUENCES = {
    "SDPA": sequence(Attention),
    "SDPA causal": sequence(partial(Attention, causal=True)),
    "MHA": sequence(partial(SelfAttention, need_weights=True)),
    "MHA without weights": sequence(partial(SelfAttention, need_weights=False)),
    "MHA eval": sequence(lambda: SelfAttention(need_weights=False).eval()),
    "TransformerEncoderLayer": encoder(),
    "TransformerEncoderLayer norm first": encoder(norm_first=True, activation="gelu"),
    "TransformerEncoderLayer eval": sequence(
        lambda: nn.TransformerEncoderLayer(4, 2, 3, batch_first=True).eval()
    ),
    "LSTM": sequence(lambda: Recurrent(nn.LSTM(4, 2, batch_first=True))),
    "GRU": sequence(lambda: Recurrent(nn.GRU(4, 2, batch_first=True))),
    "RNN": sequence(lambda: Recurrent(nn.RNN(4, 3, batch_first=True))),
    "RNN both ways": sequence(
        lambda: Recurrent(nn.RNN(4, 2, batch_first=True, bidirectional=True))
    ),
    "Embedding": words(partial(nn.Embedding, 6, 3)),
    "Embedding padding": words(partial(nn.Embedding, 6, 3, padding_idx=1)),
}
LAYERS = ACTIVATIONS | FUNCTIONS | NORMS | GRIDS | SEQUENCES
IMAGES = {name for name in LAYERS if name in GRIDS} | {
    "GroupNorm", "InstanceNorm", "InstanceNorm tracking", "BatchNorm2d train", "LocalResponseNorm"
}  # fmt: skip
# After some products the tangent's computation is recorded, where that gives the same.
RECORDED = {
    "Tanh", "GLU", "LayerNorm", "GroupNorm", "BatchNorm train", "Conv2d", "SDPA", "LSTM", "GRU",
    "RNN", "Embedding padding", "TransformerEncoderLayer", "where",
}  # fmt: skip


def made(name):
    torch.manual_seed(4)
    model, shape = LAYERS[name]()
    training = {m: m.training for m in model.modules()}
    model = model.to(DOUBLE)
    x = torch.tensor([[0, 1, 2], [3, 3, 5]]) if shape is None else torch.randn(shape, dtype=DOUBLE)
    if name in IMAGES:  # something with parameters before what has none, and a bend after
        channels = x.shape[1]
        spatial = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[x.ndim - 3]
        model = nn.Sequential(spatial(channels, channels, 1), nn.Tanh(), model).to(DOUBLE)
    with torch.no_grad():
        width = model(x).flatten(1).shape[1]
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    for module, mode in training.items():
        module.training = mode
    whole = nn.Sequential(model, nn.Flatten(), nn.Linear(width, 2).to(DOUBLE))
    y = torch.tensor([0, 1, 1, 0, 1])[: len(x)]
    return Case(whole, F.cross_entropy, x, y)


@pytest.mark.parametrize("name", LAYERS)
def test_the_hessian_is_that_of_double_backward_and_of_differences(name):
    case = made(name)
    value, _, params = case.seen()
    with untouched(case.model):
        operator = Hessian(case.closure())
        found = operator.to_dense()
    expected = hessian(value, params)
    close(found, expected)
    close(found, found.T)
    assert expected.abs().max() > 1e-4  # there is something to get wrong
    assert operator.check is not None
    assert operator.check.passed
    v = torch.randn(len(found), dtype=DOUBLE)
    v = v / v.norm() * (operator.gradient != 0)  # torch holds the padding row of an embedding still
    close(found @ v, difference(value, params, v), 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_gauss_newton_is_the_product_of_its_dense_parts(name):
    case = made(name)
    _, outputs, params = case.seen()
    expected = gauss_newton(case)
    v = torch.randn(len(expected), 9 if name in RECORDED else 2, dtype=DOUBLE)
    with untouched(case.model):
        operator = GGN(case.closure())
        found = operator @ v
        J = Jacobian(case.closure())
        close(J @ v[:, :2], jacobian(outputs, params) @ v[:, :2])
    close(found, expected @ v)
    close(found, operator @ v)
    assert operator.check is not None
    assert operator.check.passed


@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm train"])
def test_linearised_products_are_the_same(name):
    case = made(name)
    found = Hessian(case.closure(), how=How(scheme="linearize")).to_dense()
    close(found, Hessian(case.closure()).to_dense())


@pytest.mark.parametrize("scheme", ["linearize", "dual", "reverse"])
@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm train", "Conv2d", "SDPA"])
def test_schemes_of_tangents_agree(name, scheme):
    case = made(name)
    close(GGN(case.closure(), how=How(scheme=scheme)).to_dense(), gauss_newton(case))


def test_what_recording_would_get_wrong_at_the_second_call_is_refused():
    closure = made("GRU").closure()
    with pytest.raises(ValueError, match="in place"):
        GGN(closure, how=How(scheme="linearize")).to_dense()


def test_dual_numbers_that_pass_through_no_grad_are_refused_by_name():
    closure = made("Embedding padding").closure()
    with pytest.raises(ValueError, match="no_grad"):
        GGN(closure, how=How(scheme="dual")).to_dense()


UNDIFFERENTIABLE = {
    "EmbeddingBag": lambda: (nn.EmbeddingBag(6, 3), torch.tensor([[0, 1, 2], [3, 3, 5]])),
    "Hardsigmoid": lambda: (
        nn.Sequential(nn.Linear(3, 3), nn.Hardsigmoid()),
        torch.randn(2, 3, dtype=DOUBLE),
    ),
}


@pytest.mark.parametrize("name", UNDIFFERENTIABLE)
def test_a_layer_without_second_derivative_is_named_with_what_helps(name):
    layer, x = UNDIFFERENTIABLE[name]()
    model = nn.Sequential(layer, nn.Linear(3, 2)).to(DOUBLE)
    case = Case(model, F.cross_entropy, x, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match=r"no second derivative in torch \(.*finite-difference"):
        Hessian(case.closure()).to_dense()
    found = Hessian(case.closure(), how=How(scheme="finite-difference")).to_dense()
    value, _, params = case.seen()
    v = torch.randn(len(found), dtype=DOUBLE)
    close(found @ v, difference(value, params, v, 1e-4), 1e-5)


def test_gauss_newton_of_a_layer_with_no_way_forward_is_named():
    layer, x = UNDIFFERENTIABLE["EmbeddingBag"]()
    model = nn.Sequential(layer, nn.Linear(3, 2)).to(DOUBLE)
    with pytest.raises(RuntimeError, match="Replace that layer"):
        GGN(Case(model, F.cross_entropy, x, torch.tensor([0, 1])).closure()).to_dense()


class Normed(nn.Module):
    """Weight norm by its formula."""

    def __init__(self, g, v):
        super().__init__()
        self.bias, self.g, self.v = nn.Parameter(torch.zeros(3)), nn.Parameter(g), nn.Parameter(v)

    def forward(self, x):
        return F.linear(x, self.v * (self.g / self.v.norm(dim=1, keepdim=True)), self.bias)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm], ids=["new", "old"]
)
def test_weight_norm_whose_double_backward_is_wrong_in_torch(norm):
    layer = norm(nn.Linear(3, 3)).to(DOUBLE)
    x, y = torch.randn(4, 3, dtype=DOUBLE), torch.tensor([0, 1, 2, 2])
    parts = dict(layer.named_parameters())
    g = next(p for name, p in parts.items() if name.endswith(("original0", "_g")))
    v = next(p for name, p in parts.items() if name.endswith(("original1", "_v")))
    with torch.no_grad():
        layer.bias.zero_()
        g.mul_(1.5)
    plain = Normed(g.detach().clone(), v.detach().clone()).to(DOUBLE)
    value, _, params = Case(plain, F.cross_entropy, x, y).seen()
    case = Case(layer, F.cross_entropy, x, y)
    close(Hessian(case.closure()).to_dense(), hessian(value, params))
    close(GGN(case.closure()).to_dense(), gauss_newton(Case(plain, F.cross_entropy, x, y)))
