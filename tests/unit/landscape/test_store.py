"""A store goes on where it was cut off, and refuses what does not belong to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from thalweg.landscape import Line, Surface, line, plane, read_store
from thalweg.landscape.store import Store
from thalweg.objective import Objective
from unit.landscape.networks import classifier, perceptron


def closure_of(seed=0):
    torch.manual_seed(seed)
    return classifier(perceptron(6, 8, 3), batches=2)


@pytest.mark.parametrize("evaluation", ["in-place", "first-layer", "vmap"])
def test_an_interrupted_plane_goes_on_with_identical_numbers(tmp_path, evaluation, monkeypatch):
    path = tmp_path / "store" / "a.plane"
    options = {"resolution": (8, 9), "evaluation": evaluation, "progress": False}
    whole = plane(closure_of(), **options)
    monkeypatch.setattr("thalweg.landscape.plane_fill._MOST", 4)
    stops = []

    original = Store.add

    def stop(store, indices, rows):
        stops.append(len(indices))
        if len(stops) == 2:
            raise KeyboardInterrupt
        return original(store, indices, rows)

    monkeypatch.setattr(Store, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        plane(closure_of(), store=path, **options)
    monkeypatch.setattr(Store, "add", original)
    partly = read_store(path)
    assert isinstance(partly, Surface)
    assert 0 < partly.computed.sum() < 72
    assert not partly.meta["finished"]
    assert np.isnan(partly.loss[~partly.computed]).all()
    closure = closure_of()
    before = closure.ledger.forward
    resumed = plane(closure, store=path, **options)
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    assert resumed.computed.all()
    # Filled already: only the centre and the trial of the way are evaluated again.
    spent = closure.ledger.forward - before
    again = closure_of()
    plane(again, store=path, **options)
    assert again.ledger.forward < spent
    assert read_store(path).meta["finished"]


@pytest.mark.parametrize("cut", [1, 7, 20, 21])
def test_a_record_that_was_cut_off_is_measured_again(tmp_path, cut):
    path = tmp_path / "a.plane"
    whole = plane(closure_of(), resolution=5, store=path, progress=False)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    partly = read_store(path)
    assert partly.computed.sum() == 24 if cut < 21 else 23
    resumed = plane(closure_of(), resolution=5, store=path, progress=False)
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    assert len(path.read_bytes()) == len(data)


def test_a_record_with_a_flipped_bit_is_measured_again(tmp_path):
    path = tmp_path / "a.plane"
    whole = plane(closure_of(), resolution=5, store=path, progress=False)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(bytes(data))
    assert read_store(path).computed.sum() < 25
    resumed = plane(closure_of(), resolution=5, store=path, progress=False)
    np.testing.assert_array_equal(resumed.loss, whole.loss)


def test_nan_is_a_result_and_is_not_measured_again(tmp_path):
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    calls = []

    def function(v):
        calls.append(1)
        return v[0].sqrt() + v[1]

    closure = Objective.of(function).closure(x)
    options = {"resolution": 5, "span": 1.0, "store": tmp_path / "a.plane", "progress": False}
    first = plane(closure, "coordinates", **options)
    before = len(calls)
    again = plane(closure, "coordinates", **options)
    np.testing.assert_array_equal(first.loss, again.loss)
    assert np.isnan(again.loss).sum() == 10
    assert len(calls) - before < 5


def test_a_line_has_a_store_too(tmp_path):
    path = tmp_path / "a.line"
    found = line(closure_of(), resolution=9, store=path, progress=False)
    held = read_store(path)
    assert isinstance(held, Line)
    np.testing.assert_array_equal(held.loss, found.loss)
    with pytest.raises(ValueError, match="what is 'line' there and 'plane' here"):
        plane(closure_of(), store=path, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 4}, "the directions differ"),
        ({"span": 2.0}, "the x differ; the y differ"),
        ({"resolution": 6}, "the x differ"),
        ({"metrics": ["accuracy"]}, "the metrics differ"),
    ],
)
def test_another_setting_is_refused_in_words(tmp_path, options, message):
    path = tmp_path / "a.plane"
    plane(closure_of(), resolution=5, store=path, progress=False)
    data = path.read_bytes()
    with pytest.raises(ValueError, match=f"another setting: .*{message}.*Give another path"):
        plane(closure_of(), store=path, progress=False, **{"resolution": 5, **options})
    assert path.read_bytes() == data


def test_other_weights_data_and_modes_are_refused(tmp_path):
    path = tmp_path / "a.plane"
    plane(closure_of(), resolution=5, store=path, progress=False)
    with pytest.raises(ValueError, match="the weights differ"):
        plane(closure_of(1), resolution=5, store=path, progress=False)
    torch.manual_seed(0)
    model = perceptron(6, 8, 3)
    with pytest.raises(ValueError, match=r"setting: the data differ; the loss at the centre is"):
        plane(classifier(model, n=39, batches=2), resolution=5, store=path, progress=False)
    with pytest.raises(ValueError, match="the buffers and modes differ"):
        plane(classifier(model.eval(), batches=2), resolution=5, store=path, progress=False)


def test_a_file_of_another_kind_is_refused_and_kept(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(ValueError, match="no store of a landscape"):
        plane(closure_of(), store=path, progress=False)
    assert path.read_text() == "my notes\n"
    path.write_text(json.dumps({"file": "other"}) + "\n")
    with pytest.raises(ValueError, match="no store of a landscape"):
        read_store(path)


SCRIPT = """
import sys, time, torch
from thalweg.landscape import plane
from unit.landscape.test_store import closure_of
slow = float(sys.argv[2])
def metric(outputs, targets):
    time.sleep(slow)
    return outputs.double().mean()
torch.set_num_threads(1)
surface = plane(closure_of(), resolution=12, metrics={"m": metric}, evaluation="in-place",
                store=sys.argv[1], progress=False)
surface.save(sys.argv[1] + ".npz")
"""


@pytest.mark.slow
def test_a_killed_process_is_continued_by_another(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "tests"])}
    path = tmp_path / "a.plane"
    run = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen([*run, str(path), "0.02"], env=environment)
    for _ in range(600):
        if path.exists() and path.stat().st_size > 4000:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    held = read_store(path).computed.sum()
    assert 0 < held < 144
    subprocess.run([*run, str(path), "0"], env=environment, check=True)
    other = tmp_path / "b.plane"
    subprocess.run([*run, str(other), "0"], env=environment, check=True)
    resumed, whole = (Surface.load(f"{p}.npz") for p in (path, other))
    for name in ("loss", "m"):
        np.testing.assert_array_equal(resumed.metrics[name], whole.metrics[name])
