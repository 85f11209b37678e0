"""Vector has the algebra of one tensor: every law is tried against the flat tensor."""

from __future__ import annotations

import copy
import math
import operator
import pickle

import pytest
import torch
from hypothesis import given, strategies as st

from thalweg import Vector


NUMBERS = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)
SHAPES = st.lists(st.sampled_from([(), (0,), (3,), (2, 2), (1, 0, 2), (2, 1, 3)]), max_size=5)


def flat(v: Vector) -> torch.Tensor:
    return torch.cat([torch.zeros(0, dtype=torch.float64), *(p.reshape(-1) for p in v)])


@st.composite
def alike(draw, count=2):
    """Vectors of the same shapes, some of them on one flat buffer."""
    shapes, seed = draw(SHAPES), draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        v = Vector([torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes])
        made.append(v.flatten() if draw(st.booleans()) else v)
    return made


def same(v: Vector, expected: torch.Tensor) -> None:
    torch.testing.assert_close(flat(v), expected, rtol=1e-13, atol=1e-13)


BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
class TestOperators:
    @given(alike())
    def test_of_two_vectors(self, op, pair):
        a, b = pair
        same(op(a, b), op(flat(a), flat(b)))

    @given(alike(1), NUMBERS.filter(bool), st.booleans())
    def test_of_a_vector_and_a_number(self, op, one, x, tensor):
        (a,) = one
        same(op(a, torch.tensor(x, dtype=torch.float64) if tensor else x), op(flat(a), x))

    @given(alike(1), NUMBERS)
    def test_from_the_left_where_it_commutes(self, op, one, x):
        (a,) = one
        if op in (operator.add, operator.mul):
            same(op(x, a), op(x, flat(a)))
            same(op(torch.tensor(x, dtype=torch.float64), a), op(x, flat(a)))

    @given(alike())
    def test_in_place(self, op, pair):
        a, b = pair
        if op is operator.truediv:
            b = b.abs() + 1.0
        method = {"add": "add_", "sub": "sub_", "mul": "mul_", "truediv": "div_"}[op.__name__]
        expected, memory = op(flat(a), flat(b)), [p.data_ptr() for p in a]
        assert getattr(a, method)(b) is a
        same(a, expected)
        assert [p.data_ptr() for p in a] == memory
        assert a.flat is None or torch.equal(a.flat, flat(a))


@given(alike(3), NUMBERS)
def test_linear_algebra(three, x):
    a, b, c = three
    same(a + b - b, flat(a))
    same(x * (a + b), x * flat(a) + x * flat(b))
    same(-a, -flat(a))
    same(a.add(b, alpha=x), flat(a) + x * flat(b))
    same(a.add(2.0, alpha=x), flat(a) + 2.0 * x)
    same(a.addcmul(b, c, value=x), flat(a) + x * flat(b) * flat(c))
    assert a.dot(b).item() == pytest.approx(b.dot(a).item(), abs=1e-12)
    left, right = (a + x * b).dot(c).item(), a.dot(c).item() + x * b.dot(c).item()
    assert left == pytest.approx(right, rel=1e-10, abs=1e-10)
    assert a.dot(b).item() == pytest.approx(torch.dot(flat(a), flat(b)).item(), abs=1e-12)
    assert a.norm().item() == pytest.approx(flat(a).norm().item(), abs=1e-12)
    assert abs(a.dot(b)) <= a.norm() * b.norm() + 1e-12


@given(alike(3), st.floats(0, 1))
def test_fused_operations(three, x):
    a, b, c = three
    fresh = Vector.clone
    same(fresh(a).lerp_(b, x), torch.lerp(flat(a), flat(b), x))
    same(fresh(a).addcmul_(b, c, value=x), flat(a) + x * flat(b) * flat(c))
    divisor = c.abs() + 0.5
    same(fresh(a).addcdiv_(b, divisor, value=x), flat(a) + x * flat(b) / flat(divisor))
    same(fresh(a).clamp_min_(b), torch.maximum(flat(a), flat(b)))
    same(fresh(a).clamp_min_(0.0), flat(a).clamp_min(0.0))
    same(fresh(a).copy_(b), flat(b))
    same(fresh(a).zero_(), torch.zeros_like(flat(a)))
    same(a.abs().sqrt(), flat(a).abs().sqrt())
    same(a.abs().sqrt_(), flat(a).abs().sqrt())
    same(a.sign(), flat(a).sign())
    same(a.mul(b).div(divisor).neg(), -(flat(a) * flat(b) / flat(divisor)))


