"""Conjugate directions, their n steps and the zig-zag; anything else is found out."""

from functools import partial

import numpy as np
import pytest
import torch

from thalweg.optim import SGD, NonlinearCG
from thalweg.reproduce import cg_conjugacy


def test_every_claim_holds():
    found = cg_conjugacy.claims()
    assert [claim.claim for claim in found if not claim.holds] == []


def test_the_error_is_that_of_the_textbook_recurrence():
    bowl = cg_conjugacy.spread()
    matrix, x = bowl.matrix.numpy(), np.zeros(cg_conjugacy.N)
    residual = matrix @ np.ones(cg_conjugacy.N)
    direction, errors = residual.copy(), []
    for _ in range(10):
        image = matrix @ direction
        alpha = residual @ residual / (direction @ image)
        x = x + alpha * direction
        new = residual - alpha * image
        direction = new + new @ new / (residual @ residual) * direction
        residual = new
        off = x - 1
        errors.append((off @ matrix @ off / matrix.sum()) ** 0.5)
    path = bowl.path(cg_conjugacy.ConjugateGradient, torch.zeros(20).double(), 10)
    assert bowl.errors(path)[1:] == pytest.approx(errors, rel=1e-8)


@pytest.mark.parametrize(
    "broken",
    [partial(SGD, lr=0.01), partial(NonlinearCG, curvature=0.9), partial(NonlinearCG, restart=2)],
)
def test_another_method_is_found_out(broken):
    assert not all(claim.holds for claim in cg_conjugacy.conjugacy(broken)[:2])
    assert not all(claim.holds for claim in cg_conjugacy.endings(broken)[:2])
