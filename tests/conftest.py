"""One thread, one seed, no window: what makes a test say the same thing twice."""

from __future__ import annotations

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings


torch.set_num_threads(1)
mpl.use("Agg")

# The first call of a torch kernel is slow, which is no fault of the property under test.
settings.register_profile("thalweg", deadline=None, derandomize=True)
settings.load_profile("thalweg")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same global random state."""
    torch.manual_seed(0)
