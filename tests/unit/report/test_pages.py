"""The page, the terminal table and the files of a report."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from thalweg.report import (
    final_results,
    learning_curves,
    page,
    results,
    tuning_curves,
    write_report,
)
from thalweg.report.canvas import render
from thalweg.report.svg import inline
from thalweg.study.scoring import summarize


VOID = {"meta", "br", "link", "img", "hr", "input"}


class Checker(HTMLParser):
    """Collects addresses and identifiers, and checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.stack, self.addresses, self.ids, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def checked(text):
    checker = Checker()
    checker.feed(text)
    assert checker.stack == []
    return checker


def test_page_loads_nothing_and_names_every_optimizer(digits):
    study, runs = digits()
    text = page(study, runs)
    checker = checked(text)
    assert not {"script", "link", "img", "iframe", "object"} & checker.tags
    assert not [a for a in checker.addresses if re.match(r"[a-z]+:|//", a)]
    assert not re.search(r"url\(\s*['\"]?(https?:)?//", text)
    assert "@import" not in text
    assert "xmlns" not in text
    for entry in study["optimizers"]:
        assert f"{entry['label']}</td>" in text
    assert study["command"] in text


def test_page_says_the_verdict_first_and_how_it_was_measured(digits):
    study, runs = digits(lost=(("lion", 2),))
    text = page(study, runs)
    for sentence in summarize(study, runs).verdict.sentences:
        assert sentence in text
    assert text.index("is best") < text.index("<table>")
    for part in ("CC BY 4.0", "1,222 train", "8 trials for each optimizer", "400 steps a run"):
        assert part in text
    assert "the loss is nan at step 37" in text
    assert 'href="runs/lion-confirm-2-0.007943/result.json"' in text


def test_identifiers_of_a_page_do_not_collide(digits):
    ids = checked(page(*digits())).ids
    assert len(ids) == len(set(ids))


def test_figures_in_the_page_follow_the_theme(digits):
    drawing = inline(render(learning_curves(*digits(["sgd"])), "svg"), "f0", "a title")
    assert "var(--blue)" in drawing
    assert not re.search(r"#[0-9a-f]{6}\b(?!\")", drawing)
    assert "prefers-color-scheme: dark" in page(*digits(["sgd"]))


def test_numbers_in_the_page_are_those_of_the_figure(digits):
    file = render(final_results(*digits()), "svg")
    words = re.findall(r">([^<>\n]+)</text>", file.decode())
    assert re.findall(r">([^<>\n]+)</text>", inline(file, "f0", "a title")) == words
    assert "0.9767 ± 0.0013" in words


def test_titles_are_escaped(digits):
    study, runs = digits(["sgd"], 2)
    study["problem"]["title"] = study["command"] = '<b>& "quoted"</b>'
    study["optimizers"][0]["label"] = "<i>sgd"
    for run in runs:
        run["optimizer"] = "<i>sgd"
    checker = checked(page(study, runs))
    assert not {"b", "i"} & checker.tags


def without_metric(study, runs):
    study["problem"]["metric"] = None
    for run in runs:
        run["curve"]["validation_metric"] = [None] * len(run["curve"]["step"])
        run["final"] |= {"validation_metric": None, "test_metric": None}
    return runs


def without_target(study, runs):
    study["problem"]["target"] = None
    return [run | {"hit": None} for run in runs]


def all_diverged(study, runs):
    return [run | {"status": "diverged", "message": "nan"} for run in runs]


def all_failed(study, runs):
    return [run | {"status": "failed", "message": "out of memory"} for run in runs]


def no_runs(study, runs):
    return []


def tuning_only(study, runs):
    return [run for run in runs if run["stage"] == "tune"]


def nothing_tuned(study, runs):
    for entry in study["optimizers"]:
        entry["space"] = {}
    return [run | {"hyperparameters": {}} for run in runs if run["stage"] == "confirm"]


def nothing_evaluated(study, runs):
    return [
        run | {"curve": {k: v[:1] for k, v in run["curve"].items()}, "status": "diverged"}
        for run in runs
    ]


