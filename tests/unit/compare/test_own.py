"""A problem from a file: the template runs as it is, each mistake is one message and code 2."""

import json
import sys

import pytest

from thalweg import cli
from thalweg.compare import load_file, write_template


def command_line(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["thalweg", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


def test_the_template_runs_as_it_is(capsys, monkeypatch, tmp_path):
    file, out = tmp_path / "ring.py", tmp_path / "out"
    assert command_line(capsys, monkeypatch, "new-problem", file)[0] == 0
    race = [
        "compare",
        file,
        "--optimizers",
        "sgd,adam",
        "--steps",
        "20",
        "--trials",
        "2",
        "--no-landscape",
    ]
    code, shown, _ = command_line(
        capsys, monkeypatch, *race, "--seeds", "2", "--workers", "1", "--out", out, "--json"
    )
    assert code == 0
    assert {row["label"] for row in json.loads(shown)["rows"]} == {"sgd", "adam"}
    assert json.loads((out / "study.json").read_text())["problem"]["name"] == "ring"


def test_a_file_that_is_there_is_not_overwritten(capsys, monkeypatch, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("precious")
    code, _, err = command_line(capsys, monkeypatch, "new-problem", file)
    assert code == 2
    assert "is there already" in " ".join(err.split())
    assert file.read_text() == "precious"
    assert write_template(file, force=True).read_text() != "precious"


HEAD = "import torch\nfrom torch import nn\nfrom thalweg import Problem\nx = torch.randn(60, 3)\n"
MADE = HEAD + "def problem():\n    return Problem('p', {}, {}, data=(x, {}))\n"
NET, LOSS, TARGETS = (
    "lambda: nn.Linear(3, 2)",
    "nn.functional.cross_entropy",
    "(x[:, 0] > 0).long()",
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "has no function problem()"),
        ("def problem():\n    return 3\n", "must return a thalweg.Problem, got 3"),
        ("def problem():\n    raise KeyError('gone')\n", "problem() raised KeyError"),
        ("import nothing_of_the_kind\n", "running it raised ModuleNotFoundError"),
        (MADE.format("lambda: nn.Linear(4, 2)", LOSS, TARGETS), "shape"),
        (MADE.format(NET, "lambda z, y: (z - 1).pow(2)", TARGETS), "scalar"),
        (MADE.format(NET, "lambda z, y: z.sum() * float('nan')", TARGETS), "nan"),
        (MADE.format(NET, LOSS, TARGETS + "[:-1]"), "60"),
    ],
)
def test_each_mistake_is_one_message_and_code_2(text, words, capsys, monkeypatch, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(text)
    code, _, err = command_line(
        capsys,
        monkeypatch,
        "compare",
        file,
        "--trials",
        "1",
        "--no-landscape",
        "--out",
        tmp_path / "out",
    )
    assert code == 2
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_a_missing_file_says_how_to_write_one(capsys, monkeypatch, tmp_path):
    code, _, err = command_line(capsys, monkeypatch, "compare", tmp_path / "gone.py")
    assert code == 2
    assert "new-problem" in err


def test_functions_of_the_file_travel_to_workers(tmp_path):
    import cloudpickle

    file = write_template(tmp_path / "ring.py")
    problem = load_file(file)
    again = cloudpickle.dumps(problem)
    assert b"def " not in again
    name = problem.model.__module__
    module = sys.modules.pop(name)
    try:
        assert cloudpickle.loads(again).build(0) is not None
    finally:
        sys.modules[name] = module
