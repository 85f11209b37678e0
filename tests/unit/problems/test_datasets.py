"""Each loader, on small files in the true format and on the real ones where they are present."""

import csv
import hashlib
import importlib.util
import pickle

import numpy as np
import pytest
import torch

from thalweg import problems
from thalweg.problems import Data
from thalweg.problems.cifar import CIFAR10, CIFAR100
from thalweg.problems.curves import strokes
from thalweg.problems.diamonds import diamonds_data
from thalweg.problems.fashion import FASHION, fashion_data
from thalweg.problems.moby import moby_data, moby_text
from unit.problems.published import fashion_arrays, write_cifar, write_fashion


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(float(count)).reshape(count, 1), torch.arange(count) % 5


def test_hold_out_keeps_the_test_and_splits_the_rest_evenly():
    train, test = numbered(100), (-numbered(7)[0] - 1, numbered(7)[1])
    data = Data.hold_out(train, test)
    assert torch.equal(data.test[0], test[0])
    rows = [data.of(split)[0].flatten().int().tolist() for split in ("train", "validation")]
    assert [len(part) for part in rows] == [90, 10]
    assert sorted(rows[0] + rows[1]) == list(range(100))
    assert data.validation[1].bincount().tolist() == [2] * 5
    assert torch.equal(data.train[1], data.train[0].flatten().long() % 5)
    assert Data.hold_out(train, test, seed=1).sha256 != data.sha256
    with pytest.raises(ValueError, match=r"Data.hold_out\(validation=1.0\)"):
        Data.hold_out(train, test, validation=1.0)


