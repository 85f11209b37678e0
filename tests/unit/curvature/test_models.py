"""Any module: unused, linear, frozen and tied parameters, dict batches, half precision."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, EmpiricalFisher, Fisher, Hessian, How
from unit.curvature.oracle import Case, close, hessian, untouched


DOUBLE = torch.float64
ALL = [Hessian, GGN, Fisher, EmpiricalFisher]


def batch(dtype=DOUBLE, n=6):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n, 3, dtype=DOUBLE, generator=generator).to(dtype)
    return x, torch.randint(0, 2, (n,), generator=generator)


class Odd(nn.Module):
    """A parameter that is not used, one that is used linearly, one that stands twice."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.head = nn.Linear(3, 2)
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


def odd():
    torch.manual_seed(17)
    return Odd().to(DOUBLE)


@pytest.mark.parametrize("kind", ALL)
def test_parameters_without_use_have_zero_rows(kind):
    objective = Objective(odd(), F.cross_entropy)
    operator = kind(objective.closure(*batch()))
    dense = operator.to_dense()
    close(dense, dense.T)
    zero = [i for i in range(len(dense)) if not dense[i].any()]
    assert zero == [0, 1, 2]  # a module's own parameters come first: unused and offset
    assert operator.names[:2] == ["unused", "offset"]


def test_linear_parameters_have_zero_rows():
    model = odd()

    def forward(model, given):
        x, y = given
        return F.cross_entropy(model(x), y) + 3.0 * model.offset

    H = Hessian(Objective(model, None, forward=forward).closure(*batch()))
    dense = H.to_dense()
    assert not dense[:3].any()
    assert H.gradient[2] == 3.0
    value, _, params = Case(model, F.cross_entropy, *batch()).seen()
    close(dense, hessian(value, params))
    only = Hessian(Objective(model, None, forward=forward).closure(*batch()), params="offset")
    assert not only.to_dense().any()


def test_tied_parameters_are_one():
    model = odd()
    value, _, params = Case(model, F.cross_entropy, *batch()).seen()
    H = Hessian(Objective(model, F.cross_entropy).closure(*batch()))
    assert H.shape[0] == 2 + 1 + 9 + 3 + 3 + 8
    assert "second.weight" not in H.names
    close(H.to_dense(), hessian(value, params))


@pytest.mark.parametrize("kind", ALL)
def test_frozen_parameters_have_no_rows(kind):
    model = odd()
    whole = kind(Objective(model, F.cross_entropy).closure(*batch()))
    v = torch.randn(11, 2, dtype=DOUBLE)
    expected = whole.submatrix("head.*", "second.bias") @ v
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith("head") or name == "second.bias")
    with untouched(model):
        part = kind(Objective(model, F.cross_entropy).closure(*batch()))
        close(part @ v, expected)
    assert part.names == ["second.bias", "head.weight", "head.bias"]


@dataclass
class Output:
    """What a Hugging Face model returns."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Hugging(nn.Module):
    """A model with the interface of transformers: names for inputs, an object for outputs."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 7))

    def forward(self, input_ids, attention_mask, labels=None):
        logits = self.inner(input_ids) * attention_mask[:, :, None]
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return Output(logits, loss)


def hugging():
    torch.manual_seed(18)
    ids = torch.randint(0, 7, (3, 5))
    labels = ids.roll(-1, 1)
    labels[:, -1] = -100
    given = {"input_ids": ids, "attention_mask": torch.ones(3, 5), "labels": labels}
    given["attention_mask"][0, 3:] = 0
    return Hugging().to(DOUBLE), given


def tokens(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def test_dict_batches_and_output_objects():
    model, given = hugging()
    params = list(model.parameters())
    expected = hessian(lambda: model(**given).loss, params)
    close(Hessian(Objective(model, None).closure(given)).to_dense(), expected)
    objective = Objective(model, tokens)
    close(Hessian(objective.closure(given)).to_dense(), expected)
    G = GGN(objective.closure(given)).to_dense()
    assert torch.linalg.eigvalsh(G).min() > -1e-12
    assert G.any()
    with pytest.raises(TypeError, match="Pass a loss_fn"):
        GGN(Objective(model, None).closure(given)).to_dense()


@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_a_loss_given_as_a_function_counts_what_it_is_told(kind):
    """A lambda's normaliser is unknown; ``count`` gives it, and the loader sum is exact."""
    model, given = hugging()
    parts = [{name: t[i] for name, t in given.items()} for i in (slice(0, 1), slice(1, 3))]
    objective = Objective(model, tokens, count=lambda b: float((b["labels"] != -100).sum()))
    close(kind(objective.over(parts)).to_dense(), kind(objective.closure(given)).to_dense())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ALL)
