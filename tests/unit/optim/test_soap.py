"""SOAP: Adam where there is no basis, Adam in rotated coordinates where there is one; robust."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg.optim import SOAP


def walk(optimizer, params, steps=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


def parameters(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


@pytest.mark.parametrize("foreach", [False, True])
def test_with_the_identity_for_a_basis_it_is_adamw(foreach):
    shapes = (5, 3), (4,), (), (3, 2, 2, 2), (1, 6), (0,)
    ours, theirs = parameters(*shapes), parameters(*shapes)
    options = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}
    walk(SOAP(ours, limit=0, foreach=foreach, **options), ours)
    walk(torch.optim.AdamW(theirs, **options), theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_vectors_are_adams_beside_matrices():
    ours, theirs = parameters((3, 2), (4,)), parameters((4,))
    theirs[0].data.copy_(ours[1].data)
    walk(SOAP(ours[1:] + ours[:1], lr=0.02, weight_decay=0.0), ours[1:] + ours[:1], 1)
    walk(torch.optim.Adam(theirs, lr=0.02, betas=(0.95, 0.95)), theirs, 1)
    torch.testing.assert_close(ours[1], theirs[0], rtol=1e-12, atol=1e-12)


def test_in_a_basis_that_stays_it_is_adam_in_those_coordinates():
    """Gradients Q_L D Q_R^T with D diagonal: the basis is known and never turns."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
        for n in (4, 4)
    )
    (p,), (inside,) = parameters((4, 4)), parameters((4, 4))
    inside.data.copy_(left.T @ p.data @ right)
    ours = SOAP([p], lr=0.05, eps=1e-5, interval=3, weight_decay=0.0)
    adam = torch.optim.Adam([inside], lr=0.05, eps=1e-5, betas=(0.95, 0.95))
    sizes = torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    for t in range(10):
        diagonal = torch.diag(sizes * (1.5 + torch.sin(torch.tensor(float(t)))))
        p.grad, inside.grad = left @ diagonal @ right.T, diagonal
        ours.step()
        adam.step()
    torch.testing.assert_close(left.T @ p.data @ right, inside.data, rtol=1e-7, atol=1e-7)


def test_a_basis_whose_order_turns_takes_what_is_kept_with_it():
    """Diagonal gradients, of which first one entry is the larger and then the other."""
    (p,) = parameters((3, 3))
    inside = nn.Parameter(p.detach().clone())
    ours = SOAP([p], lr=0.05, interval=2, weight_decay=0.0)
    adam = torch.optim.Adam([inside], lr=0.05, betas=(0.95, 0.95))
    for t in range(60):
        sizes = [3.0 / (1 + t), 0.1 * (1 + t), 1.0]
        p.grad = torch.diag(torch.tensor(sizes, dtype=torch.float64))
        inside.grad = p.grad.clone()
        ours.step()
        adam.step()
    assert ours.state[p]["left_basis"].abs().argmax(0).tolist() == [1, 2, 0]
    torch.testing.assert_close(p.data, inside.data, rtol=1e-10, atol=1e-10)


def test_the_basis_follows_the_gradients():
    generator = torch.Generator().manual_seed(4)
    draw = {"generator": generator, "dtype": torch.float64}
    (p,) = parameters((4, 4))
    optimizer = SOAP([p], interval=1)
    for later in (False, True):
        turn = torch.linalg.qr(torch.randn(4, 4, **draw))[0]
        sizes = torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
        for _ in range(3 if not later else 200):
            p.grad = turn @ torch.diag(sizes * torch.randn(4, **draw)) @ turn.T
            optimizer.step()
    found = turn.T @ optimizer.state[p]["left_basis"]
    torch.testing.assert_close(
        found.abs().amax(0), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-3
    )


def test_it_does_not_care_in_which_basis_the_parameter_is_written():
    """Adam's path depends on the coordinates; SOAP's does not."""
    generator = torch.Generator().manual_seed(3)
    draw = {"generator": generator, "dtype": torch.float64}
    u, v = (torch.linalg.qr(torch.randn(n, n, **draw))[0] for n in (3, 3))
    (p,) = parameters((3, 3))
    turned = nn.Parameter(u @ p.detach() @ v.T)
    one, other = (SOAP([q], lr=0.05, interval=2, weight_decay=0.0) for q in (p, turned))
    for _ in range(9):
        p.grad = torch.randn(3, 3, **draw)
        turned.grad = u @ p.grad @ v.T
        one.step()
        other.step()
    torch.testing.assert_close(turned.detach(), u @ p.detach() @ v.T, rtol=1e-7, atol=1e-8)


