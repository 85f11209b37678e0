"""The pages of an inspection and of a monitor: from plain records alone, offline, and complete."""

from __future__ import annotations

import copy
import io
import json
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from thalweg.report import canvas
from thalweg.report.inspection_figures import density, gauge, layers, overview
from thalweg.report.inspection_page import (
    inspection_html,
    inspection_terminal,
    write_inspection,
)
from thalweg.report.inspection_words import quantity
from thalweg.report.monitor_page import monitor_figure, monitor_html, write_monitor


def measured(value, error=None, products=0, low=None, high=None):
    return {
        "value": value,
        "error": error,
        "products": products,
        "method": "lanczos" if products else "",
        "low": low,
        "high": high,
    }


def advice(question, text):
    return {"question": question, "text": text, "evidence": f"evidence of {question}", "rule": "r"}


@pytest.fixture
def record():
    """An inspection as plain data, written by hand: no number needs to fit another."""
    return {
        "title": "Tiny <net>",
        "version": "0.0",
        "command": "thalweg inspect tiny --lr 0.3",
        "setting": [["Point", "initial weights; seed 1"]],
        "notes": ["These are the initial weights."],
        "inspection": {
            "parameters": 1200,
            "samples": 64,
            "batch_size": 16,
            "loss": 0.4213,
            "gradient_norm": 0.25,
            "parameter_norm": 7.5,
            "largest": measured(12.34, 0.02, 8),
            "smallest": measured(-0.51, 0.01, 30),
            "point": {
                "kind": "saddle",
                "index": measured(31.0, 4.0, 160, 20.0, 44.0),
                "tolerance": 0.0123,
                "inside": measured(0.9, 0.01, 0, 0.85, 0.95),
                "distance": 0.3,
                "reach": 0.04,
                "gain": 0.05,
                "taken": 0.03,
                "critical": 1e-3,
                "products": 20,
            },
            "trace": measured(61.0, 1.2, 40),
            "density": {
                "nodes": [[-0.51, -0.001, 0.002, 0.4, 12.3], [-0.4, 0.0, 0.01, 1.4, 12.34]],
                "weights": [[0.02, 0.5, 0.4, 0.07, 0.01], [0.03, 0.6, 0.3, 0.06, 0.01]],
            },
            "layers": [
                {
                    "name": name,
                    "parameters": 600,
                    "sharpness": measured(sharpness, 0.01, 9),
                    "gradient_norm": 0.1,
                    "share": share,
                }
                for name, sharpness, share in (("fc1", 3.0, 0.16), ("fc2", 9.0, 0.84))
            ],
            "top": [{"name": "fc2.weight", "share": 0.84}],
            "bottom": [{"name": "fc1.weight", "share": 0.5}],
            "descent_limit": measured(0.1621, 0.0003),
            "optimal_rate": None,
            "stability": {
                "optimizer": "SGD",
                "lr": 0.3,
                "formula": "2 / λ",
                "factor": 2.0,
                "preconditioned": False,
                "sharpness": measured(12.34, 0.02),
                "limit": measured(0.1621, 0.0003),
                "ratio": measured(1.851, 0.003),
                "multiple": 0.15,
                "beyond": 1.0,
                "shares": [{"name": "fc2.weight", "share": 0.84}],
                "note": "",
            },
            "condition": measured(90.0, None, 0, 90.0, 1000.0),
            "noise": measured(310.0, 40.0, 0, 240.0, None),
            "missing": {"optimal_rate": "λ_min is negative."},
            "notes": [],
            "products": 281,
            "seconds": 1.25,
            "advice": [
                advice("rate", "Yes: 0.3 is 1.9 times the limit, 84% in `fc2.weight`."),
                advice("point", "No: it is a saddle."),
                advice("help", "A learning rate below 0.162."),
            ],
        },
    }


