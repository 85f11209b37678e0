"""Where data are looked for, in which order, and that nothing is fetched unasked."""

import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

import pytest

from thalweg.problems import Source, sources
from thalweg.problems.downloads import Remote, cache_folder, consent


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Every place on an empty machine of its own."""
    for name in ("THALWEG_DATA", "THALWEG_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    package = tmp_path / "site" / "demopackage"
    (package / "data").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path


def source(tmp_path: Path, **changes) -> Source:
    options = {
        "under": ("Demo/raw", "demo"),
        "system": (str(tmp_path / "usr"), "~/kept"),
        "package": "demopackage/data",
    }
    return Source("demo", ("a.bin", "b.bin"), "demo data", "Get it: make it.", **options | changes)


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("a.bin", "b.bin"):
        (folder / name).write_bytes(b"x")
    return folder


def test_the_order_of_places(places, monkeypatch):
    demo = source(places)
    assert demo.find() is None
    monkeypatch.setenv("THALWEG_DATA", str(places / "mine"))
    # From the last place to the first: each new one wins over all that are there already.
    for folder in [
        places / "site" / "demopackage" / "data",
        places / "home" / "kept",
        places / "usr",
        places / "work" / "data" / "demo",
        places / "work" / "data" / "Demo" / "raw",
        places / "mine" / "demo",
        places / "mine" / "Demo" / "raw",
        places / "mine",
    ]:
        put(folder)
        found = demo.find()
        assert found is not None
        assert found.resolve() == folder.resolve()
    outright = put(places / "outright" / "Demo" / "raw")
    assert demo.locate(places / "outright") == outright


def test_the_cache_comes_after_a_data_folder_and_before_the_system(places):
    demo = source(places)
    put(places / "usr")
    cached = put(places / "cache" / "thalweg" / "Demo" / "raw")
    assert demo.find() == cached
    assert cache_folder() == places / "cache" / "thalweg"


def test_a_root_is_the_only_place_that_is_looked_at(places):
    demo = source(places)
    put(places / "usr")
    (places / "empty").mkdir()
    with pytest.raises(ImportError, match=r"demo data was not found in .*empty\. Get it: make it"):
        demo.locate(places / "empty")


def test_a_folder_counts_if_every_file_is_there_compressed_or_not(places):
    demo = source(places)
    put(places / "usr", "a.bin")
    assert demo.find() is None
    put(places / "usr", "b.bin.gz")
    assert demo.find() == places / "usr"
    assert demo.file(places / "usr", "a.bin").name == "a.bin"
    assert demo.file(places / "usr", "b.bin").name == "b.bin.gz"


def test_a_package_is_read_without_being_imported(places):
    (places / "site" / "demopackage" / "__init__.py").write_text("raise RuntimeError('imported')")
    folder = put(places / "site" / "demopackage" / "data")
    assert source(places).find() == folder
    assert source(places, package="nosuchpackage/data").find() is None


def test_what_is_missing_is_an_import_error_for_packages_only(places):
    with pytest.raises(ImportError):
        source(places).locate()
    with pytest.raises(FileNotFoundError, match=r"^demo: demo data was not found\. Get it"):
        source(places, package="").locate()


def refuse(*arguments, **options):
    raise AssertionError("something was fetched")


def archive(names: list[str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    return content.getvalue()


def remote(places: Path, name: str, content: bytes) -> Remote:
    path = places / "mirror" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return Remote(path.as_uri(), hashlib.md5(content).hexdigest(), "1 MB")


def test_nothing_is_fetched_without_consent(places, monkeypatch):
    demo = source(places, remote=(remote(places, "a.bin", b"x"),), package="")
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    for value in ("", "0"):
        monkeypatch.setenv("THALWEG_DOWNLOAD", value)
        with pytest.raises(FileNotFoundError, match=r"download=True, or THALWEG_DOWNLOAD=1\.$"):
            demo.locate()
    assert list(places.glob("cache/**/*")) == []
    monkeypatch.setenv("THALWEG_DOWNLOAD", "yes")
    with pytest.raises(ValueError, match=r"THALWEG_DOWNLOAD must be 0 or 1"):
        demo.locate()


@pytest.mark.parametrize("by_environment", [True, False])
def test_files_are_fetched_with_consent_and_it_is_said_first(
    places, monkeypatch, capsys, by_environment
):
    files = tuple(remote(places, f"{name}.bin.gz", name.encode()) for name in "ab")
    demo = source(places, remote=files)
    opened = urllib.request.urlopen
    said = []

    def listening(url, **options):
        said.append((url, capsys.readouterr().err))
        return opened(url, **options)

    monkeypatch.setattr(urllib.request, "urlopen", listening)
    monkeypatch.setenv("THALWEG_DOWNLOAD", "1" if by_environment else "")
    folder = demo.locate(download=not by_environment)
    assert folder == places / "cache" / "thalweg" / "Demo" / "raw"
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin.gz", "b.bin.gz"]
    assert (folder / "a.bin.gz").read_bytes() == b"a"
    assert len(said) == 2
    for url, line in said:
        assert line.startswith(f"thalweg: fetching {url} (1 MB) to ")
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert demo.locate(download=True) == folder


def test_an_archive_is_unpacked_into_the_root(places):
    content = archive(["demo/a.bin", "demo/b.bin"])
    demo = source(
        places, under=("demo",), package="", remote=(remote(places, "d.tar.gz", content),)
    )
    assert demo.locate(places / "root", download=True) == places / "root" / "demo"
    assert [path.name for path in (places / "root").iterdir()] == ["demo"]


def test_an_archive_cannot_write_outside_its_root(places):
    content = archive(["../outside", "demo/a.bin", "demo/b.bin"])
    demo = source(places, under=("demo",), remote=(remote(places, "d.tar.gz", content),))
    with pytest.raises(tarfile.OutsideDestinationError):
        demo.locate(places / "root", download=True)
    assert not (places / "outside").exists()


def test_a_wrong_hash_leaves_nothing_behind(places):
    good = remote(places, "a.bin", b"x")
    demo = source(places, remote=(Remote(good.url, "0" * 32, "1 MB"),))
    with pytest.raises(OSError, match=r"the md5 is 9dd4e461.*, and should be 0000"):
        demo.locate(download=True)
    assert [path for path in places.glob("cache/**/*") if path.is_file()] == []


def test_a_download_without_the_files_says_so(places):
    demo = source(places, remote=(remote(places, "other.bin", b"x"),))
    with pytest.raises(OSError, match=r"does not hold \('a.bin', 'b.bin'\)"):
        demo.locate(download=True)


def test_consent_is_an_argument_or_the_environment(monkeypatch):
    monkeypatch.delenv("THALWEG_DOWNLOAD", raising=False)
    assert (consent(True), consent(False)) == (True, False)
    monkeypatch.setenv("THALWEG_DOWNLOAD", "1")
    assert consent(False)
    assert sources.Source is Source
