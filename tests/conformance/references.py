"""What each method is compared with: torch's class, or a transcription of the published recurrence.

Options that torch lacks (l1, decoupled decay outside Adam) are applied around it by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from conformance.subjects import Network, flat


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
