"""K-FAC's step against dense inverses, its two ways to hear layers, and what a loop does to it."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from thalweg import Objective
from thalweg.curvature import GGN
from thalweg.curvature.kronecker import KroneckerFactors
from thalweg.errors import NonFiniteError
from thalweg.objective.recorder import Use
from thalweg.optim import EKFAC, KFAC, KFACOptions


EVERY = (1, 1)
METHODS = (KFAC, EKFAC)


def network(seed=0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batch(seed=0, rows=12):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=g, dtype=torch.float64)
    return x, torch.randint(0, 3, (rows,), generator=g)


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def closure_of(model, seed=0):
    return Objective(model, F.cross_entropy).closure(*batch(seed))


def plainly(model, optimizer, seeds):
    """Training as torch's users write it."""
    for seed in seeds:
        x, y = batch(seed)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("fisher", ["exact", "monte-carlo", "empirical"])
def test_a_step_is_the_factored_inverse_times_the_gradient(fisher):
    model, options = network(), KFACOptions(fisher=fisher, constraint=0.0, seed=4)
    closure = closure_of(model)
    K = KroneckerFactors(closure, fisher=fisher, seed=4)
    gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
    expected = flat(model) - 0.1 * (K.inverse(0.02).to_dense() @ gradient)
    KFAC(model, lr=0.1, damping=0.02, options=options).step(closure)
    torch.testing.assert_close(flat(model), expected, rtol=1e-9, atol=1e-11)


def test_a_corrected_step_is_the_exact_inverse_in_the_eigenbasis():
    model, options = network(), KFACOptions("exact", constraint=0.0)
    closure = closure_of(model)
    K = KroneckerFactors(closure, fisher="exact", corrected=True)
    gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
    inverse = K.inverse(0.02, factored=False).to_dense()
    optimizer = EKFAC(model, lr=0.1, damping=0.02, decay=0.0, options=options)
    before = flat(model)
    optimizer.step(closure)
    torch.testing.assert_close(
        flat(model), before - 0.1 * inverse @ gradient, rtol=1e-9, atol=1e-11
    )


def test_factors_are_bias_corrected_averages():
    model = network()
    optimizer = KFAC(model, lr=0.0, decay=0.75, intervals=EVERY)
    found = []
    for step in range(3):
        closure = closure_of(model, step)
        K = KroneckerFactors(closure, seed=7919 * step)
        found.append(next(iter(K.factors.values())))
        optimizer.step(closure)
    (block,) = optimizer.state[model[0].weight]["blocks"].values()
    weights = torch.tensor([0.75**2, 0.75, 1.0], dtype=torch.float64)
    for name in ("inputs", "outputs"):
        each = torch.stack([getattr(f, name) for f in found])
        expected = torch.einsum("k,kij->ij", weights / weights.sum(), each)
        torch.testing.assert_close(block[name], expected)


def test_factors_and_inverses_keep_their_intervals():
    model = network()
    optimizer = KFAC(model, lr=0.01, intervals=(2, 6))
    counts, inverses = [], []
    for step in range(13):
        optimizer.step(closure_of(model, step))
        (block,) = optimizer.state[model[0].weight]["blocks"].values()
        counts.append(block["count"])
        inverses.append(block["left"])
    assert counts == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    renewed = [i for i in range(1, 13) if not torch.equal(inverses[i], inverses[i - 1])]
    assert renewed == [2, 4, 6, 12]


def test_the_constraint_bounds_the_steps_length():
    lengths = []
    for constraint in (0.0, 1e-4):
        model = network()
        closure = closure_of(model)
        before = flat(model)
        gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
        options = KFACOptions(constraint=constraint)
        KFAC(model, lr=0.5, options=options).step(closure)
        lengths.append(float((before - flat(model)) @ gradient) * 0.5)
    # lr u . g is what the step loses; lr^2 u . g its squared length in the metric.
    free, bound = lengths
    assert free > 1e-4
    assert bound == pytest.approx((free * 1e-4) ** 0.5, rel=1e-9)


