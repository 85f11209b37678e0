"""Plain data: what is written is what is read, and a wrong shape is refused."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.landscape import Line, PlanePath, Surface


def surface() -> Surface:
    x, y = np.linspace(-1, 1, 4), np.linspace(0, 3, 3)
    loss = x + 10 * y[:, None]
    loss[2, 3] = np.nan
    computed = np.full((3, 4), True)
    computed[0, 0] = False
    path = PlanePath(
        "adam",
        np.arange(6.0).reshape(3, 2),
        np.array([0.5, 0.1, 0.0]),
        np.array([3.0, np.inf, np.nan]),
        np.array([0, 5, 9]),
    )
    metrics = {"loss": loss, "accuracy": np.zeros((3, 4))}
    return Surface(x, y, metrics, computed, ("δ", "η"), (path,), {"seed": 3, "kind": "filter"})


def test_a_surface_survives_its_file(tmp_path):
    before = surface()
    before.save(tmp_path / "plane.npz")
    after = Surface.load(tmp_path / "plane.npz")
    assert list(after.metrics) == ["loss", "accuracy"]
    assert after.labels == ("δ", "η")
    assert after.meta == before.meta
    for name in ("x", "y", "computed"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(after.loss, before.loss)
    (path,) = after.paths
    for name in ("xy", "residual", "loss", "steps"):
        np.testing.assert_array_equal(getattr(path, name), getattr(before.paths[0], name))
    assert [file.name for file in tmp_path.iterdir()] == ["plane.npz"]


def test_a_line_survives_its_file(tmp_path):
    line = Line(np.linspace(0, 1, 3), {"loss": np.array([1.0, np.nan, 2.0])}, "a to b", {"n": 1})
    line.save(tmp_path / "line.npz")
    after = Line.load(tmp_path / "line.npz")
    np.testing.assert_array_equal(after.loss, line.loss)
    assert (after.label, after.meta) == ("a to b", {"n": 1})


def test_a_file_of_the_other_kind_is_refused(tmp_path):
    surface().save(tmp_path / "plane.npz")
    with pytest.raises(ValueError, match="holds surface, no line"):
        Line.load(tmp_path / "plane.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(ValueError, match="something else, no surface"):
        Surface.load(tmp_path / "other.npz")


def test_shapes_are_checked():
    x, y = np.zeros(4), np.zeros(3)
    with pytest.raises(ValueError, match=r"metrics\['loss'\].*shape \(3, 4\)"):
        Surface(x, y, {"loss": np.zeros((4, 3))}, np.full((3, 4), True))
    with pytest.raises(ValueError, match="computed must be"):
        Surface(x, y, {"loss": np.zeros((3, 4))}, np.full((4, 3), True))
    with pytest.raises(ValueError, match="at least one metric"):
        Line(x, {})
    with pytest.raises(ValueError, match="xy must be"):
        PlanePath("sgd", np.zeros((2, 3)), np.zeros(2), np.zeros(2), np.zeros(2))


def test_paths_are_added():
    before = surface()
    after = before.with_paths(before.paths[0])
    assert len(after.paths) == 2
    assert len(before.paths) == 1
    assert after.loss is before.loss