@pytest.mark.parametrize("alpha", [1 + 1e-10, 1 - 1e-12, 1, -1, 0.0])
def test_alpha_is_not_rounded(alpha):
    v = Vector([torch.zeros(1, dtype=torch.float64)])
    assert v.add(1.0, alpha=alpha)[0].item() == alpha
    assert v.clone().add_(1.0, alpha=alpha)[0].item() == alpha


@given(alike(1))
def test_flatten_is_a_copy_whose_parts_are_views(one):
    (a,) = one
    v = a.flatten()
    assert [p.shape for p in v] == [p.shape for p in a]
    assert v.numel() == a.numel() == v.flat.numel()
    before = flat(a).clone()
    v.flat.add_(1.0)
    same(v, before + 1.0)
    same(a, before)
    v.mul_(2.0)
    assert torch.equal(v.flat, flat(v))
    same(a.like(v.flat.clone()), flat(v))


def test_flatten_reads_any_strides():
    turned = torch.arange(6.0).reshape(2, 3).t()
    assert Vector([turned]).flatten().flat.tolist() == turned.reshape(-1).tolist()


@pytest.mark.parametrize("shape", [(4,), (6,), (5, 1), ()], ids=str)
def test_like_refuses_another_size(shape):
    v = Vector([torch.zeros(2, 2), torch.zeros(())])
    with pytest.raises(
        ValueError, match=r"^Vector\.like\(flat=\(.*\)\): flat must be a flat tensor"
    ):
        v.like(torch.zeros(shape))


def test_like_shares_the_memory_it_is_given():
    buffer = torch.zeros(5)
    v = Vector([torch.zeros(2, 2), torch.zeros(())]).like(buffer)
    v[1].fill_(3.0)
    assert buffer.tolist() == [0, 0, 0, 0, 3]
    assert v.flat is buffer


def test_parts_are_tensors():
    with pytest.raises(TypeError, match=r"every part must be a tensor, got 1\.0"):
        Vector([torch.zeros(2), 1.0])


@pytest.mark.parametrize("flattened", [False, True])
def test_reductions_accumulate_in_double(flattened):
    n = 10_000_000
    part = torch.full((n,), 0.1)
    v = Vector([part], part) if flattened else Vector([part])
    exact = n * float(part[0]) ** 2
    assert v.dot(v).item() == pytest.approx(exact, rel=1e-10)
    assert v.norm().item() == pytest.approx(math.sqrt(exact), rel=1e-10)


def test_many_small_parts_accumulate_in_double():
    parts = [torch.tensor(1e8), *(torch.tensor(1.0) for _ in range(1000))]
    assert Vector(parts).dot(Vector([torch.ones(())] * 1001)).item() == 1e8 + 1000


def test_complex_entries_are_pairs():
    z = torch.tensor([3 + 4j, 1j], dtype=torch.complex64)
    assert Vector([z]).norm().item() == pytest.approx(math.sqrt(26))
    assert Vector([z]).dot(Vector([1j * z])).item() == pytest.approx(0.0)


def test_a_sequence_of_tensors():
    parts = [torch.zeros(2), torch.ones(3)]
    v = Vector(parts)
    assert len(v) == 2
    assert v[1] is parts[1]
    assert all(a is b for a, b in zip(v, parts, strict=True))
    assert repr(v) == "Vector(5 entries in 2 tensors: (2,), (3,))"
    assert repr(Vector(parts * 3)).endswith(", ...)")


def test_clone_and_detach():
    p = torch.ones(2, requires_grad=True)
    v = Vector([p * 2])
    assert not v.clone()[0].requires_grad
    detached = Vector([p]).detach()
    assert not detached[0].requires_grad
    assert detached[0].data_ptr() == p.data_ptr()
    assert Vector([p]).zeros_like()[0].tolist() == [0, 0]


def test_isfinite():
    assert Vector([torch.zeros(2), torch.zeros(0)]).isfinite()
    assert not Vector([torch.zeros(2), torch.tensor(math.nan)]).isfinite()
    assert not Vector([torch.tensor([1.0, math.inf])]).isfinite()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_copies(how):
    v = Vector([torch.ones(2), torch.zeros(1)]).flatten()
    twin = how(v)
    twin.add_(1.0)
    assert v.flat.tolist() == [1, 1, 0]
    assert twin.flat.tolist() == [2, 2, 1]


def test_gradients_flow_through():
    p = torch.tensor([1.0, 2.0], requires_grad=True)
    v = Vector([p, p[:1]])
    (grad,) = torch.autograd.grad((2 * v + v * v).dot(v), p)
    torch.testing.assert_close(grad, torch.tensor([14.0, 20.0]))