def test_half_precision_models_have_single_precision_products(kind, dtype):
    torch.manual_seed(19)
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)
    )
    model = model.to(dtype)
    model[0].bias.requires_grad_(False)
    single = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)
    )
    single.load_state_dict({name: t.float() for name, t in model.state_dict().items()})
    single[0].bias.requires_grad_(False)
    x, y = batch(dtype)
    v = torch.randn(sum(p.numel() for p in model.parameters()) - 8, 3)
    with untouched(model):
        operator = kind(Objective(model, F.cross_entropy).closure(x, y))
        found = operator @ v
    assert operator.dtype == found.dtype == torch.float32
    assert all(p.dtype == dtype for p in model.parameters())
    expected = kind(Objective(single, F.cross_entropy).closure(x.float(), y)) @ v
    close(found, expected, 1e-6)
    assert found.any()


def test_half_precision_dict_batches():
    model, given = hugging()
    model = model.to(torch.bfloat16)
    given["attention_mask"] = given["attention_mask"].to(torch.bfloat16)
    assert Hessian(Objective(model, tokens).closure(given)).to_dense().dtype == torch.float32


@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_parameters_of_two_precisions(kind):
    model = nn.Sequential(nn.Linear(3, 4), Double(), nn.Linear(4, 2).to(DOUBLE))
    x, y = batch(torch.float32)
    operator = kind(Objective(model, F.cross_entropy).closure(x, y))
    dense = operator.to_dense()
    reference = nn.Sequential(nn.Linear(3, 4), Double(), nn.Linear(4, 2)).to(DOUBLE)
    reference.load_state_dict(model.state_dict())
    expected = kind(Objective(reference, F.cross_entropy).closure(x.double(), y)).to_dense()
    close(dense.double(), expected, 1e-5)


class Double(nn.Module):
    def forward(self, x):
        return x.tanh().double()


def test_complex_parameters_are_refused_in_words():
    z = torch.ones(2, dtype=torch.complex64, requires_grad=True)
    closure = Objective.of(lambda z: (z * z.conj()).real.sum()).closure(z)
    for kind in (Hessian, GGN):
        with pytest.raises(TypeError, match="complex"):
            kind(closure)


def test_models_of_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.bilinear = nn.Bilinear(3, 2, 2).to(DOUBLE)

        def forward(self, a, b):
            return self.bilinear(a, b).tanh()

    x, y = batch()
    pair = (x, x[:, :2])
    case = Case(Two(), F.cross_entropy, pair, y)
    value, _, params = case.seen()
    close(Hessian(case.closure()).to_dense(), hessian(value, params))
    assert torch.linalg.eigvalsh(GGN(case.closure()).to_dense()).min() > -1e-12


@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_checkpointed_activations_are_refused(kind):
    """What checkpointing computes again, it computes with the live parameters."""
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=False)

    operator = kind(Objective(Checkpointed().to(DOUBLE), F.cross_entropy).closure(*batch()))
    with pytest.raises(RuntimeError, match="through activation checkpointing"):
        operator @ torch.ones(operator.shape[1], dtype=DOUBLE)


def test_residual_networks_with_changes_in_place():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            h = F.relu(self.a(x), inplace=True)
            h = self.b(h)
            h += x
            h *= self.a(x).tanh_()
            return h.sigmoid_()

    torch.manual_seed(21)
    model = nn.Sequential(Residual(), Residual(), nn.Flatten(), nn.Linear(18, 2)).to(DOUBLE)
    x, y = torch.randn(2, 2, 3, 3, dtype=DOUBLE), torch.tensor([0, 1])
    case = Case(model, F.cross_entropy, x, y)
    value, _, params = case.seen()
    v = torch.randn(sum(p.numel() for p in params), 12, dtype=DOUBLE)
    close(Hessian(case.closure()) @ v, hessian(value, params) @ v)
    recorded = GGN(case.closure(), how=How(check=False)) @ v
    plain = GGN(case.closure(), how=How(check=False, scheme="reverse")) @ v
    close(recorded, plain)
