"""The landscape of a race: its paths are the race's, it is kept, and nothing else changes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.compare.scenery import Scenery
from thalweg.landscape import Recording, Surface
from thalweg.report import html, page, scene
from thalweg.study import Inline


def own(**changes):
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(200, 3, generator=draws)
    given = {"data": (x, (x.sum(1) > 0).long()), "batch_size": 16, **changes}
    model = lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))  # noqa: E731
    return tw.Problem("mine", model=model, loss=nn.functional.cross_entropy, **given)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study = tw.Study(own(), ["sgd", "adam"], budget=30, trials=2, seeds=2, out=folder)
    summary = study.run(progress=False, executor=Inline(), landscape=False)
    before = files(folder)
    scenery = Scenery(study.plan, folder, resolution=5, samples=64)
    assert scenery.measure(study.records(), summary) == ""
    return study, summary, scenery, before


def test_no_number_of_the_study_changes(raced):
    study, summary, _, before = raced
    after = files(study.out)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("landscape/") for name in after.keys() - before.keys())
    assert study.summary().to_dict() == summary.to_dict()


def test_the_paths_are_those_of_the_race(raced):
    study, summary, _, _ = raced
    surface = Surface.load(Scenery.place(study.out))
    held = surface.meta["study"]
    assert held["best"] == summary.verdict.best
    assert {held["best"], held["baseline"]} == {"sgd", "adam"}
    assert held["differs"] == []
    record = next(
        run
        for run in study.records().runs
        if run["optimizer"] == held["best"] and run["stage"] == "confirm" and run["seed"] == 1
    )
    assert held["runs"][0] == record["id"]
    walk = Recording.load(study.out / "landscape" / "paths" / record["id"])
    assert walk.steps.tolist() == list(range(31))
    problem = study.plan.problem
    model = problem.build(1)
    nn.utils.vector_to_parameters(walk.matrix()[-1], model.parameters())
    assert problem.evaluate(model, "train")["loss"] == pytest.approx(
        record["final"]["train_loss"], rel=1e-5
    )
    both = [path.name for path in surface.paths]
    assert both == [held["best"], held["baseline"]]
    np.testing.assert_allclose(surface.paths[0].xy[-1], 0, atol=1e-6)
    assert surface.loss.shape == (5, 5)
    assert surface.meta["samples"] == 64
    assert surface.meta["mode"] == "evaluation"


def test_it_is_done_once_and_an_interrupted_run_is_done_again(raced, monkeypatch):
    study, summary, scenery, _ = raced
    calls = []
    from thalweg.compare import scenery as module

    plain = module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: calls.append(1) or plain(*a, **k))
    before = files(study.out)
    assert scenery.measure(study.records(), summary) == ""
    assert not calls
    assert files(study.out) == before
    finer = Scenery(study.plan, study.out, resolution=6, samples=64)
    finer.measure(study.records(), summary)
    assert not calls  # the paths are there, only the surface is not
    assert Surface.load(Scenery.place(study.out)).loss.shape == (6, 6)
    run = Surface.load(Scenery.place(study.out)).meta["study"]["runs"][1]
    (study.out / "landscape" / "paths" / run / "end.json").unlink()
    scenery.measure(study.records(), summary)
    assert len(calls) == 1
    assert files(study.out).keys() == before.keys()


def test_the_report_shows_it_from_files_alone(raced, tmp_path, monkeypatch):
    study, _, _, _ = raced
    monkeypatch.setattr(html, "gallery", lambda *_: [])  # the other figures have their own tests
    report = study.report(tmp_path / "there")
    text = report.read_text()
    assert "<h2>Landscape</h2>" in text
    assert 'href="figures/landscape.svg"' in text
    assert (tmp_path / "there" / "figures" / "landscape.svg").is_file()
    records = study.records()
    surface = scene.read(tmp_path / "there")
    said = scene.sentences(surface)[0]
    assert "on seed 1, run again as they ran in the race" in said
    assert "64 samples, at 5 × 5 points" in said
    assert "<h2>Landscape</h2>" not in page(records.study, records.runs)
    changed = Surface(
        surface.x,
        surface.y,
        surface.metrics,
        surface.computed,
        surface.labels,
        surface.paths,
        {**surface.meta, "study": {**surface.meta["study"], "differs": ["sgd"]}},
    )
    assert "sgd did not end at the training loss" in " ".join(scene.sentences(changed))


def test_what_has_no_landscape_says_why_and_the_race_goes_on(tmp_path):
    study = tw.Study("booth", ["sgd"], budget=5, trials=1, out=tmp_path / "booth")
    summary = study.run(progress=False, executor=Inline())
    assert not Scenery.place(study.out).exists()
    scenery = Scenery(study.plan, study.out)
    assert "drawn as it is" in scenery.measure(study.records(), summary)
