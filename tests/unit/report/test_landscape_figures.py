"""Figures of surfaces: levels, classes, paths, strips, hidden lines, lines and spectra."""

from __future__ import annotations

from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from thalweg.landscape import Line, PlanePath, Surface
from thalweg.report import canvas, landscapes, style
from thalweg.report.heights import bilinear, heights_of, picture_loss
from thalweg.report.landscapes.sight import Block
from unit.report.valleys import broken, height, valley


@pytest.fixture(scope="module")
def surface():
    return valley(21, 17)


@pytest.fixture(scope="module")
def whole(surface):
    """The figure with everything in it, drawn once; a test that reads it leaves it as it is."""
    return landscapes.plane(surface)


def legend_of(figure):
    held = figure.legends or [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    return [text.get_text() for text in held[0].get_texts()]


def test_levels_are_even_in_the_logarithm_above_the_lowest_point(surface):
    heights = heights_of(surface)
    assert heights.base == surface.loss.min()
    steps = np.diff(np.log(heights.levels[1:] - heights.base))
    np.testing.assert_allclose(steps, steps[0])
    assert not heights.over
    assert heights.ceiling == surface.loss.max()
    assert np.ptp(np.diff(heights_of(surface, "accuracy").levels)) < 1e-12


def test_a_huge_corner_is_a_class_of_its_own_and_leaves_the_valley_its_levels(surface):
    peak = broken(surface, peak=1e9)
    heights = heights_of(peak)
    assert heights.over
    assert heights.ceiling < 20 * surface.loss.max()
    figure = landscapes.plane(peak, strip=False)
    assert f"> {heights.ceiling:.3g}" in legend_of(figure)
    filled = figure.axes[0].collections[0]
    assert filled.norm.vmax <= heights.ceiling * 1.001
    assert (filled.levels == heights.levels).all()
    assert matplotlib.colors.to_hex(filled.get_facecolor()[-1]) == style.TONES["beyond"][0]


def test_the_ceiling_is_never_under_a_path(surface):
    high = PlanePath("sgd", [[-2.0, -1.0], [0, 0]], [0, 0], [1.0, 1.0], [0, 1])
    flat = replace(surface, metrics={"loss": np.where(surface.loss > 60, 5000.0, 0.1)}, paths=())
    assert heights_of(flat.with_paths(high)).ceiling == 5000.0


def test_what_is_not_finite_or_not_computed_is_drawn_and_named(surface):
    whole = landscapes.plane(surface, strip=False)
    assert not any("not" in name for name in legend_of(whole))
    holed = broken(surface, nan=[(8, 10)], inf=[(9, 10)], missing=[(2, 2), (2, 3), (3, 3)])
    figure = landscapes.plane(holed, strip=False)
    names = legend_of(figure)
    assert "not finite (2)" in names
    assert "not computed (3)" in names
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 1
    # The contours have a hole there, and nothing was made up in its place.
    filled = figure.axes[0].collections[0]
    here = (surface.x[10], surface.y[8])
    assert not any(path.contains_point(here) for path in filled.get_paths())
    assert any(path.contains_point((surface.x[4], surface.y[12])) for path in filled.get_paths())


def test_nothing_finite_and_wrong_arguments_are_refused(surface):
    nowhere = replace(surface, metrics={"loss": np.full(surface.loss.shape, np.nan)})
    for make, said in (
        (lambda: landscapes.plane(nowhere), "no point"),
        (lambda: landscapes.plane(surface, "acuracy"), "one of loss, accuracy"),
        (lambda: landscapes.plane(surface, ceiling=-1.0), "above the lowest value"),
        (lambda: landscapes.plane(surface, scale="cubic"), "'log', 'linear'"),
        (lambda: landscapes.residuals(valley(paths=False)), "no paths"),
        (lambda: landscapes.convexity(surface), "with the metric convexity"),
    ):
        with pytest.raises(ValueError, match=said):
            make()


def test_rows_are_y_and_columns_are_x():
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 1, 3)
    tilted = Surface(x, y, {"loss": x + 10 * y[:, None]}, np.full((3, 5), True))
    ax = landscapes.plane(tilted, scale="linear", strip=False).axes[0]
    assert ax.get_xlim() == (-1, 1)
    assert ax.get_ylim() == (0, 1)
    bands = ax.collections[0].get_paths()
    assert bands[0].contains_point((-0.9, 0.02))
    assert bands[-2].contains_point((0.9, 0.98))