def test_the_first_step_moves_along_the_gradients_singular_vectors():
    (p,) = parameters((4, 6), dtype=torch.float32)
    before = p.detach().clone()
    walk(SOAP([p], lr=1.0, weight_decay=0.0), [p], 1)
    u, _, vh = torch.linalg.svd(p.grad, full_matrices=False)
    torch.testing.assert_close(before - p.detach(), u @ vh, rtol=1e-3, atol=1e-3)


def test_the_factors_and_bases_are_what_they_say():
    (p,) = parameters((5, 3))
    optimizer = SOAP([p], betas=(0.9, 0.8), interval=2)
    grams = [torch.zeros(n, n, dtype=torch.float64) for n in (5, 3)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        p.grad = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        for gram, product in zip(grams, (p.grad @ p.grad.T, p.grad.T @ p.grad), strict=True):
            gram.mul_(0.8).add_(product, alpha=0.2)
        optimizer.step()
    state = optimizer.state[p]
    for side, gram, n in zip(("left", "right"), grams, (5, 3), strict=True):
        torch.testing.assert_close(state[side], gram)
        basis, eye = state[f"{side}_basis"], torch.eye(n, dtype=torch.float64)
        torch.testing.assert_close(basis.T @ basis, eye)
        before = gram - torch.diag(torch.diag(gram))
        turned = basis.T @ gram @ basis
        assert (turned - torch.diag(torch.diag(turned))).norm() < before.norm()


def test_large_factors_are_summed_whole():
    """From 256 on only one triangle is multiplied; the other is its mirror."""
    (p,) = parameters((300, 4))
    optimizer = SOAP([p], betas=(0.9, 0.5))
    walk(optimizer, [p], 1)
    left = optimizer.state[p]["left"]
    torch.testing.assert_close(left, 0.5 * p.grad @ p.grad.T)
    torch.testing.assert_close(left, left.T, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("limit", "kept"), [(4, {"right"}), (6, {"left", "right"})])
def test_a_side_over_the_limit_has_no_basis(limit, kept):
    (p,) = parameters((6, 2, 2))
    optimizer = SOAP([p], limit=limit)
    walk(optimizer, [p], 2)
    assert {side for side in ("left", "right") if side in optimizer.state[p]} == kept


def test_huge_sides_cost_nothing():
    (p,) = parameters((50_000, 2), dtype=torch.float32)
    optimizer = SOAP([p])
    walk(optimizer, [p], 2)
    assert sum(t.numel() for t in optimizer.state[p].values()) < 3 * p.numel()


def test_the_last_good_basis_is_kept():
    (p,) = parameters((3, 3))
    optimizer = SOAP([p], lr=0.1, interval=1)
    walk(optimizer, [p], 3)
    good = optimizer.state[p]["left_basis"].clone()
    optimizer.state[p]["left"].fill_(float("nan"))
    with pytest.warns(RuntimeWarning, match="its last basis is kept"):
        walk(optimizer, [p], 1)
    assert torch.equal(optimizer.state[p]["left_basis"], good)
    assert p.isfinite().all()


@pytest.mark.parametrize("interval", [1, 4])
def test_a_row_without_gradient_stays(interval):
    """Rounding errors in the null space are no steps."""
    (p,) = parameters((4, 6), dtype=torch.float32)
    before = p.detach().clone()
    optimizer = SOAP([p], lr=0.1, interval=interval, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        p.grad = torch.randn(4, 6, generator=generator)
        p.grad[2] = 0.0
        optimizer.step()
    torch.testing.assert_close(p.detach()[2], before[2], rtol=0, atol=1e-5)


def test_a_rate_that_is_a_tensor_is_not_changed():
    """A peer's multiplies it at each step."""
    rate = torch.tensor(0.01)
    (p,) = parameters((4, 3))
    walk(SOAP([p], lr=rate), [p])
    assert rate.item() == pytest.approx(0.01)


def test_rare_statistics_keep_their_memory_in_steps():
    (p,) = parameters((4, 4))
    optimizer = SOAP([p], betas=(0.9, 0.8), statistics_interval=3)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 10):
        p.grad = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        if t == 1 or t % 3 == 0:
            expected = 0.8**3 * expected + (1 - 0.8**3) * p.grad @ p.grad.T
        optimizer.step()
    torch.testing.assert_close(optimizer.state[p]["left"], expected)
