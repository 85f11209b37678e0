"""Shampoo: torch's methods where nothing is preconditioned, the paper's where it is; robust."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg.optim import Shampoo, shampoo
from thalweg.optim.tiles import tiling


SHAPES = (5, 3), (4,), (), (3, 2, 2, 2), (1, 6), (0,)


def walk(optimizer, params, steps=12, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


def parameters(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


GRAFTED = {
    "adam": (torch.optim.Adam, {"betas": (0.9, 0.99)}),
    "adagrad": (torch.optim.Adagrad, {}),
    "sgd": (torch.optim.SGD, {}),
    "none": (torch.optim.SGD, {}),
}


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("grafting", GRAFTED)
def test_without_preconditioner_it_is_the_grafted_method(grafting, foreach):
    cls, options = GRAFTED[grafting]
    ours, theirs = parameters(*SHAPES), parameters(*SHAPES)
    betas = options.get("betas", (0.0, 0.99))
    eps = 1e-10 if grafting == "adagrad" else 1e-8
    first = Shampoo(
        ours, lr=0.02, betas=betas, eps=eps, grafting=grafting, start=100, foreach=foreach
    )
    walk(first, ours)
    walk(cls(theirs, lr=0.02, **options), theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_identity_factors_with_the_length_of_sgd_are_sgd():
    """An orthogonal gradient has identity factors: L = R = c I, whatever it is grafted to."""
    q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    (p,) = parameters((4, 4))
    before = p.detach().clone()
    optimizer = Shampoo([p], lr=0.1, betas=(0.0, 0.9), grafting="sgd")
    p.grad = 3.0 * q
    optimizer.step()
    torch.testing.assert_close(p.detach(), before - 0.1 * 3.0 * q)


def test_the_first_step_of_the_paper_has_singular_values_of_one():
    (p,) = parameters((4, 6))
    before = p.detach().clone()
    optimizer = Shampoo([p], lr=1.0, betas=(0.0, 0.9), grafting="none", floor=1e-12)
    walk(optimizer, [p], 1)
    u, _, vh = torch.linalg.svd(p.grad, full_matrices=False)
    torch.testing.assert_close(before - p.detach(), u @ vh, rtol=1e-6, atol=1e-6)


def test_sums_are_full_matrix_adagrad_for_vectors():
    (p,) = parameters((3,))
    expected, total = p.detach().clone(), torch.zeros(3, 3, dtype=torch.float64)
    optimizer = Shampoo(
        [p], lr=0.1, betas=(0.0, 0.9), grafting="none", statistics="sum", interval=1, floor=1e-9
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        p.grad = torch.randn(3, generator=generator, dtype=torch.float64)
        total += torch.outer(p.grad, p.grad)
        values, vectors = torch.linalg.eigh(total)
        root = vectors @ torch.diag(values.clamp(min=1e-9 * values.max()) ** -0.5) @ vectors.T
        expected -= 0.1 * root @ p.grad
        optimizer.step()
    torch.testing.assert_close(p.detach(), expected)


@pytest.mark.parametrize("grafting", GRAFTED)
def test_tiles_are_parameters_of_their_own(grafting):
    (whole,) = parameters((64, 48))
    tiles = [
        nn.Parameter(part.clone())
        for rows in whole.detach().split(32)
        for part in rows.split(24, 1)
    ]
    options = {"lr": 0.02, "grafting": grafting, "interval": 2}
    one, many = Shampoo([whole], block_size=32, **options), Shampoo(tiles, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        whole.grad = torch.randn(64, 48, generator=generator, dtype=torch.float64)
        parts = [part for rows in whole.grad.split(32) for part in rows.split(24, 1)]
        for tile, part in zip(tiles, parts, strict=True):
            tile.grad = part.clone()
        one.step()
        many.step()
    rows = [torch.cat([t.detach() for t in tiles[k : k + 2]], 1) for k in (0, 2)]
    torch.testing.assert_close(whole.detach(), torch.cat(rows), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "block", "grid", "tile", "sides"),
    [
        ((65, 7), 64, (3, 1), (22, 7), {"left": 22, "right": 7}),
        ((5, 130), 64, (1, 7), (5, 19), {"left": 5, "right": 19}),
        ((1, 9, 1), 64, (1, 1), (9, 1), {"left": 9}),
        ((), 64, (1, 1), (1, 1), {"left": 1}),
        ((1000,), 64, (1, 1), (1000, 1), {}),
        ((200, 200), 64, (4, 4), (50, 50), {"left": 50, "right": 50}),
        ((8, 4, 3, 3), 1024, (1, 1), (8, 36), {"left": 8, "right": 36}),
    ],
)
def test_tilings(shape, block, grid, tile, sides):
    plan = tiling(torch.Size(shape), block)
    assert (plan.grid, plan.tile, plan.sides) == (grid, tile, sides)
    x = torch.arange(float(torch.Size(shape).numel())).view(shape)
    tiles = plan.cut(x)
    assert tiles.shape == (plan.count, *tile)
    assert torch.equal(plan.paste(tiles).reshape(shape), x)


@pytest.mark.parametrize("shape", [(10**6,), (10**5, 8), (3, 10**5), (4096, 1, 2)])
def test_factors_of_huge_parameters_hold_little_more_than_they_do(shape):
    plan = tiling(torch.Size(shape), 1024)
    held = sum(plan.count * n * n for n in plan.sides.values())
    assert held <= 9 * torch.Size(shape).numel()


def test_no_step_is_skipped_or_zero_before_the_first_refresh():
    params = parameters((4, 3), (3,))
    optimizer = Shampoo(params, lr=0.1, interval=1000)
    for _ in range(5):
        before = [p.detach().clone() for p in params]
        walk(optimizer, params, 1)
        assert all(not torch.equal(a, b.detach()) for a, b in zip(before, params, strict=True))


def test_an_interval_never_blows_up():
    """Peers diverge here at an interval of ten: their roots are zero or stale."""
    target = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scales = torch.logspace(0, 2, 6, dtype=torch.float64)[:, None]
    for interval in (1, 10):
        (p,) = parameters((6, 4))
        optimizer = Shampoo([p], lr=0.05, interval=interval)
        losses = []
        for t in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - t / 300)
            loss = 0.5 * (scales * (p - target) ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 1e-3 * losses[0]
        assert max(losses) < 1.2 * losses[0]


def test_the_last_good_root_is_kept():
    (p,) = parameters((3, 3))
    optimizer = Shampoo([p], lr=0.1, interval=1)
    walk(optimizer, [p], 3)
    good = optimizer.state[p]["left_root"].clone()
    optimizer.state[p]["left"].fill_(float("nan"))
    with pytest.warns(RuntimeWarning, match="the last good one is kept"):
        walk(optimizer, [p], 1)
    assert torch.equal(optimizer.state[p]["left_root"], good)
    assert p.isfinite().all()


def test_a_first_root_that_fails_is_the_identity(monkeypatch):
    def broken(factor, *_):
        return torch.full_like(factor, 7.0), torch.zeros(len(factor), dtype=torch.bool)

    monkeypatch.setattr(shampoo, "inverse_root", broken)
    (p,), (q,) = parameters((3, 2)), parameters((3, 2))
    with pytest.warns(RuntimeWarning, match="the last good one is kept"):
        walk(Shampoo([p], lr=0.1, betas=(0.0, 0.9), grafting="none"), [p], 1)
    walk(torch.optim.SGD([q], lr=0.1), [q], 1)
    torch.testing.assert_close(p, q)


@pytest.mark.parametrize("scale", [1e-25, 1e-10, 1e12])
def test_any_scale_of_gradients_in_single_precision(scale):
    (p,), (q,) = (parameters((4, 3), dtype=torch.float32) for _ in range(2))
    walk(Shampoo([p], lr=0.1, eps=1e-8 * scale), [p], 5, scale=scale)
    walk(Shampoo([q], lr=0.1, eps=1e-8), [q], 5)
    assert p.isfinite().all()
    if scale > 1e-15:  # below, squares are zero in single precision
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_a_row_without_gradient_stays():
    (p,) = parameters((4, 3), dtype=torch.float32)
    before = p.detach().clone()
    optimizer = Shampoo([p], lr=0.1, interval=2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        p.grad = torch.randn(4, 3, generator=generator)
        p.grad[2] = 0.0
        optimizer.step()
    torch.testing.assert_close(p.detach()[2], before[2], rtol=0, atol=1e-5)


def test_rare_statistics_are_corrected_by_what_has_entered():
    """A gradient that stays gives the same step however often it is looked at."""
    ends = []
    for every in (1, 4):
        (p,) = parameters((3, 3))
        optimizer = Shampoo(
            [p], lr=0.1, betas=(0.0, 0.9), grafting="none", interval=1, statistics_interval=every
        )
        p.grad = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        for _ in range(9):
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends)
