"""The book: what is there is kept, what fails does not stop the rest, the page is one file."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from thalweg.reproduce import Claim, Experiment, Outcome, run_all, write_page
from thalweg.reproduce.page import shown


def picture():
    figure = Figure()
    figure.add_subplot().set_title('a < b, "quoted"', loc="left")
    return figure


def experiment(name, log, seconds=1.0, holds=True):
    def run():
        log.append(name)
        claim = Claim("two < three & so on", "arithmetic", 2, 2.5, holds, (2.4, 2.6), 7)
        return Outcome((claim,), {"drawing": picture()}, {"lr": 0.1})

    return Experiment(name, f"Title of {name}", "What and why.", run, seconds)


@pytest.fixture
def log():
    return []


@pytest.fixture
def known(log):
    made = [
        experiment("slow", log, 30.0),
        experiment("quick", log, 1.0),
        experiment("wrong", log, 2.0, holds=False),
    ]
    return {e.name: e for e in made}


def statuses(book):
    return {entry.name: entry.status for entry in book.entries}


def test_the_cheapest_run_first_and_each_is_told(known, log, tmp_path):
    events = []
    book = run_all(tmp_path, experiments=known, listener=lambda *event: events.append(event))
    assert log == ["quick", "wrong", "slow"]
    assert events[:3] == [("quick", "started"), ("quick", "finished"), ("wrong", "started")]
    assert [entry.name for entry in book.entries] == ["slow", "quick", "wrong"]
    assert [entry.holds for entry in book.entries] == [True, True, False]
    assert not book.holds


def test_a_second_call_runs_nothing_and_a_lost_folder_runs_alone(known, log, tmp_path):
    run_all(tmp_path, experiments=known)
    log.clear()
    again = run_all(tmp_path, experiments=known)
    assert log == []
    assert set(statuses(again).values()) == {"kept"}
    assert not again.holds
    for file in (tmp_path / "quick").iterdir():
        file.unlink()
    run_all(tmp_path, experiments=known)
    assert log == ["quick"]


def test_a_run_that_is_stopped_goes_on_where_it_was(known, log, tmp_path):
    def stop():
        raise KeyboardInterrupt

    stopped = known | {"wrong": Experiment("wrong", "T", "S", stop, 2.0)}
    with pytest.raises(KeyboardInterrupt):
        run_all(tmp_path, experiments=stopped)
    assert "Title of quick" in (tmp_path / "book.html").read_text()
    assert not (tmp_path / "wrong" / "claims.json").exists()
    run_all(tmp_path, experiments=known)
    assert log == ["quick", "wrong", "slow"]


def test_figures_without_a_record_do_not_count(known, log, tmp_path):
    run_all(tmp_path, experiments=known)
    (tmp_path / "slow" / "claims.json").write_text('{"status": "fini')
    log.clear()
    assert statuses(run_all(tmp_path, experiments=known))["slow"] == "finished"
    assert log == ["slow"]


@pytest.mark.parametrize("key", ["fingerprint", "thalweg"])
def test_a_record_of_another_version_is_run_again(known, log, tmp_path, key):
    run_all(tmp_path, ["quick"], experiments=known)
    file = tmp_path / "quick" / "claims.json"
    record = json.loads(file.read_text())
    (record if key in record else record["versions"])[key] = "0"
    file.write_text(json.dumps(record))
    log.clear()
    run_all(tmp_path, ["quick"], experiments=known)
    assert log == ["quick"]


def test_an_error_is_recorded_and_the_others_go_on(known, log, tmp_path):
    def fail():
        raise ZeroDivisionError("by <nothing>")

    broken = known | {"broken": Experiment("broken", "Broken", "S", fail, 0.5)}
    book = run_all(tmp_path, experiments=broken)
    assert statuses(book)["broken"] == "failed"
    assert len(log) == 3
    record = json.loads((tmp_path / "broken" / "claims.json").read_text())
    assert record["message"] == "ZeroDivisionError: by <nothing>"
    assert "in fail" in record["traceback"]
    page = (tmp_path / "book.html").read_text()
    assert "by &lt;nothing&gt;" in page
    assert "Ended with an error: 1." in page
    assert statuses(run_all(tmp_path, experiments=broken))["broken"] == "failed"  # tried again


def test_what_does_not_fit_is_left_for_another_day(known, log, tmp_path):
    book = run_all(tmp_path, experiments=known, limit_seconds=10)
    assert statuses(book) == {"slow": "skipped", "quick": "finished", "wrong": "finished"}
    assert "needs about 30 s" in book.entries[0].message
    assert "Not run: 1." in book.page.read_text()
    assert statuses(run_all(tmp_path, experiments=known))["slow"] == "finished"


def test_the_page_is_one_file_that_loads_nothing(known, tmp_path):
    book = run_all(tmp_path, experiments=known)
    page = book.page.read_text()
    assert "http" not in page
    assert "<script" not in page
    loaded = re.findall(r'(?:src|href|xlink:href)="([^"#]+)"', page)
    assert loaded  # links to the files beside it, and nothing else
    assert all((tmp_path / target).is_file() for target in loaded)
    assert page.count("<svg") == 3


def test_the_page_says_what_was_expected_measured_and_decided(known, tmp_path):
    page = run_all(tmp_path, experiments=known).page.read_text()
    assert "2 of 3 claims hold, in 3 experiments." in page
    chapter = page[page.index('id="wrong"') :]
    assert "two &lt; three &amp; so on" in chapter
    assert '<span class="bad">does not hold</span>' in chapter
    assert "2.4 to 2.6, n = 7" in chapter
    assert "thalweg reproduce wrong" in chapter
    assert "bad" not in page[page.index('id="quick"') : page.index('id="wrong"')]
    assert 'aria-label="a &lt; b, &quot;quoted&quot;"' in chapter


def test_the_page_is_made_from_the_files_alone(known, tmp_path):
    book = run_all(tmp_path, experiments=known)
    before = book.page.read_bytes()
    book.page.unlink()
    assert write_page(tmp_path).read_bytes() == before


def test_an_unknown_name_is_answered_with_the_nearest(known, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'quick'"):
        run_all(tmp_path, ["quik"], experiments=known)


def test_a_sample_holds_where_its_interval_reaches():
    values = [0.9, 1.0, 1.1]
    assert Claim.of_sample("c", "s", 1.2, values).holds  # 1 +- 0.25
    assert not Claim.of_sample("c", "s", 1.3, values).holds
    assert Claim.of_sample("c", "s", 1.3, values, tolerance=0.05).holds
    assert Claim.of_sample("c", "s", 1.0, values).n == 3


def test_numpys_scalars_are_written():
    claim = Claim("c", "s", np.float64(1.5), np.int64(2), np.True_)
    assert json.loads(json.dumps(claim.as_dict()))["holds"] is True


def test_values_are_shown_for_reading():
    assert shown(1.23456e-9) == "1.235e-09"
    assert shown(["a", 1.0, None]) == "a, 1, –"
    assert shown({"rates": {"sgd": 0.1}}) == "rates sgd 0.1"


def test_a_claim_that_is_known_not_to_hold_is_no_failure(log, tmp_path):
    def known_not_to(holds):
        claim = Claim("<all> gradients", "a paper", 1, 2, holds, because="One & only.")
        return Experiment("bound", "Bound", "S", lambda: Outcome((claim,)), 1.0)

    book = run_all(tmp_path / "a", experiments={"bound": known_not_to(False)})
    assert (book.holds, book.as_recorded) == (False, True)
    page = book.page.read_text()
    assert "0 of 1 claims hold, in 1 experiments. 1 is known not to, and why is said." in page
    assert "One &amp; only." in page
    assert 'class="bad"' not in page
    again = run_all(tmp_path / "a", experiments={"bound": known_not_to(False)})
    assert (again.entries[0].status, again.as_recorded) == ("kept", True)
    new = run_all(tmp_path / "b", experiments={"bound": known_not_to(True)})
    assert (new.holds, new.as_recorded) == (True, False)
    page = new.page.read_text()
    assert '<span class="bad">holds</span>' in page
    assert "A verdict is not the one on record: 1." in page


@pytest.mark.slow
def test_the_record_of_the_package_has_three_claims_that_do_not_hold():
    from thalweg.reproduce import experiments

    for name, count in (("adam-step-bound", 2), ("lookahead", 1)):
        claims = experiments()[name].run().claims
        assert [claim.holds for claim in claims if claim.because] == [False] * count
        assert all(claim.as_recorded for claim in claims)
