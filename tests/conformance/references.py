"""What each method is compared with: torch's class, or a transcription of the published recurrence.

Options that torch lacks (l1, decoupled decay outside Adam) are applied around it by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from conformance.subjects import Network, flat
from thalweg.optim.diagonal_curvature import random_signs


Options = dict[str, Any]
Reference = Callable[[Network, Options, int], list[Tensor]]


def of_torch(
    cls: type[torch.optim.Optimizer], native_decoupling: bool = False, native_l2: bool = True
) -> Reference:
    """Torch's own optimizer, with hand-written l1 and decoupled decay, and L2 where it has none."""

    def run(network: Network, options: Options, steps: int) -> list[Tensor]:
        options = dict(options)
        l1 = options.pop("l1", 0.0)
        options.pop("eps_inside", None)
        decay = 0.0
        if not native_decoupling and options.pop("decoupled_weight_decay", False):
            decay = options.pop("weight_decay", 0.0)
        l2 = 0.0 if native_l2 else options.pop("weight_decay", 0.0)
        sign = -1.0 if options.get("maximize") else 1.0
        model = network.model()
        optimizer = cls(model.parameters(), **options)
        path = []
        for t in range(steps):
            network.closure(model, t)()
            with torch.no_grad():
                for p in model.parameters():
                    p.grad.add_(p.sign(), alpha=sign * l1).add_(p, alpha=sign * l2)
                    p.mul_(1 - options["lr"] * decay)
            optimizer.step()
            path.append(flat(model.parameters()))
        return path

    return run


class Flat:
    """The network's loss as a function of one flat vector."""

    def __init__(self, network: Network) -> None:
        self.network, self.model = network, network.model()
        self.start = flat(self.model.parameters())

    def grad(self, x: Tensor, t: int) -> Tensor:
        closure = self.network.closure(self.model, t)
        return flat(closure.value_and_grad(x)[1])


def _regularised(g: Tensor, x: Tensor, options: Options) -> Tensor:
    g = -g if options.get("maximize") else g
    if not options.get("decoupled_weight_decay"):
        g = g + options.get("weight_decay", 0.0) * x
    return g + options.get("l1", 0.0) * x.sign()


def _decayed(x: Tensor, options: Options) -> Tensor:
    if not options.get("decoupled_weight_decay"):
        return x
    return x * (1 - options["lr"] * options.get("weight_decay", 0.0))