class Links(HTMLParser):
    """What a page loads or leads to."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.leads, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.loads += [v for k, v in given.items() if k in {"src", "srcset", "data"}]
        if tag in {"link", "script", "iframe"}:
            self.loads.append(tag)
        if tag == "a":
            self.leads.append(given["href"])


def test_the_page_answers_the_three_questions_first(record):
    text = inspection_html(record)
    places = [
        text.index("Is the learning rate too high?"),
        text.index("<code>fc2.weight</code>"),
        text.index("Is this a minimum?"),
        text.index("it is a saddle"),
        text.index("What would help?"),
        text.index("A learning rate below 0.162."),
        text.index("<h2>Numbers</h2>"),
    ]
    assert places == sorted(places)
    assert "evidence of rate" in text


def test_the_page_has_each_number_with_its_error_and_cost(record):
    text = inspection_html(record)
    for expected in (
        "12.34 ± 0.02",
        "-0.51 ± 0.01",
        "31 ± 4",
        "between 20 and 44",
        "61 ± 1",
        "0.162",
        "90 to 1,000",
        "310",
        "240 to ∞",
        "8 products",
        "281 in all",
        "λ_min is negative.",
        "These are the initial weights.",
        "thalweg inspect tiny --lr 0.3",
    ):
        assert expected in text, expected


def test_the_page_is_offline_and_escapes_what_it_is_given(record):
    text = inspection_html(record)
    links = Links(text)
    assert links.loads == []
    assert "script" not in links.tags
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "Tiny &lt;net&gt;" in text
    assert "<net>" not in text


def test_what_is_written_is_what_the_page_leads_to(record, tmp_path):
    files = write_inspection(tmp_path, record)
    assert files[0] == tmp_path / "inspection.html"
    (tmp_path / "inspection.json").write_text(json.dumps(record))
    for target in Links(files[0].read_text()).leads:
        assert (tmp_path / target).is_file(), target
    assert (tmp_path / "inspection.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_the_same_record_gives_the_same_bytes(record, tmp_path):
    first = [file.read_bytes() for file in write_inspection(tmp_path / "a", record)]
    second = [file.read_bytes() for file in write_inspection(tmp_path / "b", record)]
    assert first == second


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_page_fits(record, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(inspection_terminal(record, wide=width > 100))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for expected in ("Is this a minimum?", "12.34 ± 0.02", "fc2", "84%", "initial weights"):
        assert expected in text
    assert ("8 products" in text) == (width > 100)


def test_the_spectrum_holds_all_eigenvalues(record):
    figure = density(record["inspection"])
    (stairs,) = figure.axes[0].patches[:1]
    assert stairs.get_data().values.sum() == pytest.approx(1200)


def test_the_spectrum_marks_both_ends(record):
    texts = [t.get_text() for t in density(record["inspection"]).axes[0].texts]
    assert "λ_max = 12.3" in texts
    assert "λ_min = -0.51" in texts


def test_bars_are_as_long_as_layers_are_sharp(record):
    ax = layers(record["inspection"]).axes[0]
    ends = sorted(bar.get_x() + bar.get_width() for bar in ax.patches)
    assert ends == pytest.approx([3.0, 9.0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fc1", "fc2"]


def test_the_gauge_has_the_rate_on_the_side_of_the_limit_where_it_is(record):
    ax = gauge(record["inspection"]).axes[0]
    texts = {t.get_text(): t.xy[0] for t in ax.texts}
    assert texts["yours 0.3"] > texts["limit 0.162"]


def test_figures_are_drawn_for_every_kind_of_finding(record):
    base = record["inspection"]
    changes = [
        {"stability": None},
        {"stability": None, "descent_limit": None, "missing": {"descent_limit": "Nothing."}},
        {"layers": []},
        {"largest": measured(-0.1), "smallest": measured(-0.51)},
        {"largest": measured(2.0), "smallest": measured(0.5), "optimal_rate": measured(0.8)},
        {"stability": base["stability"] | {"limit": None, "note": "No limit is known."}},
        {"noise": None, "condition": None, "trace": measured(None)},
    ]
    for change in changes:
        changed = copy.deepcopy(record)
        changed["inspection"] |= change
        assert isinstance(overview(changed), Figure)
        canvas.render(density(changed["inspection"]), "svg")
        assert "Is this a minimum?" in inspection_html(changed)
        Console(file=io.StringIO()).print(inspection_terminal(changed))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (measured(12.3456, 0.02), "12.35 ± 0.02"),
        (measured(438.5, 103.0), "400 ± 100"),
        (measured(12345.6), "12,346"),
        (measured(None), "–"),
        (measured(1.5, 1e-6), "1.5 ± 1e-06"),
        (measured(-3e-9, 1e-10), "-3e-09 ± 1e-10"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(given, expected):
    assert quantity(given) == expected


@pytest.fixture
def log():
    rows = []
    for k, step in enumerate(range(100, 900, 100)):
        row = {"step": step, "loss": 2.0 / (k + 1), "share": 0.04, "seconds": 1.0 * k}
        row |= {"sharpness": 3.0 + k, "ratio": 0.7 + 0.06 * k, "lr": 0.1}
        if k % 2:
            row |= {"trace": 20.0 + k, "trace_stderr": 1.0, "index": 10.0 * k}
            row |= {"noise": 50.0 * k, "noise_low": 20.0, "noise_high": None}
        rows.append(row)
    return [*rows, {"step": 900, "error": "the loss is nan"}]


def test_the_monitor_page_says_when_the_limit_was_passed(log):
    text = monitor_html(log)
    assert "past its stable limit in 2 of 8, first at step 700" in text
    assert "9 measurements over 900 steps" in text
    assert Links(text).loads == []
    calm = monitor_html(log[:4])
    assert "never passed its stable limit; it came nearest at step 400" in calm


def test_the_monitor_has_a_panel_a_quantity(log, tmp_path):
    figure = monitor_figure(log)
    assert len(figure.axes) == 6
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == list(range(100, 900, 100))
    files = write_monitor(tmp_path, log, name="run")
    assert [file.name for file in files] == ["run.html", "run.png", "run.svg"]
    for target in Links(files[0].read_text()).leads:
        assert (tmp_path / target).is_file()


def test_one_measurement_is_a_page_too():
    assert "1 measurement over 5 steps" in monitor_html([{"step": 5, "sharpness": 1.0}])
