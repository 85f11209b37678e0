"""Splits are disjoint, cover everything, keep proportions; the hash follows the numbers."""

import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from thalweg.problems import Data, load
from thalweg.problems.data import SPLITS


FIXED_ROWS = ([3, 8], [10, 6])
FIXED_HASH = "e40d1f8ea50b2500d8ed7d0d3b2ba6000360df437d2ecc4513ff90a018818f4e"
DIGITS_HASH = "d2332e36aa50cc9bc9062e089fb619f4a4ac604f82e1ea24569c21d800db9583"


def numbered(count: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs that say which sample they are."""
    return torch.arange(float(count)).reshape(count, 1), torch.arange(count) % classes


def samples(data: Data, split: str) -> list[int]:
    return data.of(split)[0].flatten().int().tolist()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(3, 200),
    classes=st.integers(1, 8),
    validation=st.floats(0.01, 0.45),
    test=st.floats(0.01, 0.45),
    seed=st.integers(0, 99),
)
def test_splits_are_a_partition_in_proportion(count, classes, validation, test, seed):
    x, y = numbered(count, classes)
    sizes = {"test": max(1, round(test * count)), "validation": max(1, round(validation * count))}
    if sum(sizes.values()) >= count:
        return
    data = Data.split(x, y, validation=validation, test=test, seed=seed)
    parts = {split: samples(data, split) for split in SPLITS}
    assert sorted(n for part in parts.values() for n in part) == list(range(count))
    assert {split: len(parts[split]) for split in sizes} == sizes
    for split in SPLITS:
        inputs, targets = data.of(split)
        assert torch.equal(targets, inputs.flatten().long() % classes)
    for label in range(classes):
        share = (y == label).double().mean().item()
        held = sum(n % classes == label for n in parts["test"])
        assert abs(held - share * sizes["test"]) < 1 + classes * share


def test_split_depends_on_the_seed_alone():
    x, y = numbered(50)
    state = torch.get_rng_state()
    first = Data.split(x, y, seed=1)
    torch.manual_seed(77)
    assert Data.split(x, y, seed=1).sha256 == first.sha256
    assert Data.split(x, y, seed=2).sha256 != first.sha256
    torch.set_rng_state(state)
    Data.split(x, y)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_permutation_and_the_hash_are_fixed_for_ever():
    data = Data.split(*numbered(12))
    assert (samples(data, "test"), samples(data, "validation")) == FIXED_ROWS
    assert data.sha256 == FIXED_HASH


def test_hash_changes_with_any_number_dtype_shape_or_place():
    def data(x, y):
        return Data((x, y), (x[:2], y[:2]), (x[:3], y[:3]))

    x, y = numbered(8)
    changed = x.clone()
    changed[7] += 1
    variants = [
        data(x, y),
        data(changed, y),
        data(x, y.flip(0)),
        data(x.double(), y),
        data(x.reshape(8, 1, 1), y),
        Data((x, y), (x[:3], y[:3]), (x[:2], y[:2])),
    ]
    assert len({variant.sha256 for variant in variants}) == len(variants)
    assert data(x.clone(), y.clone()).sha256 == variants[0].sha256
    assert data(x.t().contiguous().t(), y).sha256 == variants[0].sha256
    assert pickle.loads(pickle.dumps(variants[0])).sha256 == variants[0].sha256


def test_arrays_take_the_dtypes_that_models_expect_and_tensors_keep_theirs():
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10, dtype=np.int32) % 2
    data = Data.split(x, y)
    assert data.train[0].dtype == torch.float32
    assert data.train[1].dtype == torch.int64
    kept = Data.split(torch.from_numpy(x), torch.from_numpy(y))
    assert kept.train[0].dtype == torch.float64
    assert kept.train[1].dtype == torch.int32


def test_splits_are_copies():
    x, y = numbered(10)
    data = Data.split(x, y)
    before = data.train[0].clone()
    x.zero_()
    assert torch.equal(data.train[0], before)


X, Y = numbered(10)
BROKEN = X.clone()
BROKEN[3] = float("nan")


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (X[:0], Y[:0], {}, "Data.split: x is empty; it must hold at least one sample."),
        (X, Y[:9], {}, "the same number of samples; x holds 10 and y holds 9."),
        (BROKEN, Y, {}, "x must be finite; 1 of its 10 entries are NaN or infinite."),
        (X, torch.full((10,), torch.inf), {}, "y must be finite; 10 of its 10 entries"),
        (torch.tensor(1.0), Y, {}, "x must have one row a sample; it is a single number."),
        ("abc", Y, {}, "Data.split(x='abc'): x must be a tensor or an array of numbers."),
        (X, [[1], [2, 3]], {}, "y must be a tensor or an array of numbers."),
        (X, Y, {"test": 0.0}, "Data.split(test=0.0): test must be a fraction in (0, 1)."),
        (X, Y, {"validation": 1.5}, "validation must be a fraction in (0, 1)."),
        (X, Y, {"validation": 0.5, "test": 0.5}, "must leave samples to train on; x holds 10."),
        (X[:2], Y[:2], {}, "must leave samples to train on; x holds 2."),
        (X, Y, {"seed": -1}, "seed must be an integer >= 0."),
    ],
)
def test_split_messages(x, y, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Data.split(x, y, **options)


def test_a_data_of_ones_own_is_checked_split_by_split():
    with pytest.raises(ValueError, match=r"Data.validation: x is empty"):
        Data((X, Y), (X[:0], Y[:0]), (X, Y))
    with pytest.raises(ValueError, match=r"Data.of\(split='tset'\): split must be one of train, v"):
        Data.split(X, Y).of("tset")


def test_digits_have_known_splits_and_a_provenance():
    data = load("digits").data
    assert data is not None
    assert [len(data.of(split)[0]) for split in SPLITS] == [1168, 270, 359]
    assert data.train[0].min() == 0
    assert data.train[0].max() == 1
    assert data.sha256 == DIGITS_HASH
    assert "Alpaydin" in data.source
    assert "CC BY 4.0" in data.licence
    for split in SPLITS:
        counts = data.of(split)[1].bincount(minlength=10) / len(data.of(split)[1])
        assert (counts - 0.1).abs().max() < 0.01