def test_plain_backward_is_the_closure_at_the_same_seed():
    first, second = network(), network()
    ours = KFAC(first, intervals=(2, 4), options=KFACOptions(seed=3))
    theirs = KFAC(second, intervals=(2, 4), options=KFACOptions(seed=3, loss_fn=F.cross_entropy))
    for step in range(9):
        ours.step(closure_of(first, step))
    plainly(second, theirs, range(9))
    torch.testing.assert_close(flat(first), flat(second))


@pytest.mark.parametrize("fisher", ["exact", "empirical"])
@pytest.mark.parametrize("method", METHODS)
def test_plain_backward_is_the_closure_for_other_fishers(fisher, method):
    first, second = network(), network()
    options = KFACOptions(fisher, loss_fn=F.cross_entropy)
    ours = method(first, intervals=EVERY, options=options)
    theirs = method(second, intervals=EVERY, options=options)
    for step in range(3):
        ours.step(closure_of(first, step))
    plainly(second, theirs, range(3))
    torch.testing.assert_close(flat(first), flat(second), rtol=1e-6, atol=1e-8)


def test_a_torch_closure_is_heard():
    first, second = network(), network()
    options = KFACOptions(loss_fn=F.cross_entropy)
    one, other = (KFAC(m, options=options) for m in (first, second))
    x, y = batch()

    def closure():
        one.zero_grad()
        loss = F.cross_entropy(first(x), y)
        loss.backward()
        return loss

    one.step(closure)
    plainly(second, other, [0])
    assert torch.equal(flat(first), flat(second))


@pytest.mark.parametrize("fisher", ["monte-carlo", "empirical"])
def test_accumulated_passes_are_one_batch(fisher):
    first, second = network(), network()
    options = KFACOptions(fisher, loss_fn=F.cross_entropy)
    ours, theirs = KFAC(first, options=options), KFAC(second, options=options)
    (x, y), parts = batch(), (slice(0, 4), slice(4, 12))
    ours.step(Objective(first, F.cross_entropy).over([(x[s], y[s]) for s in parts]))
    for s in parts:
        (F.cross_entropy(second(x[s]), y[s]) * len(x[s]) / 12).backward()
    theirs.step()
    if fisher == "monte-carlo":
        torch.testing.assert_close(flat(first), flat(second))
        return
    third = network()
    KFAC(third, options=options).step(Objective(third, F.cross_entropy).closure(x, y))
    torch.testing.assert_close(flat(second), flat(third))


def test_without_a_loss_the_datas_labels_are_used_and_this_is_said_once():
    model, other = network(), network()
    optimizer = KFAC(model, intervals=EVERY)
    with pytest.warns(UserWarning, match="empirical") as said:
        plainly(model, optimizer, range(3))
    assert len(said) == 1
    plainly(other, KFAC(other, intervals=EVERY, options=KFACOptions("empirical")), range(3))
    assert torch.equal(flat(model), flat(other))