def nesterov(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Sutskever's writing of Nesterov's method: velocity, gradient at the look-ahead point."""
    function, path = Flat(network), []
    x, v = function.start, torch.zeros_like(function.start)
    lr, mu = options["lr"], options.get("momentum", 0.9)
    for t in range(steps):
        g = _regularised(function.grad(x - lr * mu * v, t), x, options)
        v = mu * v + g
        x = _decayed(x, options) - lr * v
        path.append(x)
    return path


def nesterov_1983(network: Network, options: Options, steps: int) -> list[Tensor]:
    """y = x + mu (x - x_prev), x = y - lr grad(y)."""
    function, path = Flat(network), []
    x = previous = function.start
    for t in range(steps):
        y = x + options["momentum"] * (x - previous)
        x, previous = y - options["lr"] * function.grad(y, t), x
        path.append(x)
    return path


def rmsprop(network: Network, options: Options, steps: int) -> list[Tensor]:
    """RMSprop with epsilon inside the root where asked; else torch's."""
    if not options.get("eps_inside"):
        return of_torch(torch.optim.RMSprop)(network, options, steps)
    function, path = Flat(network), []
    x = function.start
    s, m, v = (torch.zeros_like(x) for _ in range(3))
    a, lr = options.get("alpha", 0.99), options["lr"]
    for t in range(steps):
        g = _regularised(function.grad(x, t), x, options)
        s = a * s + (1 - a) * g**2
        m = a * m + (1 - a) * g
        variance = s - m**2 if options.get("centered") else s
        u = g / (variance + options.get("eps", 1e-8)).sqrt()
        v = options.get("momentum", 0.0) * v + u
        x = _decayed(x, options) - lr * (v if options.get("momentum") else u)
        path.append(x)
    return path


def averaging(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Torch's AveragedModel for the exponential average, the mean of the iterates for Polyak's."""
    names = ("average", "decay", "start", "every")
    kind, decay, start, every = (options[name] for name in names)
    model = network.model()
    inner = {k: v for k, v in options.items() if k not in names}
    optimizer = torch.optim.SGD(model.parameters(), **inner)
    averaged, seen, path = None, [], []
    for t in range(steps):
        optimizer.step(network.closure(model, t))
        if t < start:
            path.append(flat(model.parameters()))
            continue
        if averaged is None:
            averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        if (t - start) % every == 0:
            averaged.update_parameters(model)
            seen.append(flat(model.parameters()))
        mean = torch.stack(seen).mean(0)
        path.append(flat(averaged.module.parameters()) if kind == "exponential" else mean)
    return path


def delta_bar_delta(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Jacobs's rule entry by entry, and Hinton's with the velocity."""
    function, path = Flat(network), []
    x = function.start
    gain, average, velocity = torch.ones_like(x), torch.zeros_like(x), torch.zeros_like(x)
    (kappa, phi), (low, high), theta = options["changes"], options["limits"], options["theta"]
    for t in range(steps):
        g = _regularised(function.grad(x, t), x, options)
        product = g * (average if options["compare"] == "average" else velocity)
        gain = torch.where(product > 0, gain + kappa, gain)
        gain = torch.where(product < 0, (1 - phi) * gain, gain).clip(low, high)
        average = (1 - theta) * g + theta * average
        velocity = options["momentum"] * velocity + gain * g
        x = _decayed(x, options) - options["lr"] * velocity
        path.append(x)
    return path


def adan(network: Network, options: Options, steps: int) -> list[Tensor]:
    """The paper's equations with the authors' corrected start and place of epsilon."""
    function, path = Flat(network), []
    x = function.start
    m, v, n = (torch.zeros_like(x) for _ in range(3))
    (b1, b2, b3), lr, previous = options["betas"], options["lr"], None
    for t in range(1, steps + 1):
        g = _regularised(function.grad(x, t - 1), x, options)
        difference = torch.zeros_like(g) if previous is None else g - previous
        previous = g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * difference
        n = b3 * n + (1 - b3) * (g + b2 * difference) ** 2
        nesterov = m / (1 - b1**t) + b2 * v / (1 - b2**t)
        x = x - lr * nesterov / ((n / (1 - b3**t)).sqrt() + options["eps"])
        if options["decoupled_weight_decay"]:
            x = x / (1 + lr * options["weight_decay"])
        path.append(x)
    return path


def lookahead(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Algorithm 1 of the paper around torch's SGD; the momentum as in the authors' code."""
    k, alpha, carried = (options[name] for name in ("k", "slow_lr", "inner_momentum"))
    model = network.model()
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=options["lr"], momentum=options["momentum"])
    slow = [p.detach().clone() for p in params]
    cached, path = [torch.zeros_like(p) for p in params], []
    for t in range(steps):
        optimizer.step(network.closure(model, t))
        if (t + 1) % k == 0:
            slow = [s + alpha * (p.detach() - s) for s, p in zip(slow, params, strict=True)]
            for p, s in zip(params, slow, strict=True):
                p.data.copy_(s)
            momenta = [optimizer.state[p].get("momentum_buffer") for p in params]
            for i, momentum in enumerate(momenta):
                if momentum is None or carried == "keep":
                    continue
                cached[i] = (1 - alpha) * cached[i] + alpha * momentum
                momentum.copy_(cached[i] if carried == "interpolate" else 0 * momentum)
        path.append(flat(slow))
    return path


def projected(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Heavy ball, clipped to a box after each step and at the start."""
    function, path = Flat(network), []
    box = options["projection"]
    low, high = (-float("inf"), float("inf")) if box is None else (box.low, box.high)
    x = function.start.clip(low, high)
    v = torch.zeros_like(x)
    for t in range(steps):
        v = options["momentum"] * v + function.grad(x, t)
        x = (x - options["lr"] * v).clip(low, high)
        path.append(x)
    return path


def sam(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Equation 2 of SAM, equation 14 of ASAM, then heavy ball."""
    function, path = Flat(network), []
    x, v = function.start, torch.zeros_like(function.start)
    for t in range(steps):
        g = function.grad(x, t)
        scale = x.abs() + options["eta"] if options["adaptive"] else torch.ones_like(x)
        ascent = options["rho"] * scale**2 * g / (scale * g).norm()
        v = options["momentum"] * v + function.grad(x + ascent, t)
        x = x - options["lr"] * v
        path.append(x)
    return path


class Curved(Flat):
    """The same, with Hutchinson's samples of the dense Hessian, at the method's own probes."""

    def hutchinson(self, x: Tensor, t: int, seed: int) -> Tensor:
        params = dict(self.model.named_parameters())
        inputs, targets = self.network.batch(t)

        def loss(theta: Tensor) -> Tensor:
            parts = theta.split([p.numel() for p in params.values()])
            shaped = [part.view_as(p) for part, p in zip(parts, params.values(), strict=True)]
            at = dict(zip(params, shaped, strict=True))
            return mse_loss(torch.func.functional_call(self.model, at, inputs), targets)

        z = flat(random_signs(list(params.values()), seed))
        return z * (torch.autograd.functional.hessian(loss, x) @ z)


def _block_means(model: torch.nn.Module, sample: Tensor, block: int) -> Tensor:
    """Each entry replaced by its block's mean, entry by entry."""
    means, start = [], 0
    for p in model.parameters():
        rows = sample[start : start + p.numel()].reshape(-1, p.shape[-1])
        start += p.numel()
        for row in rows:
            for i in range(len(row)):
                first = i - i % block if block else i
                means.append(row[first : first + max(block, 1)].mean())
    return torch.stack(means)


def adahessian(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Algorithm 1 of the paper, the floor in place of epsilon, corrected by the samples seen."""
    function, path = Curved(network), []
    x = function.start
    m, h = torch.zeros_like(x), torch.zeros_like(x)
    (b1, b2), lr, seen = options["betas"], options["lr"], 0
    sign = -1.0 if options["maximize"] else 1.0
    penalty = 0.0 if options["decoupled_weight_decay"] else options["weight_decay"]
    for t in range(1, steps + 1):
        g = _regularised(function.grad(x, t - 1), x, options)
        if (t - 1) % options["interval"] == 0:
            sample = sign * function.hutchinson(x, t - 1, options["seed"] + seen) + penalty
            d = _block_means(function.model, sample, options["block_size"])
            h, seen = b2 * h + (1 - b2) * d**2, seen + 1
        m = b1 * m + (1 - b1) * g
        corrected = h / (1 - b2**seen)
        root = corrected.sqrt().clip(min=options["eps"] * corrected.mean().sqrt())
        x = _decayed(x, options) - lr * (m / (1 - b1**t)) / root ** options["hessian_power"]
        path.append(x)
    return path


def sophia(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Algorithm 3 of the paper with Hutchinson's estimate."""
    function, path = Curved(network), []
    x = function.start
    m, h = torch.zeros_like(x), torch.zeros_like(x)
    (b1, b2), seen = options["betas"], 0
    sign = -1.0 if options["maximize"] else 1.0
    penalty = 0.0 if options["decoupled_weight_decay"] else options["weight_decay"]
    for t in range(steps):
        g = _regularised(function.grad(x, t), x, options)
        m = b1 * m + (1 - b1) * g
        if t % options["interval"] == 0:
            estimate = sign * function.hutchinson(x, t, options["seed"] + seen) + penalty
            h, seen = b2 * h + (1 - b2) * estimate, seen + 1
        ratio = m / (options["gamma"] * h).clip(min=options["eps"])
        x = _decayed(x, options) - options["lr"] * ratio.clip(-1, 1)
        path.append(x)
    return path


def by_parameter(network: Network, options: Options, steps: int, rule: Any) -> list[Tensor]:
    """A rule on each parameter's gradient; ``rule(state, g, t)`` is its direction."""
    model, path = network.model(), []
    states: list[dict[str, Any]] = [{} for _ in model.parameters()]
    for t in range(1, steps + 1):
        network.closure(model, t - 1)()
        with torch.no_grad():
            for p, state in zip(model.parameters(), states, strict=True):
                u = rule(state, _regularised(p.grad, p, options), t)
                p.copy_(_decayed(p, options) - options["lr"] * u)
        path.append(flat(model.parameters()))
    return path


def _adam(state: Options, g: Tensor, t: int, betas: Any, eps: float) -> Tensor:
    (b1, b2), zero = betas, torch.zeros_like(g)
    state["m"] = b1 * state.get("m", zero) + (1 - b1) * g
    state["v"] = b2 * state.get("v", zero) + (1 - b2) * g**2
    return state["m"] / (1 - b1**t) / ((state["v"] / (1 - b2**t)).sqrt() + eps)


def muon(network: Network, options: Options, steps: int) -> list[Tensor]:
    """torch's Muon, one step at a time from zero, and Adam's equations for vectors."""
    names = ("momentum", "nesterov", "ns_steps", "adjust_lr_fn", "eps")

    def rule(state: Options, g: Tensor, t: int) -> Tensor:
        if g.ndim < 2:
            return _adam(state, g, t, options["betas"], options["adamw_eps"])
        if not state:
            p = state["p"] = torch.nn.Parameter(torch.zeros_like(g))
            given = {name: options[name] for name in names}
            state["theirs"] = torch.optim.Muon([p], lr=1.0, weight_decay=0.0, **given)
        p = state["p"]
        p.zero_()
        p.grad = g.detach().clone()
        state["theirs"].step()
        return -p.detach().clone()

    return by_parameter(network, options, steps, rule)


def _eigenbasis(a: Tensor) -> Tensor:
    return torch.from_numpy(np.linalg.eigh(a.numpy())[1][:, ::-1].copy())


def soap(network: Network, options: Options, steps: int) -> list[Tensor]:
    """Algorithm 3 of the paper, momentum outside the basis, and a first step that moves."""
    (b1, b2), eps = options["betas"], options["eps"]

    def refreshed(a: Tensor, q: Tensor, v: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        order = torch.diag(q.T @ a @ q).argsort(descending=True)
        return torch.linalg.qr(a @ q[:, order])[0], v.index_select(axis, order)

    def rule(s: Options, g: Tensor, t: int) -> Tensor:
        limit = options["limit"]
        if g.ndim < 2 or min(g.shape) > limit:
            return _adam(s, g, t, options["betas"], eps)
        inside = [n <= limit for n in g.shape]
        eyes = [torch.eye(n, dtype=g.dtype) for n in g.shape]
        grams = [g @ g.T, g.T @ g]
        if t == 1:
            s["factors"] = [(1 - b2) * a for a in grams]
            s["q"] = [
                _eigenbasis(a) if use else eye
                for a, use, eye in zip(grams, inside, eyes, strict=True)
            ]
            s["m"] = s["v"] = torch.zeros_like(g)
        left, right = s["q"]
        turned = left.T @ g @ right
        eps64 = torch.finfo(g.dtype).eps
        share = eps64**0.5 if t == 1 else 4 * eps64 * max(g.shape) ** 0.5
        turned = turned * (turned.abs() > share * turned.abs().max())
        g = left @ turned @ right.T
        s["m"] = b1 * s["m"] + (1 - b1) * g
        s["v"] = b2 * s["v"] + (1 - b2) * turned**2
        mean = left.T @ s["m"] @ right / (1 - b1**t)
        u = left @ (mean / ((s["v"] / (1 - b2**t)).sqrt() + eps)) @ right.T
        if t > 1:
            s["factors"] = [b2 * a + (1 - b2) * x for a, x in zip(s["factors"], grams, strict=True)]
            if t % options["interval"] == 0:
                for axis in (0, 1):
                    if inside[axis]:
                        a, q = s["factors"][axis], s["q"][axis]
                        s["q"][axis], s["v"] = refreshed(a, q, s["v"], axis)
        return u

    return by_parameter(network, options, steps, rule)


def _inverse_root(a: Tensor, root: int, floor: float) -> Tensor:
    values, vectors = np.linalg.eigh(a.numpy())
    lifted = np.maximum(values, floor * values.max()) ** (-1 / root)
    return torch.from_numpy(vectors * lifted @ vectors.T)


def shampoo(network: Network, options: Options, steps: int) -> list[Tensor]:
    """The paper's algorithm tile by tile, with averages, grafting and intervals."""
    (b1, b2), block, interval = options["betas"], options["block_size"], options["interval"]
    average = options["statistics"] == "ema"

    def grafted(s: Options, mean: Tensor, g: Tensor, t: int) -> Tensor:
        kind = options["grafting"]
        if kind == "adagrad":
            s["v"] = s.get("v", 0) + g**2
            return mean / (s["v"].sqrt() + options["eps"])
        if kind == "adam":
            s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
            return mean / ((s["v"] / (1 - b2**t)).sqrt() + options["eps"])
        return mean

    def tile(s: Options, g: Tensor, t: int) -> Tensor:
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        mean = s["m"] / (1 - b1**t)
        length = grafted(s, mean, g, t)
        if g.ndim == 1 and len(g) > block:
            return length
        grams = [g @ g.T, g.T @ g] if g.ndim == 2 else [torch.outer(g, g)]
        old = s.get("factors", [torch.zeros_like(a) for a in grams])
        s["factors"] = [
            (b2 * a + (1 - b2) * x) if average else a + x for a, x in zip(old, grams, strict=True)
        ]
        if t <= options["start"]:
            return length
        if "roots" not in s or t % interval == 0 or (t < interval and t in {1, 2, 4, 8}):
            bias = 1 - b2**t if average else 1.0
            s["roots"] = [
                _inverse_root(a / bias, 2 * len(grams), options["floor"]) for a in s["factors"]
            ]
        u = s["roots"][0] @ mean
        u = u @ s["roots"][1] if g.ndim == 2 else u
        return u if options["grafting"] == "none" else u * length.norm() / u.norm()

    def rule(s: Options, g: Tensor, t: int) -> Tensor:
        if g.ndim == 1 or max(g.shape) <= block:
            return tile(s, g, t)
        axis = 0 if g.shape[0] > block else 1  # 4 x 3 and 2 x 4, in halves of two
        halves = g.split(2, axis)
        kept = s.setdefault("tiles", [{} for _ in halves])
        return torch.cat([tile(k, h, t) for k, h in zip(kept, halves, strict=True)], axis)

    return by_parameter(network, options, steps, rule)
