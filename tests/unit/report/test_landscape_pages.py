"""Pages, animations and exports of surfaces: offline, safe, and with the right numbers."""

from __future__ import annotations

import base64
import builtins
import itertools
import json
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from thalweg.landscape import PlanePath
from thalweg.report import landscapes
from thalweg.report.heights import picture_loss
from thalweg.report.landscapes.clock import Clock, place_at
from thalweg.report.landscapes.interactive import figures
from thalweg.report.landscapes.player import player_page
from thalweg.report.landscapes.statements import statements
from unit.report.valleys import broken, valley


EVIL = "</script><script>alert(1)</script><b>"


class Reader(HTMLParser):
    """The addresses, the identifiers, and what each script element holds."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.scripts, self.ids, self.policy, self.inside = [], [], [], "", False
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data") and v]
        self.ids += [held["id"]] if "id" in held else []
        if tag == "meta" and held.get("http-equiv") == "Content-Security-Policy":
            self.policy = held["content"]
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((held.get("type"), ""))

    def handle_data(self, data):
        if self.inside:
            kind, before = self.scripts[-1]
            self.scripts[-1] = (kind, before + data)

    def handle_endtag(self, tag):
        self.inside = False


@pytest.fixture(scope="module")
def surface():
    return valley(15, 13)


def evil():
    named = valley(15, 13)
    walks = tuple(replace(path, name=EVIL) for path in named.paths[:1])
    return replace(named, paths=walks, labels=(EVIL, "y"))


def test_a_page_loads_nothing_and_nothing_in_it_ends_a_script():
    pytest.importorskip("plotly")
    account = landscapes.Account(EVIL, [EVIL], [(EVIL, EVIL)], [EVIL], EVIL)
    page = Reader(landscapes.landscape_html(evil(), turn=True, account=account))
    assert not [a for a in page.addresses if not a.startswith("#")]
    assert page.policy.startswith("default-src 'none'")
    assert "http" not in page.policy
    assert page.tags.count("script") == 5
    assert "b" not in page.tags
    data = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    assert data[-1]["paths"][0]["name"] == EVIL
    assert len(page.ids) == len(set(page.ids))


def test_the_page_says_how_far_the_picture_is_from_the_paths(surface):
    said = " ".join(statements(surface))
    assert "89% of the variance" in said
    assert "random walk with as many points it would hold 90%" in said
    assert "sgd's distance from the centre, 60% is off the plane at its start" in said
    assert "60% at most (step 0)" in said
    path = surface.paths[0]
    shown = picture_loss(surface, path)
    worst = int(np.nanargmax(np.abs(np.log(shown / path.loss))))
    assert f"most wrong at step {path.steps[worst]}, where it shows {shown[worst]:.3g}" in said
    low = surface.loss.min()
    assert f"{low:.4g}" in said
    assert "2 of 195 points" in " ".join(statements(broken(surface, nan=[(0, 0)], inf=[(1, 1)])))
    centred = replace(surface, meta={"centre": {"loss": float(low)}})
    assert "No point of the grid is lower than its centre" in statements(centred)[0]


def test_without_plotly_the_page_is_whole_and_says_how_to_get_it(surface, tmp_path, monkeypatch):
    plain = builtins.__import__

    def refuse(name, *arguments, **more):
        if name.startswith("plotly"):
            raise ImportError(name)
        return plain(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=re.escape('pip install "thalweg[view]"')):
        figures(surface)
    files = landscapes.write_landscape(tmp_path / "new", surface)
    assert {file.name for file in files} == {
        "landscape.html",
        *(f"{name}.{kind}" for name in ("landscape", "relief") for kind in ("png", "svg")),
    }
    page = files[0].read_text()
    assert "thalweg[view]" in page
    assert "In space" in page
    assert Reader(page).tags.count("script") == 2
    for address in Reader(page).addresses:
        assert (tmp_path / "new" / address).is_file() or address.startswith("#")


def numbers(array):
    if isinstance(array, dict):
        kind = {"f4": "<f4", "f8": "<f8", "i8": "<i8", "i1": "<i1", "i2": "<i2"}[array["dtype"]]
        held = np.frombuffer(base64.b64decode(array["bdata"]), kind)
        return held.reshape([int(n) for n in str(array.get("shape", held.size)).split(",")])
    return np.array(array, float)


def test_interactive_figures_hold_the_true_values(surface):
    pytest.importorskip("plotly")
    drawn = figures(broken(surface, nan=[(4, 5)]))
    assert list(drawn) == ["loss", "accuracy"]
    space, above = drawn["loss"]["space"], drawn["loss"]["above"]
    for figure, kind in ((space, "surface"), (above, "contour")):
        ground = figure["data"][0]
        assert ground["type"] == kind
        held = numbers(ground["customdata"])
        assert np.isnan(held[4, 5])
        np.testing.assert_allclose(held[:4], surface.loss[:4], rtol=1e-6)
        np.testing.assert_allclose(numbers(ground["x"]), surface.x, rtol=1e-6)
    walk = next(trace for trace in space["data"] if trace.get("name") == "adam")
    table = numbers(walk["customdata"])
    np.testing.assert_allclose(table[:, 1], surface.paths[1].loss)
    np.testing.assert_allclose(table[:, 3], surface.paths[1].residual)


def test_all_walkers_are_on_one_clock():
    path = PlanePath("sgd", [[0, 0], [4, 2], [4, 4]], [0] * 3, [3.0, 1.0, 0.0], [0, 10, 20])
    xy, loss = place_at(path, 15)
    np.testing.assert_allclose(xy, [4, 3])
    assert loss == 0.5
    xy, loss = place_at(path, 1000)
    np.testing.assert_allclose(xy, [4, 4])
    assert loss == 0.0
    log = Clock(1000, "log")
    assert (log.at(0), round(log.at(1.0), 9)) == (0, 1000)
    assert log.at(0.5) < 50
    with pytest.raises(ValueError, match="'linear', 'log'"):
        Clock(10, "square")


def test_a_gif_moves_and_ends_where_the_paths_end(surface, tmp_path):
    file = landscapes.animate(surface, tmp_path / "a.gif", seconds=0.3, fps=10)
    with Image.open(file) as image:
        assert image.n_frames == 3
        frames = []
        for k in range(3):
            image.seek(k)
            frames.append(np.asarray(image.convert("RGB"), float))
            assert image.info["duration"] == (1500 if k == 2 else 100)
    moved = [np.abs(b - a).max() for a, b in itertools.pairwise(frames)]
    assert min(moved) > 60
    # The surface stands still: most of the picture is the same in all.
    assert np.mean(np.abs(frames[-1] - frames[0]).max(axis=2) > 8) < 0.1


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on this machine")
def test_an_mp4_has_the_frames(surface, tmp_path):
    file = landscapes.animate(surface, tmp_path / "a.mp4", seconds=0.4, fps=10)
    asked = ["ffprobe", "-v", "error", "-show_entries", "stream=nb_frames", "-of", "csv=p=0"]
    said = subprocess.run([*asked, str(file)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "4"


def test_what_cannot_be_animated_is_said(surface, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get install ffmpeg"):
        landscapes.animate(surface, tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"\.gif, \.mp4, \.html"):
        landscapes.animate(surface, tmp_path / "a.webm")
    with pytest.raises(ValueError, match="no path that moves"):
        landscapes.animate(valley(5, 5, paths=False), tmp_path / "a.gif")


def test_the_player_is_small_and_knows_where_things_are(surface):
    page = player_page(surface, pace="log")
    assert len(page) < 300_000
    read = Reader(page)
    assert not [a for a in read.addresses if not a.startswith("#")]
    data = json.loads(next(text for kind, text in read.scripts if kind == "application/json"))
    assert data["pace"] == "log"
    places = np.array(data["paths"][0]["xy"])
    across = np.diff(places[:, 0]) / np.diff(surface.paths[0].xy[:, 0])
    np.testing.assert_allclose(across, np.median(across), rtol=0.05)
    assert (np.diff(places[:, 1]) * np.diff(surface.paths[0].xy[:, 1]) <= 0).all()
    assert ((places > 0) & (places < 1)).all()


def test_vtk_files_read_back(surface, tmp_path):
    holed = broken(surface, nan=[(4, 5)], missing=[(0, 0)])
    grid, lines = landscapes.write_vtk(holed, tmp_path / "a.vts")
    arrays = read_vtk(grid)
    assert arrays["extent"] == "0 14 0 12 0 0"
    np.testing.assert_array_equal(arrays["loss"].reshape(13, 15), holed.loss)
    np.testing.assert_array_equal(arrays["computed"].reshape(13, 15), holed.computed)
    points = arrays["points"].reshape(13, 15, 3)
    np.testing.assert_allclose(points[3, :, 0], surface.x)
    np.testing.assert_allclose(points[:, 7, 1], surface.y)
    assert not points[..., 2].any()
    walked = read_vtk(lines)
    both = np.concatenate([path.xy for path in surface.paths])
    np.testing.assert_allclose(walked["points"].reshape(-1, 3)[:, :2], both)
    assert walked["offsets"].tolist() == [61, 122]
    np.testing.assert_allclose(walked["residual"][:61], surface.paths[0].residual)
    raised, _ = landscapes.write_vtk(surface, tmp_path / "b.vts", height="loss")
    top = read_vtk(raised)["points"].reshape(13, 15, 3)[..., 2]
    np.testing.assert_allclose(top, surface.loss)
    with pytest.raises(ValueError, match="'flat', 'loss', 'log'"):
        landscapes.write_vtk(surface, tmp_path / "c.vts", height="up")


def read_vtk(path):
    """The arrays of a file in VTK's XML format with inline base64, by name."""
    root = ET.parse(path).getroot()
    assert root.attrib["header_type"] == "UInt64"
    kinds = {"Float64": "<f8", "Int64": "<i8", "UInt8": "<u1"}
    arrays = {}
    for node in root.iter("DataArray"):
        raw = base64.b64decode(node.text)
        (size,) = struct.unpack("<Q", raw[:8])
        assert size == len(raw) - 8
        arrays[node.attrib["Name"]] = np.frombuffer(raw[8:], kinds[node.attrib["type"]])
    piece = next(root.iter("Piece"))
    arrays["extent"] = piece.attrib.get("Extent")
    return arrays