def test_paths_are_where_they_are_with_start_and_end(surface, whole):
    ax = whole.axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    for path in surface.paths:
        np.testing.assert_allclose(lines[path.name].get_xydata(), path.xy)
        assert lines[path.name].get_color() == style.series(path.name).colour
    assert legend_of(whole) == ["sgd", "adam", "start", "end"]
    rings = [x for x in ax.lines if x.get_marker() == "o" and x.get_markersize() == 6.5]
    np.testing.assert_allclose(rings[0].get_xydata(), surface.paths[0].xy[:1])


def test_strips_show_the_residual_and_both_losses(surface, whole):
    _, off, losses = whole.axes[:3]
    for line, path in zip(off.lines, surface.paths, strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([path.steps, path.residual]))
    assert "‖d − Pd‖ / ‖d‖" in off.get_ylabel()
    true, shown = losses.lines[:2]
    path = surface.paths[0]
    np.testing.assert_allclose(true.get_ydata(), path.loss)
    np.testing.assert_allclose(shown.get_ydata(), picture_loss(surface, path))
    assert np.nanmax(np.abs(shown.get_ydata() / true.get_ydata() - 1)) > 0.05
    assert [text.get_text() for text in losses.get_legend().get_texts()] == [
        "true",
        "in the picture",
    ]
    assert len(landscapes.plane(surface, strip=False).axes) == 1


def test_aspect_is_equal_where_it_fits_or_is_asked_for(surface):
    assert landscapes.plane(surface, strip=False).axes[0].get_aspect() == 1
    flat = replace(surface, y=surface.y / 10, paths=())
    assert landscapes.plane(flat).axes[0].get_aspect() == "auto"
    assert landscapes.plane(flat, equal=True).axes[0].get_aspect() == 1


def test_figures_take_axes_and_leave_global_settings(surface):
    before = dict(matplotlib.rcParams)
    figure = Figure(figsize=(11, 9), layout="constrained")
    ax = figure.subplots(2, 2).ravel()
    assert landscapes.plane(surface, ax=ax[0]) is figure
    assert landscapes.residuals(surface, ax=ax[1]) is figure
    assert landscapes.losses(surface, ax=ax[2]) is figure
    line = Line([0, 1], {"loss": [1.0, 2.0]})
    assert landscapes.profile(line, ax=ax[3]) is figure
    space = Figure().add_subplot(projection="3d")
    assert landscapes.relief(surface, ax=space) is canvas.root(space)
    for kind in ("svg", "pdf"):
        assert canvas.render(landscapes.profile(line), kind)
    assert dict(matplotlib.rcParams) == before


def test_dark_figures_have_dark_paper(surface):
    with style.dark():
        figures = [landscapes.plane(surface, strip=False), landscapes.relief(surface)]
    for figure in figures:
        assert matplotlib.colors.to_hex(figure.get_facecolor()) == style.TONES["paper"][1]


def test_between_grid_points_the_picture_is_bilinear():
    x, y = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0])
    z = 2 * x + 3 * y[:, None] + x * y[:, None]
    rng = np.random.default_rng(0)
    points = rng.uniform([0, 0], [3, 2], (50, 2))
    expected = 2 * points[:, 0] + 3 * points[:, 1] + points[:, 0] * points[:, 1]
    np.testing.assert_allclose(bilinear(x, y, z, points), expected)
    assert np.isnan(bilinear(x, y, z, [[3.1, 1.0]])).all()
    assert bilinear(x, y, z, [[3.0, 2.0]])[0] == z[1, 2]


def test_hidden_points_are_those_behind_a_wall():
    """Against the plain geometry of a wall of height 1 at x = 0, seen along x."""
    x = np.linspace(-1, 1, 201)
    wall = Block(x, np.array([-1.0, 1.0]), np.tile(np.abs(x) < 0.02, (2, 1)) * 1.0, (2, 2, 1))
    for elev in (10.0, 30.0, 60.0):
        behind = np.linspace(-0.95, -0.1, 9)
        points = np.column_stack([behind, 0 * behind, 0 * behind])
        expected = np.tan(np.radians(elev)) * np.abs(behind) < 1.0
        sure = np.abs(np.tan(np.radians(elev)) * np.abs(behind) - 1.0) > 0.1
        assert (wall.hidden(points, elev, 0.0) == expected)[sure].all()
        assert not wall.hidden(points * [-1, 1, 1], elev, 0.0).any()


def test_relief_draws_each_face_at_its_height_and_cuts_at_the_ceiling(surface):
    figure = landscapes.relief(surface, ceiling=5.0)
    ax = figure.axes[0]
    faces = next(c for c in ax.collections if isinstance(c, Poly3DCollection))
    heights = heights_of(surface, ceiling=5.0, scale="log")
    corners = faces._faces[~faces._invalid_vertices]
    assert corners[:, 2].max() == pytest.approx(1)
    # Where a face is cut, the edge is straight and the valley is not.
    true = heights.norm(height(corners[:, 0], corners[:, 1]))
    np.testing.assert_allclose(corners[:, 2], true, atol=0.06)
    assert "> 5, cut off" in legend_of(figure)


