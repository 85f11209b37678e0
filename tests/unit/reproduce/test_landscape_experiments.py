"""The experiments with landscapes find what was published, and would say so if they did not."""

from __future__ import annotations

import pytest

from thalweg.reproduce import dinh_rescaling, experiments


NAMES = [
    "dinh-rescaling",
    "projection-is-not-the-path",
    "skip-connections",
    "linear-path",
    "mode-connectivity",
    "small-batch-flat-minima",
]


def test_they_are_in_the_book():
    assert set(NAMES) <= set(experiments())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_is_the_one_on_record(name):
    outcome = experiments()[name].run()
    assert outcome.as_recorded, [c.claim for c in outcome.claims if not c.as_recorded]
    assert outcome.figures


def test_a_number_that_moves_is_not_the_same():
    same = dinh_rescaling._same("a", "b", [1.0, 1.0, 1.0, 1.0, 1.0])
    moved = dinh_rescaling._same("a", "b", [1.0, 1.0, 1.0, 1.0, 1.0 + 1e-7])
    assert same.holds
    assert not moved.holds
