"""Torch's own closures are handed to every method, on purpose: no word about it."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let methods that look at curvature take differences without saying so."""
    kind = "thalweg.optim.products.CurvatureFallbackWarning"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
