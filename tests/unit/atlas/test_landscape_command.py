"""`thalweg landscape` on a user's own file and checkpoint; one message for each wrong input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import thalweg as tw
from thalweg.atlas import chart
from thalweg.atlas.command import landscape
from thalweg.compare import load_file
from thalweg.landscape import Curve, Surface, Trajectory
from thalweg.landscape.connection import METHODS


OWN = """
import torch
from torch import nn
from thalweg import Problem

def problem():
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    model = lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Problem("own", model, nn.functional.cross_entropy, (x, (x[:, 0] > 0).long()))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """The page and its figures are drawn by tests of their own."""

    def write(root, surface, **_):
        (root / "landscape.html").write_text("")
        return [root / "landscape.html"]

    monkeypatch.setattr(chart, "write_landscape", write)


def run(*arguments):
    app = typer.Typer()
    app.command()(landscape)
    return CliRunner().invoke(app, [*arguments, "--resolution", "3"])


def shown(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_page_of_ones_own_checkpoint(folder):
    problem = load_file("own.py")
    model = problem.build(7)
    torch.save({"model": model.state_dict()}, "weights.pt")
    result = run("own.py", "--checkpoint", "weights.pt", "--out", "page", "--extras", "vtk")
    assert result.exit_code == 0, result.output
    assert "page: page/landscape.html" in result.stdout
    names = {path.name for path in (folder / "page").iterdir()}
    assert names == {
        "landscape.html",
        "landscape.json",
        "landscape.png",
        "landscape.svg",
        "relief.png",
        "relief.svg",
        "surface.npz",
        "surface.vts",
    }
    surface = Surface.load(folder / "page" / "surface.npz")
    inputs, targets = problem.data.train
    loss = nn.functional.cross_entropy(model(inputs), targets).item()
    assert surface.loss[1, 1] == pytest.approx(loss, rel=1e-5)
    assert surface.metrics["accuracy"][1, 1] == pytest.approx(
        (model(inputs).argmax(1) == targets).float().mean().item()
    )
    assert surface.meta["kind"] == "random"
    assert surface.meta["normalisation"] == "filter"


@pytest.mark.usefixtures("quick")
def test_json_is_json_alone_and_folders_are_kept(folder):
    record = shown(run("own.py", "--json", "--out", "page"))
    assert record["page"] == "page/landscape.html"
    assert record["meta"]["samples"] == 58
    assert any("initial weights" in note for note in record["notes"])
    again = run("own.py", "--out", "page")
    assert isinstance(again.exception, FileExistsError)
    assert "--force" in str(again.exception)
    assert run("own.py", "--out", "page", "--force").exit_code == 0
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("")
    assert "something else" in str(run("own.py", "--out", "mine", "--force").exception)
    assert run("own.py").exit_code == 0
    assert run("own.py").exit_code == 0  # its own folder may be written again


@pytest.mark.usefixtures("quick")
def test_an_interrupted_picture_goes_on(folder, monkeypatch):
    from thalweg.landscape.store import Store

    plain, added = Store.add, []

    def add(self, indices, rows):
        plain(self, indices, rows)
        added.extend(indices)
        if len(added) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add", add)
    assert run("own.py", "--out", "page").exit_code != 0
    assert (folder / "page" / "landscape.partial").is_file()
    assert not (folder / "page" / "landscape.json").exists()
    first = list(added)
    assert first == [0, 1, 2]
    record = shown(run("own.py", "--out", "page", "--json"))
    assert not set(first) & set(added[len(first) :])
    assert record["page"]
    assert not (folder / "page" / "landscape.partial").exists()


@pytest.mark.usefixtures("quick", "folder")
def test_paths_are_trained_from_one_start_and_drawn_in_one_plane():
    given = ("--trajectory", "--optimizer", "sgd:lr=0.5,adam:lr=0.1", "--train", "12")
    record = shown(run("own.py", *given, "--out", "page", "--json"))
    assert record["paths"] == ["sgd", "adam"]
    surface = Surface.load("page/surface.npz")
    np.testing.assert_allclose(surface.paths[0].xy[0], surface.paths[1].xy[0], atol=1e-6)
    np.testing.assert_allclose(surface.paths[0].xy[-1], 0, atol=1e-6)
    assert surface.paths[0].steps.tolist() == list(range(13))
    problem = load_file("own.py")
    model = problem.build(1)
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    batches = problem.batches(1)
    for _ in range(12):
        x, y = next(batches)
        adam.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        adam.step()
    inputs, targets = problem.data.train
    loss = nn.functional.cross_entropy(model(inputs), targets).item()
    assert surface.paths[1].loss[-1] == pytest.approx(loss, rel=1e-4)


@pytest.mark.usefixtures("quick", "folder")
def test_a_recorded_path_is_drawn():
    problem = load_file("own.py")
    model = problem.build(3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.2)
    with Trajectory(sgd, params=model, folder="walk"):
        for x, y in [next(problem.batches(3)) for _ in range(5)]:
            sgd.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            sgd.step()
    record = shown(run("own.py", "--recorded", "mine=walk", "--out", "page", "--json"))
    assert record["paths"] == ["mine"]
    assert "FileNotFoundError" in repr(run("own.py", "--recorded", "nowhere").exception)
    Path("other.py").write_text(OWN.replace("4", "5"))
    other = run("other.py", "--recorded", "walk").exception
    assert "recorded with another model" in str(other)


@pytest.mark.usefixtures("quick", "folder")
def test_two_checkpoints_are_connected(monkeypatch):
    monkeypatch.setitem(METHODS, "bezier", Curve(steps=60))
    problem = load_file("own.py")
    for seed, name in ((1, "a.pt"), (2, "b.pt")):
        torch.save(problem.build(seed).state_dict(), name)
    record = shown(run("own.py", "--connect", "a.pt", "b.pt", "--out", "page", "--json"))
    assert record["lines"] == ["straight", "bezier"]
    assert record["paths"] == ["straight", "bezier"]
    facts = dict(record["facts"])
    assert {"Barrier, Frankle et al. 2020", "Barrier over the worse end"} <= facts.keys()
    surface = Surface.load("page/surface.npz")
    for path in surface.paths:
        np.testing.assert_allclose(path.xy[0], 0, atol=1e-5)
        inputs, targets = problem.data.train
        for place, seed in ((0, 1), (-1, 2)):
            loss = nn.functional.cross_entropy(problem.build(seed)(inputs), targets).item()
            assert path.loss[place] == pytest.approx(loss, rel=1e-4)
    straight = next(path for path in surface.paths if path.name == "straight")
    np.testing.assert_allclose(straight.xy[:, 1], 0, atol=1e-5)


@pytest.mark.usefixtures("quick", "folder")
def test_a_function_is_drawn_in_its_own_coordinates():
    record = shown(run("booth", "--trajectory", "--train", "5", "--out", "page", "--json"))
    surface = Surface.load("page/surface.npz")
    x, y = surface.x, surface.y[:, None]
    np.testing.assert_allclose(surface.loss, (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2, rtol=1e-5)
    start = tw.problems.BOOTH.start
    np.testing.assert_allclose(surface.paths[0].xy[0], start, atol=1e-5)
    assert record["paths"] == ["adam"]


@pytest.mark.usefixtures("quick", "folder")
def test_a_measured_surface_is_drawn_again():
    flat = np.zeros((2, 2))
    Surface([0, 1], [0, 1], {"loss": flat}, flat == 0).save("surface.npz")
    assert shown(run("surface.npz", "--out", "page", "--json"))["sentences"]
    assert "no such file" in str(run("gone.npz", "--out", "other").exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digit"], "Did you mean 'digits'"),
        (["weights.pt"], "--checkpoint weights.pt"),
        (["own.py", "--checkpoint", "gone.pt"], "no such file"),
        (["own.py", "--directions", "filtr"], "Did you mean 'filter'"),
        (["own.py", "--resolution", "1"], "resolution must be an integer >= 2"),
        (["own.py", "--span", "wide"], "span must be a number > 0 or auto"),
        (["own.py", "--metrics", "acc"], "unknown metric 'acc'"),
        (["own.py", "--batchnorm", "best"], "'kept', 'recalibrated'"),
        (["own.py", "--extras", "gif,avi"], "'gif', 'mp4', 'vtk'"),
        (["own.py", "--samples", "0"], "samples must be an integer >= 1"),
        (["own.py", "--trajectory", "--directions", "filter"], "give one of --directions"),
        (["own.py", "--trajectory", "--connect", "a", "b"], "give one of --directions"),
        (["own.py", "--trajectory", "--train", "1"], "train must be an integer >= 2"),
        (["own.py", "--trajectory", "--optimizer", "sdg"], "Did you mean 'sgd'"),
        (["own.py", "--trajectory", "--optimizer", "sgd,adam", "--lr", "1"], "sgd:lr=1"),
        (["own.py", "--connect", "gone.pt", "b.pt"], "--connect gone.pt: no such file"),
        (["own.py", "--connect", "own.py", "own.py"], "not a file of tensors"),
        (["own.py", "--lr", "0.1"], "give --train STEPS, or --trajectory"),
        (["own.py", "--optimizer", "adam"], "give --train STEPS, or --trajectory"),
    ],
)
def test_wrong_arguments_are_one_message_and_code_2(arguments, words, folder, capsys, monkeypatch):
    from thalweg import cli

    monkeypatch.setattr(sys, "argv", ["thalweg", "landscape", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert words in message
    assert len(message) < 700


def test_surfaces_draw_themselves():
    x = np.linspace(-1, 1, 4)
    surface = Surface(x, x, {"loss": x**2 + x[:, None] ** 2}, np.full((4, 4), True))
    assert surface.figure().axes[0].get_title("left") == "Loss landscape"
    assert surface.figure3d().axes[0].name == "3d"
    with pytest.raises(TypeError, match="celling"):
        surface.figure(celling=1.0)
    line = tw.landscape.Line(x, {"loss": x**2})
    assert line.figure().axes[0].get_xlabel() == "t"
