"""Every optimizer is followed, training does not notice, and a kill costs nothing."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thalweg as tw
from thalweg.landscape import Recording, Trajectory
from thalweg.objective import Objective


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 2))


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


X, Y = torch.randn(8, 3), torch.randint(0, 2, (8,))
SGD, Adam = torch.optim.SGD, torch.optim.Adam
METHODS = {
    "sgd": lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9),
    "adam": lambda m: Adam(m.parameters(), lr=0.01),
    "lbfgs": lambda m: torch.optim.LBFGS(m.parameters(), max_iter=3),
    "tw-adam": lambda m: tw.optim.Adam(m.parameters(), lr=0.01),
    "tw-adahessian": lambda m: tw.optim.AdaHessian(m.parameters(), lr=0.1),
    "tw-lookahead": lambda m: tw.optim.Lookahead(SGD(m.parameters(), lr=0.1)),
    "groups": lambda m: SGD(
        [
            {"params": m[0].parameters(), "lr": 0.2},
            {"params": [*m[1].parameters(), *m[3].parameters()]},
        ],
        lr=0.1,
    ),
}


def train(model, optimizer, steps):
    closure = Objective(model, F.cross_entropy).closure(X, Y)
    path = [flat(model)]
    for _ in range(steps):
        optimizer.step(closure)
        path.append(flat(model))
    return torch.stack(path)


@pytest.mark.parametrize("name", METHODS)
def test_every_optimizer_is_followed_and_does_not_notice(name):
    alone, model = network(), network()
    torch.manual_seed(5)
    expected = train(alone, METHODS[name](alone), 7)
    random = torch.get_rng_state()
    torch.manual_seed(5)
    optimizer = METHODS[name](model)
    loss = Objective(model, F.cross_entropy).closure(X, Y)
    with Trajectory(optimizer, every=3, loss=loss) as trajectory:
        train(model, optimizer, 7)
    assert torch.equal(random, torch.get_rng_state())
    assert trajectory.steps.tolist() == [0, 3, 6, 7]
    torch.testing.assert_close(trajectory.matrix(), expected[[0, 3, 6, 7]], rtol=0, atol=0)
    after, before = model.state_dict(), alone.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(math.isfinite(loss) for loss in trajectory.losses)
    train(model, optimizer, 3)
    assert trajectory.steps[-1] == 7  # it was detached


def test_the_loss_is_that_of_the_recorded_point():
    x = nn.Parameter(torch.tensor([3.0, 1.0]))
    optimizer = SGD([x], lr=0.1)
    closure = Objective.of(lambda x: (x**2).sum()).closure(x)
    trajectory = Trajectory(optimizer, loss=closure)
    for _ in range(3):
        optimizer.step(closure)
    expected = trajectory.matrix().square().sum(1)
    torch.testing.assert_close(torch.tensor(trajectory.losses).float(), expected)


def test_points_have_the_shapes_and_the_order_that_were_asked_for():
    model = network()
    reverse = SGD([{"params": list(model.parameters())[::-1]}], lr=0.1)
    trajectory = Trajectory(reverse, params=model)
    (point,) = trajectory.points()
    assert [p.shape for p in point] == [p.shape for p in model.parameters()]
    assert torch.equal(trajectory.matrix()[0], flat(model))
    assert trajectory.recording.names[0] == "0.weight"


def test_the_live_point_is_the_last_one():
    x = nn.Parameter(torch.zeros(1))
    trajectory = Trajectory([x], every=10)
    for step in range(1, 14):
        x.data.fill_(float(step))
        trajectory.step()
    assert trajectory.steps.tolist() == [0, 10, 13]
    assert trajectory.matrix().flatten().tolist() == [0.0, 10.0, 13.0]
    assert len(trajectory) == 3


@pytest.mark.parametrize("limit", [2, 3, 4, 7, 10])
def test_thinning_keeps_an_even_spacing_and_both_ends(limit, tmp_path):
    for folder in (None, tmp_path / "path"):
        x = nn.Parameter(torch.zeros(2))
        trajectory = Trajectory([x], limit=limit, folder=folder)
        for step in range(1, 100):
            x.data.fill_(float(step))
            trajectory.step()
            steps = trajectory.steps
            assert steps[0] == 0
            assert steps[-1] == step
            assert len(steps) <= limit + 1  # the live point is not kept
            assert len(set((steps[1:-1] - steps[:-2]).tolist())) <= 1
            assert trajectory.matrix()[:, 0].tolist() == steps.tolist()
        trajectory.detach()
        assert len(trajectory) <= limit
        assert trajectory.steps[-1] == 99


def test_a_step_that_raises_is_not_counted():
    x = nn.Parameter(torch.tensor([1.0]))
    optimizer = tw.optim.SGD([x], lr=0.1)
    trajectory = Trajectory(optimizer)

    def closure(value):
        x.grad = torch.ones(1)
        return torch.tensor(value)

    optimizer.step(lambda: closure(1.0))
    with pytest.raises(ArithmeticError), trajectory:
        optimizer.step(lambda: closure(math.nan))
    trajectory.attach()
    optimizer.step(lambda: closure(1.0))
    trajectory.detach()
    assert trajectory.steps.tolist() == [0, 1, 2]
    torch.testing.assert_close(trajectory.matrix().flatten(), torch.tensor([1.0, 0.9, 0.8]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_on_disk_and_in_memory(dtype, tmp_path):
    x = nn.Parameter(torch.randn(5))
    for folder in (None, tmp_path):
        trajectory = Trajectory([x], folder=folder, dtype=dtype)
        expected = x.detach().to(dtype)
        assert torch.equal(trajectory.matrix()[0], expected.to(trajectory.matrix().dtype))
    assert torch.equal(Recording.load(tmp_path).rows[0][2], expected)


def test_a_killed_run_goes_on(tmp_path):
    whole_model = network()
    whole = Trajectory(Adam(whole_model.parameters()), every=2, params=whole_model)
    train(whole_model, whole._optimizer, 11)
    model = network()
    optimizer = Adam(model.parameters())
    first = Trajectory(optimizer, every=2, params=model, folder=tmp_path)
    train(model, optimizer, 4)
    checkpoint = copy.deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    train(model, optimizer, 3)  # lost: the last checkpoint is of step 4
    del first
    file = tmp_path / "trajectory.bin"
    file.write_bytes(file.read_bytes()[:-3])  # killed in the middle of a row

    model = network()
    optimizer = Adam(model.parameters())
    model.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    torch.set_rng_state(checkpoint[2])
    second = Trajectory(optimizer, every=2, params=model, folder=tmp_path)
    assert second.steps.tolist() == [0, 2, 4]
    train(model, optimizer, 7)
    second.detach()
    loaded = Recording.load(tmp_path)
    assert loaded.steps.tolist() == whole.steps.tolist() == [0, 2, 4, 6, 8, 10, 11]
    assert torch.equal(loaded.matrix()[:3], whole.matrix()[:3])
    assert loaded.names[-1] == "3.bias"
    assert [tuple(p.shape) for p in next(iter(loaded.points()))] == [
        tuple(p.shape) for p in model.parameters()
    ]


def test_going_on_between_two_points_needs_the_step(tmp_path):
    x = nn.Parameter(torch.zeros(1))
    trajectory = Trajectory([x], every=5, folder=tmp_path)
    for step in range(1, 13):
        x.data.fill_(float(step))
        trajectory.step()
    x.data.fill_(7.0)
    with pytest.raises(ValueError, match="up to step 10 is there"):
        Trajectory([x], every=5, folder=tmp_path)
    again = Trajectory([x], every=5, folder=tmp_path, start=7)
    assert again.steps.tolist() == [0, 5, 7]
    for step in range(8, 12):
        x.data.fill_(float(step))
        again.step()
    assert again.steps.tolist() == [0, 5, 10, 11]


def test_a_reader_leaves_a_running_recording_alone(tmp_path):
    x = nn.Parameter(torch.zeros(3))
    trajectory = Trajectory([x], folder=tmp_path)
    file = tmp_path / "trajectory.bin"
    size = file.stat().st_size
    with open(file, "ab") as half:
        half.write(b"12345")
    assert len(Recording.load(tmp_path)) == 1
    assert file.stat().st_size == size + 5
    assert len(trajectory) == 1


def test_what_does_not_fit_is_said(tmp_path):
    x = nn.Parameter(torch.zeros(3))
    Trajectory([x], folder=tmp_path)
    with pytest.raises(ValueError, match="other shapes"):
        Trajectory([nn.Parameter(torch.zeros(4))], folder=tmp_path)
    with pytest.raises(ValueError, match=r"torch\.float32, not torch\.float16"):
        Trajectory([x], folder=tmp_path, dtype=torch.float16)
    with pytest.raises(FileNotFoundError, match="no recording"):
        Recording.load(tmp_path / "nowhere")
    (tmp_path / "trajectory.bin").write_bytes(b"something else entirely, in a file")
    with pytest.raises(ValueError, match="no recording"):
        Recording.load(tmp_path)
    with pytest.raises(ValueError, match="every must be an integer >= 1"):
        Trajectory([x], every=0)
    with pytest.raises(ValueError, match="limit"):
        Trajectory([x], limit=1)
    with pytest.raises(ValueError, match="dtype must be one of"):
        Trajectory([x], dtype=torch.int32)
    for wrong in ("adam", [], [3.0], None):
        with pytest.raises(TypeError, match="an optimizer, a module"):
            Trajectory(wrong)


def test_of_an_averaging_method_the_iterates_are_recorded_and_the_average_where_one_asks():
    x = nn.Parameter(torch.tensor([0.0]))
    optimizer = tw.optim.WeightAveraging(tw.optim.SGD([x], lr=1.0))
    iterates, averages = Trajectory(optimizer), Trajectory([x])
    for _ in range(3):
        x.grad = torch.tensor([-1.0])
        optimizer.step()
        with optimizer.evaluation():
            averages.step()
    assert iterates.matrix().flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert averages.matrix().flatten().tolist() == [0.0, 1.0, 1.5, 2.0]
