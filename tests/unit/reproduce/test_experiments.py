"""Experiments find what was published, and would say so if they did not."""

import json
import sys

import pytest
import torch

from thalweg.optim import SGD, Adam
from thalweg.reproduce import Claim, Experiment, Outcome, experiments, steep_valley, write


@pytest.fixture(scope="module")
def valley():
    return experiments()["steep-valley"].run()


def test_the_valley_takes_the_published_steps_exactly(valley):
    measured = [claim.measured for claim in valley.claims[:4]]
    assert measured[0].startswith("diverged")
    assert measured[1:] == [420, 137, 117]
    assert valley.holds


def test_the_valley_equals_a_plain_torch_loop():
    published = {
        420: lambda p: torch.optim.SGD(p, lr=2 / 101),
        137: lambda p: torch.optim.SGD(p, lr=0.175 * 2 / 101, momentum=0.9),
        117: lambda p: torch.optim.Adam(p, lr=2 / 101),
    }
    for expected, make in published.items():
        p = torch.nn.Parameter(torch.zeros(2))
        optimizer, steps = make([p]), 0
        while True:
            optimizer.zero_grad()
            f = 0.5 * ((p[0] - 0.8) ** 2 + 100 * (p[1] - 0.6) ** 2)
            f.backward()
            optimizer.step()
            steps += 1
            if f.item() <= 1e-6:
                break
        assert steps == expected


def test_a_wrong_method_is_found_out():
    assert steep_valley.walk(lambda p: SGD(p, lr=0.99 * 2 / 101)).steps != 420
    assert steep_valley.walk(lambda p: Adam(p, lr=2 / 101, betas=(0.9, 0.99))).steps != 117
    assert steep_valley.walk(lambda p: SGD(p, lr=0.0199)).ending == "converged"


def test_files_hold_claims_and_figures(valley, tmp_path):
    files = write(tmp_path, experiments()["steep-valley"], valley)
    content = json.loads(files[0].read_text())
    assert [claim["expected"] for claim in content["claims"][:4]] == ["diverges", 420, 137, 117]
    assert {file.suffix for file in files} == {".json", ".png", ".svg"}
    assert all(file.stat().st_size > 100 for file in files)


def test_a_claim_that_fails_fails_the_experiment():
    good, bad = Claim("a", "b", 1, 1, True), Claim("a", "b", 1, 2, False)
    assert Outcome((good,)).holds
    assert not Outcome((good, bad)).holds


def test_the_command_line_prints_json(capsys, monkeypatch, tmp_path):
    from thalweg import cli

    arguments = ["thalweg", "reproduce", "steep-valley", "--json", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    result = json.loads(capsys.readouterr().out)
    assert [claim["measured"] for claim in result["claims"][1:4]] == [420, 137, 117]
    assert "diverged" in result["claims"][0]["measured"]


def told(holds, because=""):
    claim = Claim("the moon is round", "made up", 1, 1, holds, because=because)
    return Experiment("moon", "The moon", "Looks up.", lambda: Outcome((claim,)))


@pytest.mark.parametrize(
    ("holds", "because", "code"),
    [(True, "", 0), (False, "", 1), (False, "It is flat.", 0), (True, "It is flat.", 1)],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_command_ends_with_1_where_a_verdict_is_not_the_one_on_record(
    holds, because, code, form, capsys, monkeypatch, tmp_path
):
    from thalweg import cli

    experiment = told(holds, because)
    known = {"moon": experiment}
    monkeypatch.setattr(cli.reproduction, "experiments", lambda: known)
    arguments = ["thalweg", "reproduce", "moon", "--out", str(tmp_path), *form]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) == code
    out = " ".join(capsys.readouterr().out.split())
    if form:
        record = json.loads(out)
        assert (record["holds"], record["as_recorded"]) == (holds, not code)
        assert record["claims"][0]["because"] == because
    else:
        assert ("It is flat." in out) == (bool(because) and not holds)
        assert ("not as recorded" in out) == bool(code)
