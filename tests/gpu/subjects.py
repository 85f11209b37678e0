"""What the accelerator's tests share: where they run, small networks, walks on two devices.

They run where CUDA is. ``THALWEG_GPU_TESTS_ON=cpu`` runs them without one, device against itself: a
rehearsal, so that no mistake in the tests themselves waits for an accelerator.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thalweg as tw
from conformance.table import MODELLED, ROWS
from thalweg import optim
from thalweg.optim.arguments import domains


DEVICE = torch.device(os.environ.get("THALWEG_GPU_TESTS_ON", "cuda:0"))
CPU = torch.device("cpu")
# Fewer slow cases where the tests are only rehearsed.
REHEARSAL = DEVICE.type == "cpu"


def require() -> None:
    """Skip a file where its device is not."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA here (THALWEG_GPU_TESTS_ON=cpu rehearses)", allow_module_level=True)


def perceptron(dropout: float = 0.0) -> nn.Sequential:
    """Three square layers of one shape, so that batched kernels have something to batch."""
    torch.manual_seed(1)
    parts: list[nn.Module] = []
    for _ in range(3):
        parts += [nn.Linear(8, 8), nn.Tanh()]
    if dropout:
        parts.insert(2, nn.Dropout(dropout))
    return nn.Sequential(*parts[:-1])


def convolutional() -> nn.Sequential:
    """Two convolutions and a head."""
    torch.manual_seed(2)
    return nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Flatten()),
        nn.Linear(8 * 9, 8),
    )


def text() -> nn.Sequential:
    """An embedding, a normalisation and a head: layers with rules of their own."""
    torch.manual_seed(3)
    return nn.Sequential(
        *(nn.Embedding(12, 8), nn.LayerNorm(8), nn.Flatten()),
        *(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 8)),
    )


NETWORKS = {"perceptron": perceptron, "convolutional": convolutional, "text": text}


def batch(name: str, t: int, device: torch.device, dtype: torch.dtype = torch.float64) -> Any:
    """The t-th of three batches, the same on every device."""
    generator = torch.Generator().manual_seed(100 + t % 3)
    shape = {"perceptron": (32, 8), "convolutional": (24, 2, 6, 6), "text": (24, 4)}[name]
    if name == "text":
        x = torch.randint(12, shape, generator=generator)
    else:
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(8, (shape[0],), generator=generator)
    return x.to(device), y.to(device)


def placed(name: str, device: torch.device, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A network, with the same weights on every device."""
    return NETWORKS[name]().to(device=device, dtype=dtype)


def closure(model: nn.Module, name: str, t: int) -> Any:
    """The closure of the t-th batch where the model is."""
    weight = next(model.parameters())
    x, y = batch(name, t, weight.device, weight.dtype)
    return tw.Objective(model, F.cross_entropy).closure(x, y)


def walk(optimizer: Any, model: nn.Module, name: str, steps: int, start: int = 0) -> Tensor:
    """All weights after some steps, on the CPU."""
    for t in range(start, start + steps):
        optimizer.step(closure(model, name, t))
    return flat(model)


def flat(model: nn.Module) -> Tensor:
    """All weights in one vector on the CPU."""
    return torch.cat([p.detach().reshape(-1).cpu() for p in model.parameters()])


def apart(one: Tensor, other: Tensor, start: Tensor) -> float:
    """The distance of two ends, as a share of the way to one of them."""
    way = float((other - start).norm())
    return float((one - other).norm()) / way if way else float(one.isfinite().all()) - 1.0


def catalogued() -> list[str]:
    """Every method that the conformance tables know."""
    return [*ROWS, *MODELLED]


def options_of(name: str) -> dict[str, Any]:
    """What a method descends with; nothing is drawn on the device, as CUDA draws other numbers."""
    options = dict((ROWS | MODELLED)[name].network)
    if name in {"kfac", "ekfac"}:
        options["options"] = optim.KFACOptions(fisher="exact")
    if name == "natural-gradient":
        options["options"] = optim.NaturalOptions(solver="cg", iterations=4)
    if name == "muon":
        options["ns_dtype"] = "parameter"
    return options


def built(name: str, model: nn.Module, **changes: Any) -> Any:
    """A method on a model, or on its parameters in two groups of different rates."""
    options = options_of(name) | changes
    if name in MODELLED:
        return MODELLED[name].build(model, **options)
    params = list(model.parameters())
    half, rate = len(params) // 2, float(options.get("lr", 0.01))
    groups = [{"params": params[:half]}, {"params": params[half:], "lr": 0.5 * rate}]
    return ROWS[name].build(groups, **options)


def takes(name: str, option: str) -> bool:
    """Whether a method has an option of its own by that name."""
    return name in ROWS and option in domains(ROWS[name].cls)


def moved(state: Any) -> Any:
    """A checkpoint as it comes from a file: a copy that shares nothing, on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to(CPU, copy=True)
    if isinstance(state, dict):
        return {key: moved(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(moved(value) for value in state)
    return copy.deepcopy(state)
