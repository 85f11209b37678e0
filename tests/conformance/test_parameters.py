"""Every kind of parameter and gradient: none, zero, empty, 0-dim, complex, frozen, thawed late."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from conformance.subjects import NETWORK, assert_same_state, flat, gradients, state_of
from conformance.table import CASES, ROWS


PLAIN = [name for name, row in ROWS.items() if not row.wraps]
CLOSE = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def made(name, params, **options):
    row = CASES[name]
    return row.build(params, **{**row.settings, **options})


def steps(optimizer, closure, count=4):
    for _ in range(count):
        optimizer.step(closure)


def parameters(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    values = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)
    return [nn.Parameter(v) for v in values]


# ---- one maths, however it is called --------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLAIN)
def test_all_at_once_is_tensor_by_tensor(name, seed):
    row = ROWS[name]
    options = row.draw(seed)
    paths = []
    for foreach in (False, True):
        model = NETWORK.model()
        optimizer = row.build(model.parameters(), **{**options, "foreach": foreach})
        paths.append(NETWORK.walk(optimizer, model, 20))
    torch.testing.assert_close(*paths, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", PLAIN)
def test_all_at_once_with_every_kind_of_tensor_in_one_group(name):
    kept = []
    for foreach in (False, True):
        params = parameters((3, 2), (), (0,), (4,)) + parameters((2, 2), dtype=torch.float32)
        params += [nn.Parameter(torch.ones(2, 3, dtype=torch.complex128).t())]
        late = params.pop(3)
        optimizer = made(name, [*params, late], foreach=foreach)
        steps(optimizer, gradients(params))
        steps(optimizer, gradients([*params, late]))
        kept.append([p.detach() for p in (*params, late)])
    for one, many in zip(*kept, strict=True):
        torch.testing.assert_close(
            one, many, rtol=1e-7 if one.dtype == torch.float32 else 1e-15, atol=1e-15
        )


@pytest.mark.parametrize("name", CASES)
def test_one_group_is_many_groups(name):
    paths = []
    for split in (False, True):
        model = NETWORK.model()
        groups = [{"params": [p]} for p in model.parameters()] if split else model.parameters()
        paths.append(NETWORK.walk(made(name, groups), model, 10))
    assert all(torch.equal(a, b) for a, b in zip(*paths, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_named_parameters_step_as_others(name):
    paths = []
    for named in (False, True):
        model = NETWORK.model()
        params = model.named_parameters() if named else model.parameters()
        paths.append(NETWORK.walk(made(name, params), model, 10))
    assert all(torch.equal(a, b) for a, b in zip(*paths, strict=True))


# ---- gradients ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "extra", [{"maximize": True}, {"weight_decay": 0.1}, {"l1": 0.1}, {}], ids=str
)
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_leaves_the_gradients_as_they_were(name, foreach, extra):
    params = parameters((3, 2), (4,))
    optimizer = made(name, params, foreach=foreach, **{"weight_decay": 0.0, **extra})
    for decoupled in (False, True):
        optimizer.param_groups[0]["decoupled_weight_decay"] = decoupled
        give = gradients(params)
        give()
        held = [p.grad for p in params]
        before = flat(held)
        optimizer.step((lambda: None) if ROWS[name].needs_closure else None)
        assert all(p.grad is g for p, g in zip(params, held, strict=True))
        assert torch.equal(flat(held), before)


@pytest.mark.parametrize("name", CASES)
def test_wrappers_leave_the_gradients_too(name):
    params = parameters((3, 2))
    optimizer = made(name, params)
    gradients(params)()
    held, before = params[0].grad, params[0].grad.clone()
    optimizer.step((lambda: None) if CASES[name].needs_closure else None)
    assert params[0].grad is held
    assert torch.equal(held, before)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimize", "maximize"])
@pytest.mark.parametrize("foreach", [False, True])
class TestDecayByHand:
    """On a rule without state the three decays are one line each."""

    lr, size = 0.1, 0.3

    def after(self, foreach, sign, **options):
        (p,) = parameters((5,))
        self.start = p.detach().clone()
        optimizer = ROWS["sgd"].cls([p], lr=self.lr, foreach=foreach, maximize=sign < 0, **options)
        gradients([p])()
        self.grad = sign * p.grad
        optimizer.step()
        return p.detach()

    def test_l2(self, foreach, sign):
        p = self.after(foreach, sign, weight_decay=self.size)
        CLOSE(p, self.start - self.lr * (self.grad + self.size * self.start))

    def test_l1(self, foreach, sign):
        p = self.after(foreach, sign, l1=self.size)
        CLOSE(p, self.start - self.lr * (self.grad + self.size * self.start.sign()))

    def test_decoupled(self, foreach, sign):
        p = self.after(foreach, sign, weight_decay=self.size, decoupled_weight_decay=True)
        CLOSE(p, self.start * (1 - self.lr * self.size) - self.lr * self.grad)


@pytest.mark.parametrize("name", CASES)
def test_zero_gradients_move_nothing_at_first_and_break_nothing_later(name):
    params = parameters((3, 2), (4,))
    optimizer = made(name, params, weight_decay=0.0)
    before = flat(params)

    def zeros():
        for p in params:
            p.grad = torch.zeros_like(p)

    steps(optimizer, zeros)
    CLOSE(flat(params), before, rtol=0)
    steps(optimizer, gradients(params))
    steps(optimizer, zeros, 50)
    assert flat(params).isfinite().all()


@pytest.mark.parametrize("value", [1e-30, 0.1, 1e15])
@pytest.mark.parametrize("name", ROWS)
def test_constant_gradients_stay_finite(name, value):
    params = parameters((3,), dtype=torch.float32)
    optimizer = made(name, params, lr=1e-6)

    def constant():
        params[0].grad = torch.full((3,), value)

    steps(optimizer, constant, 500)
    assert flat(params).isfinite().all()


def test_centered_rmsprop_with_a_gradient_whose_variance_rounds_below_zero():
    p = nn.Parameter(torch.zeros(200))
    for foreach in (False, True):
        optimizer = ROWS["rmsprop"].cls([p], lr=0.0, alpha=0.5, centered=True, foreach=foreach)
        for _ in range(60):
            p.grad = torch.linspace(0.1, 3.0, 200)
            optimizer.step()
            optimizer.param_groups[0]["lr"] = 1e-12
        assert p.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_no_gradient_no_step_and_no_state(name):
    params = parameters((3, 2), (4,))
    optimizer = made(name, params)
    before = flat(params)
    steps(optimizer, lambda: None)
    assert torch.equal(flat(params), before)
    assert not state_of(optimizer)


@pytest.mark.parametrize("name", CASES)
def test_frozen_parameters_stay(name):
    model, alone = NETWORK.model(), NETWORK.model()
    for net in (model, alone):
        net[0].requires_grad_(False)
    everything = made(name, model.parameters())
    NETWORK.walk(everything, model, 5)
    NETWORK.walk(made(name, alone[2].parameters()), alone, 5)
    assert torch.equal(flat(model.parameters()), flat(alone.parameters()))
    assert not any(p in everything.state for p in model[0].parameters())


@pytest.mark.parametrize("name", CASES)
def test_frozen_with_a_gradient_left_over(name):
    params = parameters((3, 2), (4,))
    optimizer = made(name, params)
    gradients(params)()
    params[0].requires_grad_(False)
    optimizer.step((lambda: None) if CASES[name].needs_closure else None)
    assert flat(params).isfinite().all()


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_a_parameter_thawed_late_starts_fresh(name, foreach):
    early, late = parameters((4,), (4,))
    fresh = nn.Parameter(late.detach().clone())
    optimizer = made(name, [early, late], foreach=foreach)
    alone = made(name, [fresh], foreach=foreach)
    steps(optimizer, gradients([early]), 50)
    one, other = gradients([late], seed=3), gradients([fresh], seed=3)
    first = gradients([early])
    for _ in range(10):
        first()
        one()
        optimizer.step(lambda: None)
        alone.step(other)
        torch.testing.assert_close(late, fresh, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", [n for n, row in CASES.items() if row.wraps])
def test_a_parameter_thawed_late_is_averaged_from_its_own_start(name):
    early, late = parameters((4,), (4,))
    fresh = nn.Parameter(late.detach().clone())
    optimizer, alone = made(name, [early, late]), made(name, [fresh])
    steps(optimizer, gradients([early]), 20)
    both = gradients([early, late], seed=3)
    steps(optimizer, both, 5)

    def same():
        fresh.grad = late.grad.clone()

    steps(alone, same, 5)
    CLOSE(late, fresh)
    with optimizer.evaluation(), alone.evaluation():
        CLOSE(late, fresh)


# ---- shapes and types -----------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_any_shape(name, shape):
    params = parameters(shape, (2,))
    optimizer = made(name, params)
    steps(optimizer, gradients(params))
    assert params[0].shape == shape
    assert flat(params).isfinite().all()
    with optimizer.evaluation():
        assert params[0].shape == shape
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, gradients(params))


@pytest.mark.parametrize("name", CASES)
def test_strides_do_not_matter(name):
    (plain,) = parameters((4, 3))
    turned = nn.Parameter(plain.detach().t().contiguous().t())
    assert not turned.is_contiguous()
    grad = gradients([plain])
    one, other = made(name, [plain]), made(name, [turned])

    def same():
        grad()
        turned.grad = plain.grad.t().contiguous().t()

    for _ in range(5):
        same()
        one.step(lambda: None)
        other.step(lambda: None)
    CLOSE(turned.detach(), plain.detach())
    assert not turned.is_contiguous()


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_complex_parameters_are_pairs_of_reals(name, shape):
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(shape, dtype=torch.complex128, generator=generator)
    z = nn.Parameter(start.clone())
    pair = nn.Parameter(torch.view_as_real(start).clone())
    extra = {} if CASES[name].wraps else {"l1": 0.01, "foreach": True}
    first, second = made(name, [z], **extra), made(name, [pair], **extra)
    grad = torch.randn(shape, dtype=torch.complex128, generator=generator)
    for t in range(6):
        z.grad = grad * (t + 1)
        pair.grad = torch.view_as_real(z.grad).clone()
        first.step(lambda: None)
        second.step(lambda: None)
    CLOSE(torch.view_as_real(z.detach()), pair.detach())
    with first.evaluation(), second.evaluation():
        CLOSE(torch.view_as_real(z.detach()), pair.detach())
    first.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)], ids=str
)
@pytest.mark.parametrize("name", CASES)
def test_low_precision_follows_double(name, dtype, tolerance):
    (p,), (exact,) = parameters((6,), dtype=dtype), parameters((6,), dtype=dtype)
    exact = nn.Parameter(exact.detach().double())
    optimizer, reference = made(name, [p]), made(name, [exact])
    for _ in range(5):
        p.grad, exact.grad = p.detach().sin(), exact.detach().sin()
        optimizer.step(lambda: None)
        reference.step(lambda: None)
    assert p.dtype == dtype
    assert all(
        t.dtype in {dtype, torch.float32}
        for t in optimizer.state[p].values()
        if isinstance(t, torch.Tensor)
    )
    torch.testing.assert_close(p.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PLAIN)
def test_sparse_gradients_are_refused_before_anything_changed(name):
    params = parameters((3,), (4,))
    optimizer = made(name, params)
    steps(optimizer, gradients(params), 2)
    params[0].grad, params[1].grad = torch.ones(3).double(), torch.ones(4).double().to_sparse()
    before, state = flat(params), state_of(optimizer)
    with pytest.raises(TypeError, match=r"\.step\(\): sparse gradients are not supported"):
        optimizer.step(lambda: None)
    assert torch.equal(flat(params), before)
    assert_same_state(state, state_of(optimizer))
