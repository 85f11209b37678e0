"""From a problem to its page: training, checkpoints, samples, folders, and the command."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from thalweg import Problem
from thalweg.curvature.inspection import Inspection
from thalweg.doctor import StoredOptimizer, examine, prepare
from thalweg.doctor.command import inspect
from thalweg.problems import BOOTH, load
from thalweg.setting import sample_count


def small(n=120, **changes):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=draws)
    given = {
        "model": lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
        "loss": F.cross_entropy,
        "data": (x, (x[:, 0] > 0).long()),
        "batch_size": 16,
    }
    return Problem("small", **given | changes)


def test_weights_are_initial_where_nothing_is_asked_for():
    setting = prepare(small())
    assert setting.optimizer is None
    assert "initial weights" in setting.notes[0]
    fresh = small().build(1)
    assert torch.equal(next(setting.model.parameters()), next(fresh.parameters()))


def test_training_is_the_problems_own():
    """The same weights as a loop written out by hand."""
    setting = prepare(small(), optimizer="sgd:momentum=0.5", lr=0.2, train=7, seed=3)
    problem = small()
    model = problem.build(3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    batches = problem.batches(3)
    for _ in range(7):
        x, y = next(batches)
        sgd.zero_grad()
        F.cross_entropy(model(x), y).backward()
        sgd.step()
    for a, b in zip(setting.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert dict(setting.facts)["Point"] == (
        "initial weights, then 7 steps of sgd:momentum=0.5 on batches of 16; seed 3"
    )


def test_momentum_and_rate_are_the_optimizers():
    setting = prepare(small(), optimizer="sgd", lr=0.3, momentum=0.8)
    group = setting.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.3, 0.8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": 0.1}, "--lr is of an optimizer; give --optimizer"),
        ({"optimizer": "adm"}, "Did you mean 'adam'"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum"),
        ({"train": -1}, "train"),
        ({"samples": 0}, "samples"),
    ],
)
def test_what_does_not_fit_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        prepare(small(), **options)


def test_a_run_that_diverges_says_where_to_look():
    problem = small(loss=lambda out, y: out.square().sum() ** 3 + 0 * y.sum())
    with pytest.raises(RuntimeError, match=r"training diverged at step \d+.*--lr"):
        prepare(problem, optimizer="sgd", lr=1e6, train=50)


def test_samples_are_drawn_once_and_without_repetition():
    setting = prepare(small(2000), samples=600)
    x = torch.cat([x for x, _ in setting.batches])
    assert [len(x) for x, _ in setting.batches] == [512, 88]
    assert len(torch.unique(x, dim=0)) == 600
    again = prepare(small(2000), samples=600)
    assert torch.equal(x, torch.cat([x for x, _ in again.batches]))
    assert "600 of" in dict(setting.facts)["Looked at"]


def test_all_samples_are_looked_at_where_they_are_few():
    assert sum(len(x) for x, _ in prepare(small(), samples=10**6).batches) == 78


def test_dear_models_are_looked_at_on_fewer_samples():
    problem = load("moby-transformer")
    count = sample_count(problem, problem.build(0))
    assert 32 <= count <= 256
    cheap = load("digits")
    assert sample_count(cheap, cheap.build(0)) == 1168


def save(problem, path, steps=20):
    setting = prepare(problem, optimizer="torch.optim.Adam", lr=0.01, train=steps)
    content = {
        "model": setting.model.state_dict(),
        "optimizer": setting.optimizer.state_dict(),
    }
    torch.save(content, path)
    return setting


def test_a_checkpoint_gives_what_its_run_gave(tmp_path):
    trained = save(small(), tmp_path / "w.pt")
    read = prepare(small(), checkpoint=tmp_path / "w.pt")
    assert isinstance(read.optimizer, StoredOptimizer)
    first, second = (examine(setting).inspection for setting in (trained, read))
    assert first.loss == second.loss
    assert first.stability.ratio.value == pytest.approx(second.stability.ratio.value)
    named = prepare(small(), checkpoint=tmp_path / "w.pt", optimizer="adam")
    assert type(named.optimizer).__name__ == "Adam"
    third = examine(named).inspection.stability
    assert third.ratio.value == pytest.approx(first.stability.ratio.value)


def test_an_examination_is_plain_data_and_a_page(tmp_path):
    found = examine(prepare(small(), optimizer="sgd", lr=0.1, train=3), command="thalweg inspect")
    files = found.write(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert record == json.loads(json.dumps(found.record))
    assert Inspection.from_dict(record["inspection"]) == found.inspection
    assert files[0].name == "inspection.html"
    assert found.inspection.batch_size == 16


def test_a_folder_with_an_inspection_is_replaced_only_by_force(tmp_path):
    found = examine(prepare(small()))
    found.write(tmp_path)
    with pytest.raises(FileExistsError, match="--force"):
        found.write(tmp_path)
    found.write(tmp_path, force=True)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        examine(prepare(small())).write(tmp_path, force=True)


def test_a_function_of_two_variables_is_inspected_too():
    found = examine(prepare(BOOTH.problem())).inspection
    assert found.largest.value == pytest.approx(18.0)
    assert found.smallest.value == pytest.approx(2.0)
    assert found.optimal_rate.value == pytest.approx(0.1)
    assert found.noise is None


OWN = """
import torch
from torch import nn
from thalweg import Problem

def problem():
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    return Problem("own", lambda: nn.Linear(3, 2), nn.functional.cross_entropy,
                   (x, (x[:, 0] > 0).long()))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    app = typer.Typer()
    app.command()(inspect)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command_prints_and_writes_the_page(run, tmp_path):
    result = run("own.py", "--optimizer", "sgd", "--lr", "0.5", "--train", "5")
    assert result.exit_code == 0, result.output
    assert "Is the learning rate too high?" in result.stdout
    assert (tmp_path / "thalweg-out" / "inspect" / "own" / "inspection.html").is_file()
    assert run("own.py").exit_code == 0  # its own folder may be written again


def test_json_is_json_alone(run, tmp_path):
    result = run("own.py", "--json", "--out", "page")
    record = json.loads(result.stdout)
    assert record["inspection"]["parameters"] == 8
    assert (tmp_path / record["page"]).is_file()


def test_a_named_folder_is_not_overwritten_and_nothing_is_measured(run):
    assert run("own.py", "--out", "page").exit_code == 0
    again = run("own.py", "--out", "page")
    assert isinstance(again.exception, FileExistsError)
    assert run("own.py", "--out", "page", "--force").exit_code == 0


def test_a_monitors_log_becomes_a_page(run, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 5, "sharpness": 2.0}\n{"step": 10, "sharp')
    result = run("log.jsonl", "--out", "page")
    assert result.exit_code == 0, result.output
    assert "1 measurement over 5 steps" in (tmp_path / "page" / "log.html").read_text()
    (tmp_path / "none.jsonl").write_text("")
    assert "no measurement" in str(run("none.jsonl").exception)