class Patchy(nn.Module):
    """Some parameters have factors, some cannot."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.offset = nn.Parameter(torch.tensor(0.1))
        self.nothing = nn.Parameter(torch.zeros(0, 3))
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.outer = nn.Linear(4, 3)

    def forward(self, x):
        h = self.inner(x).tanh() * self.scale + self.offset + self.nothing.sum()
        return self.outer(self.frozen(h))


def test_what_has_no_factors_follows_torchs_adamw_and_is_said_once():
    torch.manual_seed(0)
    model: Any = Patchy().double()
    optimizer = KFAC(model, weight_decay=0.1, options=KFACOptions(fallback_lr=0.01))
    theirs = [model.scale.detach().clone().requires_grad_(), model.offset.detach().clone()]
    adamw = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    unused = model.unused.weight.clone()

    def both(step):
        optimizer.step(closure_of(model, step))
        for p, g in zip(theirs, (model.scale.grad, model.offset.grad), strict=True):
            p.grad = g.clone()
        adamw.step()

    with pytest.warns(UserWarning, match="scale, offset, nothing have no Kronecker"):
        both(0)
    for step in range(1, 4):  # in which a warning would be an error
        both(step)
    assert optimizer.uncovered == ["scale", "offset", "nothing"]
    torch.testing.assert_close(model.scale, theirs[0])
    torch.testing.assert_close(model.offset.detach(), theirs[1])
    assert torch.equal(model.unused.weight, unused)


def saved(optimizer):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_resumes_exactly(method):
    options = KFACOptions(loss_fn=F.cross_entropy)
    whole, model = network(), network()
    plainly(whole, method(whole, intervals=(3, 5), options=options), range(11))
    first = method(model, intervals=(3, 5), options=options)
    plainly(model, first, range(4))
    second = method(resumed := copy.deepcopy(model), intervals=(3, 5), options=options)
    second.load_state_dict(saved(first))
    plainly(resumed, second, range(4, 11))
    assert torch.equal(flat(resumed), flat(whole))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_hears_its_own_model(duplicate):
    model = network()
    optimizer = KFAC(model, intervals=EVERY, options=KFACOptions(loss_fn=F.cross_entropy))
    plainly(model, optimizer, range(2))
    other = duplicate(optimizer)
    plainly(other._listener.model, other, range(2, 5))
    kept = flat(model)
    plainly(model, optimizer, range(2, 5))
    assert not torch.equal(kept, flat(model))
    assert torch.equal(flat(model), flat(other._listener.model))


@pytest.mark.parametrize("loss_fn", [None, F.cross_entropy])
def test_nothing_outlives_the_optimizer(loss_fn):
    model = network()
    optimizer = KFAC(
        model, options=KFACOptions("empirical" if not loss_fn else "exact", loss_fn=loss_fn)
    )
    plainly(model, optimizer, range(2))
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("loss_fn", [None, F.cross_entropy])
def test_nothing_outlives_the_model(loss_fn):
    model = network()
    fisher = "empirical" if loss_fn is None else "monte-carlo"
    optimizer = KFAC(model, intervals=EVERY, options=KFACOptions(fisher, loss_fn=loss_fn))
    plainly(model, optimizer, range(2))
    model(batch()[0])  # a pass that no backward follows
    gone = weakref.ref(model[0].weight)
    del model, optimizer
    gc.collect()
    assert gone() is None


def test_passes_without_backward_are_not_kept():
    model = network()
    optimizer = KFAC(model, options=KFACOptions("empirical"))
    for seed in range(5):
        model(batch(seed)[0])
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is Use]
    plainly(model, optimizer, [0])
    other = network()
    plainly(other, KFAC(other, options=KFACOptions("empirical")), [0])
    assert torch.equal(flat(model), flat(other))


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()
        self.fails = True

    def forward(self, x):
        z = self.inner(x)
        if self.fails:
            raise ValueError("no")
        return z


def test_an_error_in_the_forward_pass_leaves_no_mode_behind():
    model = Failing()
    optimizer = KFAC(model, options=KFACOptions(loss_fn=F.cross_entropy))
    with pytest.raises(ValueError, match="no"):
        model(batch()[0])
    assert not _get_current_function_mode_stack()
    model.fails = False
    plainly(model, optimizer, [0])
    other = network()
    plainly(other, KFAC(other, options=KFACOptions(loss_fn=F.cross_entropy)), [0])
    assert torch.equal(flat(model.inner), flat(other))


def test_evaluation_is_not_heard():
    model, other = network(), network()
    options = KFACOptions(loss_fn=F.cross_entropy)
    optimizer = KFAC(model, options=options)
    model.eval()(batch(7)[0])
    with torch.no_grad():
        model.train()(batch(8)[0])
    plainly(model, optimizer, [0])
    plainly(other, KFAC(other, options=options), [0])
    assert torch.equal(flat(model), flat(other))


def test_a_model_that_was_never_heard_is_an_error():
    model = network().eval()
    optimizer = KFAC(model)
    with pytest.raises(RuntimeError, match="no layer was seen"):
        plainly(model, optimizer, [0])


def scaled(model, optimizer, steps=3):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for seed in range(steps):
        x, y = batch(seed)
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_scaler_does_not_reach_the_drawn_factors(method):
    model, other = network(), network()
    options = KFACOptions(loss_fn=F.cross_entropy)
    scaled(model, method(model, intervals=EVERY, options=options))
    plainly(other, method(other, intervals=EVERY, options=options), range(3))
    torch.testing.assert_close(flat(model), flat(other))


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_scaler_is_refused_where_it_would_reach_them(method):
    model = network()
    with pytest.raises(RuntimeError, match=f"{method.__name__}.*GradScaler"):
        scaled(model, method(model, options=KFACOptions("empirical")))


def test_clipped_gradients_are_not_taken_for_scaled_ones():
    model = network()
    optimizer = KFAC(model, options=KFACOptions("empirical"))
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 8)
        self.block = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.table(x)
        return self.head(self.block(h, h.flip(1)).mean(1))


def images():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip


def problem(kind):
    torch.manual_seed(0)
    x = torch.randint(0, 7, (24, 5)) if kind == "words" else torch.randn(24, 1, 6, 6)
    y = (x.sum(1) % 3) if kind == "words" else (x.mean((1, 2, 3)) * 9).round().long().remainder(3)
    return (Transformer() if kind == "words" else images()), x, y


@pytest.mark.parametrize("kind", ["words", "images"])
@pytest.mark.parametrize(
    ("method", "options", "steps"),
    [
        (KFAC, KFACOptions(), 30),
        (EKFAC, KFACOptions(), 30),
        (KFAC, KFACOptions(quadratic_model=True, adaptive_damping=True), 15),
        (EKFAC, KFACOptions(quadratic_model=True, adaptive_damping=True), 15),
    ],
)
def test_networks_of_every_layer_are_covered_and_trained(kind, method, options, steps):
    model, x, y = problem(kind)
    optimizer = method(model, lr=0.02, intervals=(1, 5), options=options)
    objective = Objective(model, F.cross_entropy)
    losses = [float(optimizer.step(objective.closure(x, y))) for _ in range(steps)]
    assert optimizer.uncovered == []
    # Labels are drawn and units dropped: on words the loss at a step is a noisy number.
    assert sum(losses[-5:]) / 5 < (0.65 if kind == "words" else 0.05) * losses[0]


@pytest.mark.parametrize("kind", ["words", "images"])
def test_a_checkpoint_of_every_kind_of_layer_resumes_exactly(kind):
    ends = []
    for interrupted in (False, True):
        model, x, y = problem(kind)
        model.eval()  # no dropout
        closure = Objective(model, F.cross_entropy).closure(x, y)
        optimizer = KFAC(model, intervals=(2, 4))
        for t in range(7):
            if interrupted and t == 3:
                state = saved(optimizer)
                optimizer = KFAC(model, intervals=(2, 4))
                optimizer.load_state_dict(state)
            optimizer.step(closure)
        ends.append(flat(model))
    assert torch.equal(*ends)


# ---- the quadratic model ------------------------------------------------------------------
def test_rate_and_momentum_minimise_the_quadratic_model():
    model = network()
    options = KFACOptions("exact", quadratic_model=True, constraint=0.0)
    optimizer = KFAC(model, damping=0.5, options=options)
    optimizer.step(closure_of(model, 0))
    last = torch.cat([optimizer.state[p]["last"].reshape(-1) for p in model.parameters()])
    closure, before = closure_of(model, 1), flat(model)
    gradient = torch.cat([g.reshape(-1) for g in closure.value_and_grad()[1]])
    matrix = GGN(closure).to_dense() + 0.5 * torch.eye(len(before), dtype=torch.float64)
    optimizer.step(closure)
    rate, momentum = optimizer.info.details["rate"], optimizer.info.details["momentum"]
    step = flat(model) - before
    u = (momentum * last - step) / rate
    basis = torch.stack([-u, last], 1)
    expected = -torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ gradient)
    torch.testing.assert_close(torch.tensor([rate, momentum]).double(), expected)
    # the step's slope along both directions is zero in the model
    assert (basis.T @ (gradient + matrix @ step)).abs().max() < 1e-9


def test_a_step_on_which_the_loss_rises_is_refused():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        for p in model.parameters():  # next to a saddle: the steps to the model's minimum overshoot
            p.fill_(0.01)
    x = torch.ones(4, 1, dtype=torch.float64)
    closure, before = Objective(model, F.mse_loss).closure(x, x), flat(model)
    options = KFACOptions("exact", adaptive_damping=True, quadratic_model=True, constraint=0.0)
    optimizer = KFAC(model, damping=1e-6, options=options)
    for k in range(1, 3):
        optimizer.step(closure)
        assert optimizer.info.rejected
        assert torch.equal(flat(model), before)
        assert optimizer.param_groups[0]["damping"] == pytest.approx(1e-6 * 4**k)
    for _ in range(60):
        optimizer.step(closure)
    assert float(closure.value()) < 0.01


def test_damping_falls_where_the_model_is_right():
    model = nn.Linear(3, 2).double()
    x, _ = batch()
    closure = Objective(model, F.mse_loss).closure(x, x[:, :2])
    optimizer = KFAC(model, damping=0.1, options=KFACOptions("exact", adaptive_damping=True))
    for _ in range(5):
        optimizer.step(closure)
    assert optimizer.info.details["ratio"] == pytest.approx(1.0)  # the loss is quadratic
    assert optimizer.param_groups[0]["damping"] == pytest.approx(0.1 * 0.95**5)


# ---- what is refused ----------------------------------------------------------------------
@pytest.mark.parametrize("fisher", ["empirical", "monte-carlo"])
def test_what_is_not_finite_is_refused_and_nothing_moves(fisher):
    model, other = network(), network()
    options = KFACOptions(fisher, loss_fn=F.cross_entropy)
    optimizer = KFAC(model, options=options)
    x, y = batch()
    F.cross_entropy(model(x * float("inf")), y).backward()
    before = flat(model)
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        optimizer.step()
    assert torch.equal(flat(model), before)
    plainly(model, optimizer, [0])  # and is forgotten
    plainly(other, KFAC(other, options=options), [0])
    assert torch.equal(flat(model), flat(other))


def test_looking_at_the_curvature_is_not_heard():
    model, other = network(), network()
    options = KFACOptions(loss_fn=F.cross_entropy)
    optimizer = KFAC(model, options=options)
    GGN(closure_of(model, 5)).to_dense()
    plainly(model, optimizer, [0])
    plainly(other, KFAC(other, options=options), [0])
    assert torch.equal(flat(model), flat(other))


def test_sparse_gradients_are_refused():
    model = nn.Sequential(nn.Embedding(4, 2, sparse=True), nn.Linear(2, 2))
    closure = Objective(model, F.cross_entropy).closure(torch.tensor([1]), torch.tensor([0]))
    with pytest.raises(TypeError, match="sparse"):
        KFAC(model).step(closure)


def test_a_second_group_is_refused():
    model = network()
    optimizer = KFAC(model)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(ValueError, match="one group"):
        optimizer.step(closure_of(model))


@pytest.mark.parametrize(
    "options",
    [{"lr": -1.0}, {"damping": 0.0}, {"decay": 1.0}, {"intervals": (0, 1)}, {"intervals": 5}],
)
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        KFAC(network(), **options)


@pytest.mark.parametrize("options", [{"fisher": "full"}, {"samples": 0}, {"seed": -1}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        KFAC(network(), options=KFACOptions(**options))


def test_parameters_are_not_a_model():
    with pytest.raises(TypeError, match="pass the model"):
        KFAC(network().parameters())