def test_relief_leaves_holes_and_marks_what_is_behind(surface):
    hole = [(i, j) for i in range(6, 10) for j in range(12, 16)]
    whole, holed = landscapes.relief(surface), landscapes.relief(broken(surface, nan=hole))
    count = [
        len(next(c for c in f.axes[0].collections if isinstance(c, Poly3DCollection))._faces)
        for f in (whole, holed)
    ]
    assert count[0] == 20 * 16
    assert count[1] == count[0] - 25
    assert "hole: not finite (16)" in legend_of(holed)
    seen = landscapes.relief(surface, elev=90)
    assert "behind" not in legend_of(seen)
    assert "behind" in legend_of(landscapes.relief(surface, elev=5, azim=100))


def test_relief_at_true_loss_has_plumb_lines(surface):
    on = landscapes.relief(surface)
    true = landscapes.relief(surface, path_height="true")
    assert len(true.axes[0].collections) == len(on.axes[0].collections) + len(surface.paths)
    with pytest.raises(ValueError, match="'picture', 'true'"):
        landscapes.relief(surface, path_height="both")


def test_convexity_is_the_ratio_of_the_extreme_eigenvalues(surface):
    low, high = -0.2 * np.abs(surface.x) + 0 * surface.loss, np.full(surface.loss.shape, 2.0)
    metrics = {"loss": surface.loss, "lambda_min": low, "lambda_max": high}
    figure = landscapes.convexity(replace(surface, metrics=metrics))
    mesh = next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    np.testing.assert_allclose(mesh.get_array().reshape(low.shape), np.abs(low) / 2)
    coarse = Surface(
        [0, 1, 2], [0, 1, 2], {"convexity": np.full((3, 3), 0.1)}, np.full((3, 3), True)
    )
    drawn = landscapes.convexity(coarse).axes[0].collections
    assert len(drawn) + 1 == len(figure.axes[0].collections)  # no levels through three points
    metrics["convexity"] = np.where(low < -0.39, np.nan, np.abs(low) / 2)
    named = landscapes.convexity(replace(surface, metrics=metrics))
    assert any(name.startswith("not finite (") for name in legend_of(named))


def test_a_profile_has_train_and_test():
    t = np.linspace(-0.2, 1.2, 15)
    line = Line(
        t, {"loss": (1 - t) ** 2 + 0.1, "test": (1 - t) ** 2 + 0.3, "accuracy": t}, "a to b"
    )
    figure = landscapes.profile(line, barrier=0.25)
    assert legend_of(figure) == ["train", "test"]
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), line.metrics["test"])
    assert figure.axes[0].get_xlabel() == "a to b"
    assert any("barrier 0.25" in text.get_text() for text in figure.axes[0].texts)
    both = landscapes.profile({"straight": line, "curve": line}, ["loss", "test"], log=True)
    assert legend_of(both) == ["straight, train", "straight, test", "curve, train", "curve, test"]
    assert both.axes[0].get_yscale() == "log"
    with pytest.raises(ValueError, match="of loss, test, accuracy"):
        landscapes.profile(line, "error")


@dataclass
class Density:
    nodes: object
    weights: object
    n: int


def test_spectra_count_the_eigenvalues_of_each_step():
    densities = {
        step: Density([[-0.5, 0.0, 1.0, top]], [[0.1, 0.6, 0.2, 0.1]], 1000)
        for step, top in ((0, 2.0), (10, 5.0), (20, 9.0))
    }
    monitor = [{"step": 5, "sharpness": 4.0, "ratio": 0.5}, {"step": 15, "sharpness": 8.0}]
    figure = landscapes.spectra(densities, monitor=monitor)
    ax = figure.axes[0]
    mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
    counts = mesh.get_array().filled(0)
    np.testing.assert_allclose(counts.sum(axis=0), 1000)
    np.testing.assert_allclose(counts.max(axis=0), 600)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["largest and smallest"].get_ydata(), [2, 5, 9])
    np.testing.assert_allclose(lines["largest stable"].get_ydata(), [8.0])
    with pytest.raises(ValueError, match="one density or more"):
        landscapes.spectra({})


def test_text_stays_text_in_svg(whole):
    drawing = canvas.render(whole, "svg").decode()
    assert "first component (71%)</text>" in drawing
    assert "in the picture</text>" in drawing
