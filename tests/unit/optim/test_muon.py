"""Muon is torch's on matrices and torch's AdamW on the rest, and says which is which."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.optim import Muon, muon_groups


def walk(optimizer, params, steps=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        optimizer.step()


def parameters(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    values = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)
    return [nn.Parameter(v) for v in values]


@pytest.mark.parametrize("scaling", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("foreach", [None, False, True])
def test_matrices_end_at_torchs_bits(scaling, nesterov, dtype, foreach):
    if dtype is torch.bfloat16 and not nesterov:
        pytest.skip("torch divides its momentum buffer in place here")
    shapes = (8, 3), (3, 8), (5, 5), (5, 5), (1, 4)
    ours, theirs = parameters(*shapes, dtype=dtype), parameters(*shapes, dtype=dtype)
    options = {"lr": 0.02, "nesterov": nesterov, "adjust_lr_fn": scaling, "weight_decay": 0.1}
    walk(Muon(ours, foreach=foreach, **options), ours)
    walk(torch.optim.Muon(theirs, **options), theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_rest_is_torchs_adamw():
    ours, theirs = parameters((7,), (), (4, 3)), parameters((7,), (), (4, 3))
    first = Muon(ours, lr=0.02, use_muon=False, weight_decay=0.1)
    second = torch.optim.AdamW(theirs, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1)
    walk(first, ours)
    walk(second, theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_checkpoint_of_torchs_is_continued():
    ours, theirs = parameters((4, 3)), parameters((4, 3))
    second = torch.optim.Muon(theirs, lr=0.02)
    walk(second, theirs)
    ours[0].data.copy_(theirs[0].data)
    first = Muon(ours)
    first.load_state_dict(copy.deepcopy(second.state_dict()))
    walk(first, ours, seed=5)
    walk(second, theirs, seed=5)
    assert torch.equal(ours[0], theirs[0])


def test_a_kernel_is_its_flattened_matrix():
    (kernel,), (matrix,) = parameters((4, 2, 3, 3)), parameters((4, 18))
    matrix.data.copy_(kernel.data.view(4, 18))
    one, other = Muon([kernel]), Muon([matrix])
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        matrix.grad = torch.randn(4, 18, generator=generator)
        kernel.grad = matrix.grad.view(4, 2, 3, 3).clone()
        one.step()
        other.step()
    assert torch.equal(kernel.view(4, 18), matrix)


def test_a_step_has_the_root_mean_square_of_adamws():
    (p,) = parameters((64, 256))
    optimizer = Muon([p], lr=1.0, weight_decay=0.0)
    before = p.detach().clone()
    walk(optimizer, [p], 1)
    assert (p.detach() - before).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.15)


# ---- roles --------------------------------------------------------------------------------------
class Tied(nn.Module):
    """An embedding, a body and a head that shares the embedding's weight."""

    def __init__(self, tied=True):
        super().__init__()
        self.wte = nn.Embedding(11, 4)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 4))
        self.conv = nn.Conv1d(4, 4, 3)
        self.lm_head = nn.Linear(4, 11, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight


@pytest.mark.parametrize("tied", [False, True])
def test_groups_by_module(tied):
    groups = muon_groups(Tied(tied), lr=0.02, adamw_lr=3e-4, adamw_weight_decay=0.0)
    names = {group["use_muon"]: [name for name, _ in group["params"]] for group in groups}
    assert names[True] == ["body.0.weight", "body.2.weight", "conv.weight"]
    left = ["wte.weight", "body.0.bias", "body.1.weight", "body.1.bias", "body.2.bias", "conv.bias"]
    assert names[False] == left + ([] if tied else ["lm_head.weight"])
    assert [(g["lr"], g.get("weight_decay")) for g in groups] == [(0.02, None), (3e-4, 0.0)]
    optimizer = Muon(groups)
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    roles = optimizer.roles()
    assert roles["conv.weight"] == "Muon, 4 x 12"
    assert roles["wte.weight"] == "AdamW: use_muon is False"
    assert roles["body.1.bias"] == "AdamW: fewer than two dimensions"


def test_a_tied_head_that_is_registered_first_is_found():
    model = nn.ModuleDict({"out": nn.Linear(4, 9), "embed": nn.Embedding(9, 4)})
    model["embed"].weight = model["out"].weight
    groups = muon_groups(nn.Sequential(model, nn.Linear(3, 3)))
    assert [name for g in groups if g["use_muon"] for name, _ in g["params"]] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wte.weight", "an embedding by its name"),
        ("model.embed_tokens.weight", "an embedding by its name"),
        ("pos_embed", "an embedding by its name"),
        ("bert.embeddings.word_embeddings.weight", "an embedding by its name"),
        ("lm_head.weight", "a head by its name"),
        ("classifier.weight", "a head by its name"),
        ("layers.0.multihead_attn.weight", None),
        ("heads_mix.proj.weight", None),
        ("0.weight", None),
    ],
)
def test_names_say_what_a_parameter_is_for(name, reason):
    (p,) = parameters((4, 3))
    shown = f"AdamW: {reason}" if reason else "Muon, 4 x 3"
    assert Muon([(name, p)]).roles() == {name: shown}
    assert Muon([p]).roles() == {"group 0, parameter 0": "Muon, 4 x 3"}
    assert Muon([(name, p)], use_muon=True).roles() == {name: "Muon, 4 x 3"}


def test_roles_are_what_is_done():
    model = Tied(tied=False)
    optimizer = Muon(model.named_parameters())
    params = list(model.parameters())
    walk(optimizer, params, 1)
    for (_, p), role in zip(model.named_parameters(), optimizer.roles().values(), strict=True):
        assert ("momentum_buffer" in optimizer.state[p]) is role.startswith("Muon")


def test_the_head_and_embedding_alone_leave_one_group():
    assert len(muon_groups(nn.Linear(3, 2))) == 1
    with pytest.raises(ValueError, match=r"muon_groups\(model='ReLU'\): model must be"):
        muon_groups(nn.ReLU())


# ---- state --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_half_precision_resumes_exactly(name):
    options = {} if name == "muon" else {"interval": 3}
    params = parameters((6, 4), (5,), (2, 2, 2), dtype=torch.bfloat16)
    optimizer = optim.create(name, params, **options)
    walk(optimizer, params, 4)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    second = optim.create(name, twins, **options)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for p, twin in zip(params, twins, strict=True):
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, second.state[twin][key]), key
            assert value.dtype is second.state[twin][key].dtype
            assert value.data_ptr() != second.state[twin][key].data_ptr()
    walk(optimizer, params, 7, seed=3)
    walk(second, twins, 7, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))


@pytest.mark.parametrize(("name", "size"), [("muon", 4), ("shampoo", 24), ("soap", 24)])
def test_bytes_of_state_for_each_parameter(name, size):
    (p,) = parameters((64, 64))
    optimizer = optim.create(name, [p])
    walk(optimizer, [p], 2)
    held = sum(t.nbytes for key, t in optimizer.state[p].items() if key != "step")
    assert held == size * p.numel()
