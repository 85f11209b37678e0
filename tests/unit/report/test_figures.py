"""Figures from fabricated records: what is drawn, in which style, and what breaks none."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from thalweg.report import (
    contour,
    final_results,
    learning_curves,
    paths,
    style,
    tuning_curves,
)
from thalweg.report.canvas import render, save
from thalweg.report.curves import WORST, median_curve
from thalweg.report.gallery import gallery


def drawn(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_learning_curves_draw_the_median_of_the_fresh_seeds(digits):
    study, runs = digits()
    figure = learning_curves(study, runs, quantity="train_loss")
    for entry in study["optimizers"]:
        own = [r for r in runs if r["optimizer"] == entry["label"] and r["stage"] == "confirm"]
        expected = np.median([run["curve"]["train_loss"] for run in own], axis=0)
        np.testing.assert_allclose(drawn(figure)[entry["label"]].get_ydata(), expected)
    text = " ".join(t.get_text() for t in figure.axes[0].texts)
    assert "seeds 1–5" in text
    assert "400 steps" in text
    assert "25–75%" in text


def test_unknown_cost_axis_is_refused(digits):
    with pytest.raises(ValueError, match="Did you mean 'seconds'"):
        learning_curves(*digits(), against="second")


def test_divergence_counts_as_worst_and_leaves_the_axis_alone(digits):
    lost = tuple(("sgd", seed) for seed in (1, 2, 3))
    figure = learning_curves(*digits(lost=lost), quantity="validation_loss")
    assert drawn(figure)["sgd"].get_ydata()[-1] == WORST
    assert figure.axes[0].get_ylim()[1] < 100
    render(figure, "png")


def test_runs_on_different_grids_are_interpolated():
    runs = [
        {"curve": {"step": s, "seconds": s, "train_loss": y}, "status": "finished"}
        for s, y in (([0, 2, 4], [4.0, 2.0, 0.0]), ([0, 4], [4.0, 2.0]))
    ]
    curve = median_curve(runs, "train_loss", "seconds")
    np.testing.assert_allclose(curve.x, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(curve.middle, [4, 3.25, 2.5, 1.75, 1])


def test_a_finished_run_holds_its_last_value_a_diverged_one_does_not():
    long = {"curve": {"step": [0, 1, 2], "train_loss": [3.0, 2.0, 1.0]}, "status": "finished"}
    for status, last in (("finished", 1.5), ("diverged", WORST / 3)):
        short = {"curve": {"step": [0, 1], "train_loss": [3.0, 2.0]}, "status": status}
        assert median_curve([long, short], "train_loss").middle[-1] >= last


def test_tuning_curves_mark_the_chosen_and_the_diverged(digits):
    study, runs = digits(["sgd"])
    figure = tuning_curves(study, runs)
    axes = figure.axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    rings = [x for x in axes.lines if x.get_markersize() == 11]
    tune = [r for r in runs if r["stage"] == "tune" and r["status"] == "finished"]
    best = min(tune, key=lambda run: run["final"]["validation_loss"])
    assert rings[0].get_xdata()[0] == best["hyperparameters"]["lr"]
    crosses = [x for x in axes.lines if x.get_marker() == "x" and len(x.get_xdata())]
    assert len(crosses[0].get_xdata()) == sum(r["status"] == "diverged" for r in runs)


def test_tuning_curves_below_zero_have_a_linear_axis(bowl):
    study, runs = bowl(["sgd", "adam"])
    study["problem"]["surface"]["minima"] = []
    for run in runs:
        if run["status"] == "finished":
            run["final"]["train_loss"] -= 1e6
    axes = tuning_curves(study, runs).axes[0]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] < -1e6


def test_the_layout_is_not_bent_by_what_is_empty(digits):
    study, runs = digits(["sgd", "adam"], 2)
    kept = [run for run in runs if run["optimizer"] == "sgd" or run["status"] == "finished"]
    figure = tuning_curves(study, kept)
    render(figure, "png")
    assert figure.axes[0].get_position().height > 0.5


def test_accuracy_curves_fit_their_axis(digits):
    study, runs = digits(["sgd"], 2)
    for run in runs:
        count = len(run["curve"]["step"])
        run["curve"]["validation_metric"] = [0.05, *([0.9] * (count - 1))]
    axes = learning_curves(study, runs, quantity="validation_metric").axes[0]
    assert axes.get_ylim()[1] > 0.9


def test_final_results_name_every_optimizer_best_first(digits):
    figure = final_results(*digits())
    ticks = figure.axes[0].get_yticklabels()
    assert ticks[0].get_text() == "adam"
    assert ticks[0].get_fontweight() == "bold"
    assert {t.get_text() for t in ticks} == {"sgd", "momentum", "adam", "adamw", "lion"}


def test_the_same_label_has_the_same_style_everywhere(digits):
    study, runs = digits()
    for label in ("sgd", "lion"):
        lines = [drawn(draw(study, runs))[label] for draw in (learning_curves, tuning_curves)]
        assert {line.get_color() for line in lines} == {style.series(label).colour}
        assert {line.get_marker() for line in lines} == {style.series(label).marker}


def test_styles_do_not_depend_on_spelling_or_process():
    assert style.series("Newton CG") == style.series("newton_cg")
    look = style.series("somebody's method")
    assert (look.tone, look.marker) == ("wine", style.series("Somebody's Method").marker)
    fixed = [style._FIXED[name] for name in style._FIXED if name != "lm"]
    assert len(set(fixed)) == len(fixed)


def test_dark_figures_have_dark_paper_and_global_settings_stay(digits):
    before = dict(matplotlib.rcParams)
    with style.dark():
        figure = learning_curves(*digits())
    assert matplotlib.colors.to_hex(figure.get_facecolor()) == style.TONES["paper"][1]
    assert dict(matplotlib.rcParams) == before


def test_paths_start_at_the_start_and_stay_in_the_box(bowl):
    study, runs = bowl()
    figure = paths(study, runs)
    axes = figure.axes[0]
    assert axes.get_xlim() == (-2, 2)
    assert axes.get_ylim() == (-1, 3)
    np.testing.assert_allclose(drawn(figure)["adam"].get_xydata()[0], [-1.5, 2.0])
    with pytest.raises(ValueError, match="no surface"):
        paths({"problem": {"name": "digits", "surface": None}}, runs)


def surface(z, **marks):
    x = np.linspace(-1, 1, 21)
    return {"x": x.tolist(), "y": x.tolist(), "z": z(x[None, :], x[:, None]).tolist()} | marks


@pytest.mark.parametrize(
    "track",
    [
        [[0.5, 0.5], [3.0, 0.5], [1e30, None], [None, None]],
        [[0.5, 0.5], [1e200, -1e200]],
        [[5.0, 5.0], [6.0, 6.0]],
        [[0.5, 0.5]],
        [],
    ],
)
def test_contour_survives_paths_that_leave(track):
    bowl = surface(lambda x, y: x**2 + 50 * y**2, minima=[[0, 0, 0.0]], start=[0.5, 0.5])
    figure = contour(bowl, {"sgd": track}, title="Bowl")
    assert figure.axes[0].get_xlim() == (-1, 1)
    render(figure, "png")


@pytest.mark.parametrize(
    "height",
    [
        lambda x, y: x**2 - y**2,
        lambda x, y: 0 * x * y,
        lambda x, y: x + np.where(y, y, np.nan),
    ],
)
def test_contour_of_a_saddle_a_constant_and_a_hole(height):
    for marks in ({"saddles": [[0.0, 0.0]], "minima": []}, {}):
        render(contour(surface(height, **marks), {}), "png")


def test_figures_draw_on_given_axes(digits, bowl):
    figure = Figure(layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    for draw, ax in zip((learning_curves, tuning_curves, final_results), axes, strict=False):
        assert draw(*digits(), ax=ax) is figure
    assert paths(*bowl(), ax=axes[3]) is figure
    render(figure, "png")


def test_files_are_the_same_each_time(digits, tmp_path):
    study, runs = digits(["sgd", "adam"], 2)
    for kind in ("svg", "png", "pdf"):
        first, second = (
            save(learning_curves(study, runs), tmp_path / f"{k}.{kind}").read_bytes() for k in "ab"
        )
        assert first == second


def test_text_stays_text_in_svg(digits):
    text = render(learning_curves(*digits(["sgd"])), "svg").decode()
    assert "validation loss</text>" in text


def test_the_gallery_shows_gradients_only_where_they_differ_from_steps(digits):
    study, runs = digits(["sgd"], 2)
    assert "curve-validation-loss-gradients" not in [p.name for p in gallery(study, runs)]
    for run in runs:
        run["curve"]["gradients"] = [3.0 * step for step in run["curve"]["step"]]
    assert "curve-validation-loss-gradients" in [p.name for p in gallery(study, runs)]