@pytest.mark.parametrize(
    "change",
    [
        without_metric,
        without_target,
        all_diverged,
        all_failed,
        no_runs,
        tuning_only,
        nothing_tuned,
        nothing_evaluated,
    ],
)
@pytest.mark.parametrize("kind", ["bowl", pytest.param("digits", marks=pytest.mark.slow)])
def test_missing_parts_do_not_break_a_report(change, kind, request):
    study, runs = request.getfixturevalue(kind)(["sgd", "newton"], 2)
    runs = change(study, runs)
    summary = summarize(study, runs)
    checked(page(study, runs, summary))
    assert len(summary.to_csv().splitlines()) == 3
    Console(file=io.StringIO()).print(results(summary))


def test_write_report_writes_whole_files_and_nothing_else(digits, tmp_path):
    study, runs = digits(["sgd", "adam"], 2)
    written = write_report(tmp_path / "new", study, runs)
    found = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert found == set(written)
    assert written[0].name == "report.html"
    first = {path: path.read_bytes() for path in written}
    assert write_report(tmp_path / "new", study, runs) == written
    assert {path: path.read_bytes() for path in written} == first
    for address in checked(written[0].read_text(encoding="utf-8")).addresses:
        if address.startswith("figures/") and address != "figures/":
            assert (tmp_path / "new" / address).is_file()


def test_terminal_table(digits, bowl):
    console = Console(width=160, record=True, force_terminal=False)
    study, runs = digits()
    with console.capture() as capture:
        console.print(results(summarize(study, runs)))
    text = capture.get()
    assert "test accuracy" in text
    assert text.index("adam") < text.index("lion")
    assert "default" not in [c.header for c in results(summarize(*bowl())).columns]


def tuned_schedules(study, runs):
    study["schedule"] = "tuned"
    kept = {"sgd": "step", "adam": "cosine"}
    for run in runs:
        run["schedule"] = "constant" if run["stage"] == "default" else kept[run["optimizer"]]
    return study, runs


def test_a_tuned_schedule_is_shown_wherever_the_tuned_values_are(digits):
    study, runs = tuned_schedules(*digits(["sgd", "adam"], 2))
    summary = summarize(study, runs)
    lr = summary.row("sgd").hyperparameters["lr"]
    text = page(study, runs, summary)
    assert f"lr {lr:.4g}, step</td>" in text
    assert "tuned: each trial has a constant, cosine, linear or step learning rate" in text
    assert "budget 400 steps, schedules tuned" in text
    assert "untuned, at a constant rate" in text
    for wide in (80, 160):
        console = Console(width=wide, record=True, force_terminal=False)
        with console.capture() as capture:
            console.print(results(summary, wide=wide > 100))
        assert "cosine" in capture.get()
    assert {row["schedule"] for row in summary.to_dict()["rows"]} == {"step", "cosine"}
    assert summary.to_dict()["schedule"] == "tuned"
    assert "schedule" in summary.to_csv().splitlines()[0].split(",")


def test_a_fixed_schedule_is_said_once_and_for_each_optimizer(digits):
    study, runs = digits(["sgd"], 2)
    study["schedule"] = "linear"
    text = page(study, [run | {"schedule": "linear"} for run in runs])
    assert "linear learning rate, for every optimizer" in text
    assert "<td>linear</td>" in text
    tuned = text[text.index("<tbody>") : text.index("</tbody>")]
    assert "linear" not in tuned
    for record in (study, *runs):
        record.pop("schedule")
    assert "constant learning rate, for every optimizer" in page(study, runs)


def test_trials_at_different_schedules_are_not_joined(digits):
    study, runs = tuned_schedules(*digits(["sgd", "adam"], 2))
    for name, style in (("tuned", "None"), ("constant", "-")):
        study["schedule"] = name
        lines = {x.get_label(): x for x in tuning_curves(study, runs).axes[0].lines}
        assert lines["sgd"].get_linestyle() == style


def test_a_long_legend_leaves_the_axes_their_height(digits):
    heights = []
    for count in (3, 14):
        figure = learning_curves(*digits([f"method number {k}" for k in range(count)], 2))
        render(figure, "png")
        heights.append(figure.axes[0].get_position().height * figure.get_figheight())
    assert heights[1] > 0.85 * heights[0]
