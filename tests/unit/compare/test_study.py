"""The door: a user's own model, data and loss in ten lines, and each wrong input in one message."""

import json
import re
import sys

import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.study import Inline


def data():
    x = torch.randn(120, 3, generator=torch.Generator().manual_seed(1))
    return x, (x.sum(1) > 0).long()


def own(model=lambda: nn.Linear(3, 2), loss=nn.functional.cross_entropy, **changes):
    return tw.Problem("mine", model=model, loss=loss, **{"data": data(), **changes})


def race(problem, out, optimizers=("sgd", "adam"), **changes):
    settings = {"budget": 10, "trials": 2, "seeds": 2, **changes}
    return tw.Study(problem, optimizers, out=out, **settings)


def test_ones_own_problem_and_optimizer_race(tmp_path):
    class Signed(torch.optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            loss = None if closure is None else closure()
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad.sign(), alpha=group["lr"])
            return loss

    study = race(own(), tmp_path, ["adam", Signed, torch.optim.NAdam])
    summary = study.run(progress=False, executor=Inline(), landscape=False)
    assert {row.label for row in summary.rows} == {"adam", "Signed", "NAdam"}
    report = study.report()
    assert "Signed" in report.read_text()
    assert (tmp_path / "summary.csv").exists()
    assert list((tmp_path / "figures").glob("*.png"))


def test_worker_processes_take_lambdas_and_local_classes(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(x)

    study = race(own(lambda: Net()), tmp_path)
    assert len(study.run(progress=False, landscape=False).rows) == 2


def test_the_report_can_be_made_elsewhere_from_files_alone(tmp_path):
    study = race(own(), tmp_path / "here")
    study.run(progress=False, executor=Inline(), landscape=False)
    page = study.report(tmp_path / "there")
    links = re.findall(r'href="([^"#]+)"', page.read_text())
    assert links
    assert all((tmp_path / "there" / link).exists() for link in links)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: own(loss=lambda z, y: nn.functional.cross_entropy(z, y, reduction="none")),
            "scalar",
        ),
        (lambda: own(loss=lambda z, _: z.sum() * float("nan")), "nan"),
        (lambda: own(model=lambda: nn.Linear(4, 2)), "shape"),
        (lambda: own(data=(torch.zeros(0, 3), torch.zeros(0).long())), "empty"),
        (lambda: own(data=(torch.zeros(5, 3), torch.zeros(4).long())), "5"),
    ],
)
def test_each_wrong_input_is_one_message(make, words, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        race(make(), tmp_path).run(progress=False, executor=Inline(), landscape=False)
    assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tw.Study("digit"), "Did you mean 'digits'"),
        (lambda: tw.Study("booth", ["adamm"]), "Did you mean 'adam'"),
        (lambda: tw.Study("booth", budget=0), "amount must be a number in (0, inf)"),
        (lambda: tw.Study("booth", seeds=0), "seeds must be an integer >= 1"),
        (lambda: tw.Study("booth", seeds=[]), "a number of seeds, or integers"),
        (lambda: tw.Study("booth", trials=0), "trials must be an integer >= 1"),
        (lambda: tw.Study("booth", []), "one or more optimizers"),
    ],
)
def test_each_wrong_argument_is_one_message(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()
    with pytest.raises(TypeError, match="a Problem or a name"):
        tw.Study(nn.Linear(2, 2))


def test_a_function_needs_one_fresh_seed(tmp_path):
    study = race("booth", tmp_path, seeds=5)
    summary = study.run(progress=False, executor=Inline(), landscape=False)
    assert [row.score.n for row in summary.rows] == [1, 1]


def command_line(capsys, monkeypatch, *arguments):
    from thalweg import cli

    monkeypatch.setattr(sys, "argv", ["thalweg", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


def test_compare_on_the_command_line(capsys, monkeypatch, tmp_path):
    arguments = ["compare", "booth", "--optimizers", "sgd,torch.optim.NAdam", "--steps", "10"]
    arguments += ["--trials", "2", "--out", str(tmp_path), "--workers", "1", "--json"]
    code, out, _ = command_line(capsys, monkeypatch, *arguments)
    result = json.loads(out)
    assert code == 0
    assert {row["label"] for row in result["rows"]} == {"sgd", "torch.optim.NAdam"}
    assert json.loads((tmp_path / "study.json").read_text())["command"].startswith(
        "thalweg compare"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digit"], "Did you mean 'digits'"),
        (["compare", "--optimizers", "adamm"], "Did you mean 'adam'"),
        (["compare", "--steps", "3", "--seconds", "1"], "one of --steps"),
        (["compare", "--steps", "-3"], "amount must be a number in (0, inf)"),
        (["compare", "--workers", "0"], "workers must be an integer >= 1"),
        (["reproduce", "steep-valey"], "Did you mean 'steep-valley'"),
        (["list", "things"], "one of optimizers, problems, sets, experiments"),
        (["comparee"], "compare"),
    ],
)
def test_wrong_arguments_end_with_code_2(arguments, words, capsys, monkeypatch):
    code, _, err = command_line(capsys, monkeypatch, *arguments)
    assert code == 2
    assert words in " ".join(err.split())


def test_lists(capsys, monkeypatch):
    _, out, _ = command_line(capsys, monkeypatch, "list", "--json")
    listed = json.loads(out)
    assert {row["name"] for row in listed["optimizers"]} == set(tw.optim.catalogue())
    assert {row["name"] for row in listed["problems"]} == set(tw.problems.catalogue())
    assert "steep-valley" in {row["name"] for row in listed["experiments"]}
    sets = {row["set"]: eval(row["set"], vars(tw.problems)) for row in listed["sets"]}
    there = [problem.name for members in sets.values() for problem in members]
    assert [row["name"] for row in listed["sets"]] == there
    assert {"Misra1a", "rosenbrock", "hilbert-10", "obstacle"} <= set(there)
    for name in ("", "optimizers", "problems", "sets", "experiments"):
        code, out, _ = command_line(capsys, monkeypatch, "list", *([name] if name else []))
        assert code == 0
        assert out


def test_help_has_examples(capsys, monkeypatch):
    for name in ("compare", "reproduce", "list"):
        code, out, _ = command_line(capsys, monkeypatch, name, "--help")
        assert code == 0
        assert f"thalweg {name}" in out
        assert "Example" in out