def test_standardised_and_centred_by_the_training_data_alone():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=draws) * torch.tensor([5.0, 1.0, 0.0]) + 2
    plain = Data.split(x, x[:, :1])
    data = plain.standardised(slice(0, 2)).centred()
    inputs, targets = data.train
    torch.testing.assert_close(inputs[:, :2].mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(inputs[:, :2].std(0), torch.ones(2))
    assert torch.equal(inputs[:, 2], plain.train[0][:, 2])
    mean, std = plain.train[0].mean(0), plain.train[0].std(0)
    expected = (plain.test[0][:, 0] - mean[0]) / std[0]
    torch.testing.assert_close(data.test[0][:, 0], expected)
    torch.testing.assert_close(data.test[1], plain.test[1] - plain.train[1].mean())
    assert targets.mean().abs() < 1e-6
    constant = plain.standardised()
    assert torch.isfinite(constant.train[0]).all()


def test_fashion_is_the_same_data_from_torchvision_and_from_debian(tmp_path):
    write_fashion(tmp_path / "torchvision" / "FashionMNIST" / "raw", compressed=False)
    write_fashion(tmp_path / "debian", compressed=True)
    first, second = (fashion_data(tmp_path / name) for name in ("torchvision", "debian"))
    assert first is not second
    assert first.sha256 == second.sha256
    arrays = fashion_arrays()
    assert np.array_equal(first.test[0][:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    assert first.test[1].tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    together = torch.cat([first.train[0], first.validation[0]])[:, 0].numpy()
    assert sorted(map(bytes, together)) == sorted(map(bytes, arrays["train-images-idx3-ubyte"]))
    assert first.validation[1].bincount().tolist() == [1] * 10


def test_fashion_hash_follows_the_pixels(tmp_path):
    write_fashion(tmp_path / "a", compressed=False)
    write_fashion(tmp_path / "b", compressed=False)
    path = tmp_path / "b" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    assert fashion_data(tmp_path / "a").sha256 != fashion_data(tmp_path / "b").sha256


@pytest.mark.parametrize("name", ["fashion-mlp", "fashion-cnn"])
def test_fashion_trains_downhill(tmp_path, name):
    write_fashion(tmp_path / "raw", compressed=True)
    problem = problems.load(name, root=tmp_path / "raw").check()
    assert falls(problem, steps=30)


@pytest.mark.skipif(FASHION.find() is None, reason="Fashion-MNIST is not here")
def test_the_real_fashion_mnist():
    folder = FASHION.locate()
    from thalweg.problems.formats import read_idx

    pixels = read_idx(FASHION.file(folder, "train-images-idx3-ubyte"))
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest().startswith("2e487a6c89124f78")
    data = fashion_data()
    assert [len(data.of(s)[0]) for s in ("train", "validation", "test")] == [57_000, 3_000, 10_000]
    assert data.validation[1].bincount().tolist() == [300] * 10


CIFARS = {
    "cifar10-resnet20": (CIFAR10, "labels", 10),
    "cifar10-resnet18": (CIFAR10, "labels", 10),
    "cifar100-resnet32": (CIFAR100, "fine_labels", 100),
}


@pytest.mark.parametrize("name", CIFARS)
def test_residual_networks_train_on_batches_of_the_right_shape(tmp_path, name):
    source, key, classes = CIFARS[name]
    write_cifar(tmp_path / source.under[0], source.files, key, classes, rows=classes * 2)
    problem = problems.load(name, root=tmp_path)
    assert problem.target is None
    data = problem.data
    assert data is not None
    assert data.train[0].dtype == torch.uint8
    assert data.train[0].shape[1:] == (3, 32, 32)
    assert len(data.test[0]) == classes * 2
    model = problem.build(0)
    objective = problem.objective(model)
    x, y = data.train[0][:4], data.train[1][:4]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = [float(optimizer.step(objective.closure(x, y))) for _ in range(5)]
    assert min(losses[2:]) < losses[0]


def test_diamonds_have_26_features_and_the_log_price(tmp_path):
    rows = [
        ["carat", "cut", "color", "clarity", "depth", "table", "price", "x", "y", "z"],
        *(
            [0.2 + i / 50, "Very Good", "J", "IF", 60 + i % 3, 55, 300 + i, 4 + i / 9, 4, 2.5]
            for i in range(40)
        ),
    ]
    with (tmp_path / "diamonds.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    data = diamonds_data(tmp_path)
    x, y = data.train
    assert x.shape == (32, 26)
    assert y.shape == (32, 1)
    assert x[:, 6:].sum(1).tolist() == [3.0] * 32  # one cut, one colour, one clarity
    assert x[0, 6 + 2] == x[0, 6 + 5 + 6] == x[0, 6 + 5 + 7 + 7] == 1
    every = torch.cat([data.of(split)[1] for split in ("train", "validation", "test")])
    shifted = every.sort(0).values - every.min()
    expected = torch.tensor([np.log((300 + i) / 300) for i in range(40)])
    torch.testing.assert_close(shifted.flatten(), expected.float(), atol=1e-6, rtol=0)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "diamonds.csv").write_text('"carat","price"\n0.2,300\n')
    with pytest.raises(ValueError, match="not the table of diamonds"):
        diamonds_data(tmp_path / "wrong")


def test_the_real_diamonds():
    pytest.importorskip("numpy")
    if importlib.util.find_spec("plotnine") is None:
        pytest.skip("plotnine is not installed")
    data = diamonds_data()
    assert [len(data.of(s)[0]) for s in ("train", "validation", "test")] == [43_152, 5_394, 5_394]
    assert data.train[0].shape[1] == 26


def test_california_is_read_from_the_cache_of_scikit_learn(tmp_path, monkeypatch):
    import sklearn.datasets

    asked = {}

    def fetch(**options):
        asked.update(options)
        draws = np.random.default_rng(0)
        return draws.normal(size=(50, 8)), draws.uniform(1, 5, 50)

    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", fetch)
    monkeypatch.delenv("THALWEG_DOWNLOAD", raising=False)
    with pytest.raises(FileNotFoundError, match=r"california: scikit-learn's copy .*download=True"):
        problems.load("california", root=tmp_path)
    assert not asked
    (tmp_path / "cal_housing_py3.pkz").write_bytes(b"")
    problem = problems.load("california", root=tmp_path).check()
    assert asked == {
        "data_home": str(tmp_path),
        "download_if_missing": False,
        "return_X_y": True,
    }
    assert falls(problem, steps=30)
    asked.clear()
    problems.load("california", root=tmp_path / "new", download=True)
    assert asked["download_if_missing"]


def test_moby_dick_is_whole_and_its_pieces_follow_on():
    text = moby_text()
    assert len(text) == 1_190_317
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240"
    data = moby_data()
    alphabet = sorted(set(text))
    assert len(alphabet) == 83
    pieces = {}
    for split in ("train", "validation", "test"):
        x, y = data.of(split)
        assert torch.equal(x[:, 1:], y[:, :-1])
        found = ["".join(alphabet[i] for i in row) for row in x[:5].tolist()]
        places = [text.index(piece) for piece in found]
        last = ["".join(alphabet[i] for i in row[-1:]) for row in y[:5].tolist()]
        assert last == [text[place + 64] for place in places]
        pieces[split] = places
    assert max(pieces["train"]) < min(pieces["validation"])
    assert max(pieces["validation"]) < min(pieces["test"])
    assert [len(data.of(s)[0]) for s in pieces] == [16_738, 256, 256]


def test_strokes_are_as_far_from_the_curve_as_their_ink_says():
    points = torch.tensor([[[2.0, 3.0], [12.0, 4.0], [6.0, 13.0]]], dtype=torch.float64)
    image = strokes(points)[0].view(16, 16)
    t = torch.linspace(0, 1, 5001, dtype=torch.float64)[:, None]
    start, pull, end = points[0]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * pull + t**2 * end
    for row, column in ((3, 2), (13, 6), (6, 9), (0, 15), (9, 3)):
        gap = (curve - torch.tensor([column, row])).square().sum(1).min()
        expected = torch.exp(-gap / (2 * 0.6**2))
        torch.testing.assert_close(image[row, column], expected, rtol=0.1, atol=1e-3)


def test_a_unit_of_the_sparse_autoencoder_starts_with_fifteen_weights():
    model = problems.load("curves").build(0)
    linear = [m for m in model if isinstance(m, torch.nn.Linear)]
    assert [m.in_features for m in linear] == [256, 128, 64, 32, 6, 32, 64, 128]
    assert all((m.weight.count_nonzero(1) == min(15, m.in_features)).all() for m in linear)
    assert all(m.bias.count_nonzero() == 0 for m in linear)
    weights = torch.cat([m.weight[m.weight != 0] for m in linear]).detach()
    assert 0.95 < float(weights.std()) < 1.05
    # Between the code and what is drawn from it there is no sigmoid.
    assert [type(m).__name__ for m in model][6:9] == ["Linear", "Linear", "Sigmoid"]


def falls(problem, steps: int, lr: float = 3e-3) -> bool:
    """Whether Adam of torch lowers the training loss."""
    model = problem.build(1)
    before = problem.evaluate(model, "train")["loss"]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    objective = problem.objective(model)
    batches = problem.batches(1)
    for _ in range(steps):
        optimizer.step(objective.closure(*next(batches)))
    return problem.evaluate(model, "train")["loss"] < before


CHEAP = {
    "breast-cancer": 20,
    "moby-transformer": 4,
    "moby-gru": 4,
    "sigmoid-neuron": 40,
    "linear-1e4": 40,
    "logistic-1e4": 40,
    "matrix-completion": 60,
    "autoencoder": 10,
    "curves": 10,
    "diamonds": 20,
}


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_problems_train_downhill_and_travel(name):
    if not problems.catalogue()[name].available:
        pytest.skip("its data are not here")
    problem = problems.load(name)
    assert falls(problem, CHEAP[name])
    again = pickle.loads(pickle.dumps(problem.model))()
    assert sum(p.numel() for p in again.parameters()) > 0
