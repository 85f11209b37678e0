"""One row a method: how to build it, what it is compared with, where it descends.

``ROWS`` has exactly one row for each name of the catalogue; ``CASES`` adds wrappers around other
methods, torch's among them. Every generic test runs over one of the two.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch.optim import Optimizer

from conformance import references
from conformance.references import Options, Reference
from thalweg import optim
from thalweg.errors import FRACTION, Domain
from thalweg.optim import (
    SAM,
    AbstractWrapper,
    Lookahead,
    Needs,
    ProjectedGradient,
    Slot,
    StepInfo,
    WeightAveraging,
)
from thalweg.optim.arguments import domains
from thalweg.optim.projections import Ball, Box


Build = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """What the tests have to know of a method.

    ``choices`` are drawn at random and must lie in the domains; ``torch_class`` is torch's
    counterpart, whose checkpoints load; the three rates are options with which it descends.
    """

    cls: type[Optimizer]
    build: Build
    reference: Reference
    choices: dict[str, tuple[Any, ...]]
    quadratic: Options
    rosenbrock: Options
    network: Options
    torch_class: type[Optimizer] | None = None
    settings: Options = field(default_factory=dict)  # with state in every slot

    def draw(self, seed: int) -> Options:
        """Random options."""
        rng = random.Random(seed)
        options = {name: rng.choice(values) for name, values in self.choices.items()}
        if options.get("nesterov") and (not options["momentum"] or options.get("dampening")):
            options["nesterov"] = False
        return options

    @property
    def needs_closure(self) -> bool:
        return self.cls.needs in {Needs.LOSS, Needs.CURVATURE}

    @property
    def looks(self) -> bool:
        """Whether it takes products with the Hessian: by differences, from torch's closures."""
        return self.cls.needs is Needs.CURVATURE

    @property
    def evaluations(self) -> int:
        """How often a step calls torch's closure: twice more for each product, by differences."""
        return int(self.cls.cost.gradients) + (2 if self.looks else 0)

    @property
    def wraps(self) -> bool:
        return issubclass(self.cls, AbstractWrapper)

    @property
    def bad_names(self) -> tuple[str, ...]:
        """The hyper-parameters of the class itself."""
        return tuple(domains(self.cls))


@final
class Tether(AbstractWrapper):
    """A wrapper of the tests' own: pulled back to where each parameter began."""

    slots: ClassVar[tuple[Slot, ...]] = (Slot("anchor"),)
    hyperparameters: ClassVar[dict[str, Domain]] = {"pull": FRACTION}

    def __init__(self, inner: Optimizer, pull: float = 0.001) -> None:
        super().__init__(inner, {"pull": pull})

    def advance(self, point: Any, path: Any) -> StepInfo:
        for group, p in path:
            p.lerp_(self.state[p]["anchor"], group["pull"])
        return StepInfo()


_COMMON: dict[str, tuple[Any, ...]] = {
    "weight_decay": (0.0, 0.02, 0.1),
    "l1": (0.0, 0.0, 0.01),
    "decoupled_weight_decay": (False, False, True),
    "maximize": (False, False, True),
    "foreach": (None, True, False),
}
_ADAM = {
    "lr": (1e-3, 1e-2),
    "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.99)),
    "eps": (1e-8, 1e-3),
    "amsgrad": (False, True),
}


def _adam(cls: type[Optimizer], torch_class: type[Optimizer], choices: Options) -> Row:
    return Row(
        cls=cls,
        build=cls,
        reference=references.of_torch(torch_class, native_decoupling=True),
        choices=choices,
        quadratic={"lr": 0.05},
        rosenbrock={"lr": 0.02},
        network={"lr": 0.02},
        torch_class=torch_class,
        settings={"lr": 0.01, "amsgrad": True, "weight_decay": 0.1},
    )


ROWS: dict[str, Row] = {
    "adagrad": Row(
        cls=optim.Adagrad,
        build=optim.Adagrad,
        reference=references.of_torch(torch.optim.Adagrad),
        choices={
            "lr": (1e-2, 0.1),
            "lr_decay": (0.0, 0.01),
            "initial_accumulator_value": (0.0, 0.1),
            "eps": (1e-10, 1e-3),
            **_COMMON,
        },
        quadratic={"lr": 0.5},
        rosenbrock={"lr": 0.5},
        network={"lr": 0.1},
        torch_class=torch.optim.Adagrad,
        settings={"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1},
    ),
    "adahessian": Row(
        cls=optim.AdaHessian,
        build=optim.AdaHessian,
        reference=references.adahessian,
        choices={
            "lr": (1e-3, 1e-2),
            "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.99)),
            "eps": (0.01, 0.3),
            "hessian_power": (1.0, 0.5, 0.0),
            "block_size": (1, 0, 2, 3),
            "interval": (1, 1, 4),
            "seed": (0, 3),
            **_COMMON,
        },
        quadratic={"lr": 0.2},
        rosenbrock={"lr": 1.0},
        network={"lr": 0.1},
        settings={"lr": 0.01, "weight_decay": 0.1},
    ),
    "adam": _adam(optim.Adam, torch.optim.Adam, {**_ADAM, **_COMMON}),
    "adamw": _adam(
        optim.AdamW,
        torch.optim.AdamW,
        {**_ADAM, **{k: v for k, v in _COMMON.items() if k != "decoupled_weight_decay"}},
    ),
    "adan": Row(
        cls=optim.Adan,
        build=optim.Adan,
        reference=references.adan,
        choices={
            "lr": (1e-3, 1e-2),
            "betas": ((0.98, 0.92, 0.99), (0.5, 0.9, 0.8), (0.0, 0.0, 0.99)),
            "eps": (1e-8, 1e-3),
            **_COMMON,
        },
        quadratic={"lr": 0.1},
        rosenbrock={"lr": 0.05},
        network={"lr": 0.03},
        settings={"lr": 0.01, "weight_decay": 0.1},
    ),
    "delta-bar-delta": Row(
        cls=optim.DeltaBarDelta,
        build=optim.DeltaBarDelta,
        reference=references.delta_bar_delta,
        choices={
            "lr": (1e-2, 0.03),
            "changes": ((0.05, 0.05), (0.2, 0.2), (0.0, 1.0)),
            "theta": (0.7, 0.0, 0.9),
            "compare": ("average", "velocity"),
            "limits": ((0.01, 100.0), (0.9, 1.2), (0.0, float("inf"))),
            "momentum": (0.0, 0.5),
            **_COMMON,
        },
        quadratic={"lr": 0.02},
        rosenbrock={"lr": 5e-4},
        network={"lr": 0.05},
        settings={"lr": 0.01, "momentum": 0.5, "changes": (0.2, 0.2)},
    ),
    "lookahead": Row(
        cls=Lookahead,
        build=partial(optim.create, "lookahead", inner="sgd"),
        reference=references.lookahead,
        choices={
            "lr": (0.05, 0.1),
            "momentum": (0.0, 0.5, 0.9),
            "k": (1, 5, 7),
            "slow_lr": (0.5, 0.8, 0.3),
            "inner_momentum": ("keep", "reset", "interpolate"),
        },
        quadratic={"lr": 0.1, "momentum": 0.5},
        rosenbrock={"lr": 1e-3, "momentum": 0.9},
        network={"lr": 0.1, "momentum": 0.5},
        settings={"lr": 0.05, "momentum": 0.9, "k": 3, "inner_momentum": "interpolate"},
    ),
    "muon": Row(
        cls=optim.Muon,
        build=optim.Muon,
        reference=references.muon,
        choices={
            "lr": (1e-3, 1e-2),
            "momentum": (0.95, 0.0, 0.5),
            "nesterov": (True, False),
            "ns_steps": (5, 3),
            "adjust_lr_fn": ("match_rms_adamw", "original", None),
            "betas": ((0.9, 0.95), (0.0, 0.99)),
            "eps": (1e-7, 1e-3),
            "adamw_eps": (1e-8, 1e-3),
            **_COMMON,
        },
        quadratic={"lr": 0.05},
        rosenbrock={"lr": 0.02, "weight_decay": 0.0},
        network={"lr": 0.05, "weight_decay": 0.0},
        settings={"lr": 0.01},
    ),
    "nesterov": Row(
        cls=optim.Nesterov,
        build=optim.Nesterov,
        reference=references.nesterov,
        choices={"lr": (1e-2, 0.05), "momentum": (0.0, 0.5, 0.9), **_COMMON},
        quadratic={"lr": 0.05},
        rosenbrock={"lr": 1e-3},
        network={"lr": 0.05},
        settings={"lr": 0.05, "weight_decay": 0.1},
    ),
    "projected-gradient": Row(
        cls=ProjectedGradient,
        build=partial(optim.create, "projected-gradient", inner="sgd"),
        reference=references.projected,
        choices={
            "lr": (0.05, 0.1),
            "momentum": (0.0, 0.5),
            "projection": (Box(-0.3, 0.3), Box(0.0, 1.0), None),
        },
        quadratic={"lr": 0.1, "projection": Box(-0.9, 0.9)},
        rosenbrock={"lr": 1e-3, "momentum": 0.9, "projection": Box(-1.5, 1.5)},
        network={"lr": 0.1, "momentum": 0.5, "projection": Box(-1.0, 1.0)},
        settings={"lr": 0.05, "momentum": 0.9, "projection": Box(-0.5, 0.5)},
    ),
    "rmsprop": Row(
        cls=optim.RMSprop,
        build=optim.RMSprop,
        reference=references.rmsprop,
        choices={
            "lr": (1e-3, 1e-2),
            "alpha": (0.99, 0.9),
            "eps": (1e-8, 1e-3),
            "momentum": (0.0, 0.5),
            "centered": (False, True),
            "eps_inside": (False, False, True),
            **_COMMON,
        },
        quadratic={"lr": 0.02},
        rosenbrock={"lr": 5e-3},
        network={"lr": 0.01},
        torch_class=torch.optim.RMSprop,
        settings={"lr": 0.01, "momentum": 0.5, "centered": True},
    ),
    "rprop": Row(
        cls=optim.Rprop,
        build=optim.Rprop,
        reference=references.of_torch(torch.optim.Rprop, native_l2=False),
        choices={
            "lr": (1e-3, 1e-2),
            "etas": ((0.5, 1.2), (0.7, 1.05)),
            "step_sizes": ((1e-6, 50.0), (5e-3, 2e-2)),
            **_COMMON,
        },
        quadratic={"lr": 0.05},
        rosenbrock={"lr": 0.01},
        network={"lr": 3e-3},
        torch_class=torch.optim.Rprop,
        settings={"lr": 0.01},
    ),
    "sam": Row(
        cls=SAM,
        build=partial(optim.create, "sam", inner="sgd"),
        reference=references.sam,
        choices={
            "lr": (0.05, 0.1),
            "momentum": (0.0, 0.5),
            "rho": (0.05, 0.5),
            "adaptive": (False, True),
            "eta": (0.01, 0.1),
        },
        quadratic={"lr": 0.1, "rho": 0.02},
        rosenbrock={"lr": 1e-3, "momentum": 0.9, "rho": 0.01},
        network={"lr": 0.1, "momentum": 0.5},
        settings={"lr": 0.05, "momentum": 0.9, "adaptive": True},
    ),
    "sgd": Row(
        cls=optim.SGD,
        build=optim.SGD,
        reference=references.of_torch(torch.optim.SGD),
        choices={
            "lr": (1e-2, 0.1),
            "momentum": (0.0, 0.5, 0.9),
            "dampening": (0.0, 0.0, 0.3),
            "nesterov": (False, True),
            **_COMMON,
        },
        quadratic={"lr": 0.1},
        rosenbrock={"lr": 1e-3, "momentum": 0.9},
        network={"lr": 0.1, "momentum": 0.5},
        torch_class=torch.optim.SGD,
        settings={"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "sophia": Row(
        cls=optim.Sophia,
        build=optim.Sophia,
        reference=references.sophia,
        choices={
            "lr": (1e-3, 1e-2),
            "betas": ((0.965, 0.99), (0.5, 0.9), (0.0, 0.0)),
            "gamma": (0.01, 1.0),
            "eps": (1e-12, 0.1),
            "interval": (1, 4),
            "seed": (0, 3),
            **_COMMON,
        },
        quadratic={"lr": 0.05, "gamma": 0.5},
        rosenbrock={"lr": 0.01},
        network={"lr": 0.02, "gamma": 0.1},
        settings={"lr": 0.01, "interval": 1, "weight_decay": 0.1},
    ),
    "shampoo": Row(
        cls=optim.Shampoo,
        build=optim.Shampoo,
        reference=references.shampoo,
        choices={
            "lr": (1e-3, 1e-2),
            "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.99)),
            "eps": (1e-8, 1e-3),
            "grafting": ("adam", "adagrad", "sgd", "none"),
            "interval": (1, 3, 10),
            "block_size": (1024, 3),
            "statistics": ("ema", "sum"),
            "floor": (1e-4, 1e-2),
            "start": (0, 4),
            **_COMMON,
        },
        quadratic={"lr": 0.05},
        rosenbrock={"lr": 0.02},
        network={"lr": 0.02},
        settings={"lr": 0.01, "interval": 4, "weight_decay": 0.1, "floor": 1e-3},
    ),
    "soap": Row(
        cls=optim.SOAP,
        build=optim.SOAP,
        reference=references.soap,
        choices={
            "lr": (1e-3, 1e-2),
            "betas": ((0.95, 0.95), (0.5, 0.9)),
            "eps": (1e-8, 1e-3),
            "interval": (1, 3, 10),
            "limit": (3, 0),
            **_COMMON,
        },
        quadratic={"lr": 0.05},
        rosenbrock={"lr": 0.02, "weight_decay": 0.0},
        network={"lr": 0.02},
        settings={"lr": 0.01, "interval": 4, "weight_decay": 0.1},
    ),
    "weight-averaging": Row(
        cls=WeightAveraging,
        build=partial(optim.create, "weight-averaging", inner="sgd"),
        reference=references.averaging,
        choices={
            "lr": (0.05, 0.1),
            "momentum": (0.0, 0.5),
            "average": ("polyak", "exponential"),
            "decay": (0.5, 0.9),
            "start": (0, 3),
            "every": (1, 4),
        },
        quadratic={"lr": 0.1, "average": "exponential", "decay": 0.9},
        rosenbrock={"lr": 1e-3, "momentum": 0.9, "average": "exponential", "decay": 0.9},
        network={"lr": 0.1, "momentum": 0.5, "start": 50},
        settings={"lr": 0.05, "momentum": 0.9, "start": 2},
    ),
}


def _around(build: Build, *, cls: type[Optimizer] = WeightAveraging, **options: Any) -> Row:
    rates = {"quadratic": options, "rosenbrock": {**options, "lr": 1e-3}, "network": options}
    return Row(cls, build, references.averaging, {}, settings=options, **rates)


def _torch_sgd(params: Any, **options: Any) -> Any:
    return WeightAveraging(torch.optim.SGD(params, **options), start=60)


def _torch_nadam(params: Any, **options: Any) -> Any:
    return WeightAveraging(torch.optim.NAdam(params, **options), "exponential", decay=0.9)


def _adam_inside(params: Any, **options: Any) -> Any:
    return WeightAveraging(optim.Adam(params, **options), start=60, every=2)


def _nested(params: Any, **options: Any) -> Any:
    return Tether(WeightAveraging(optim.Adam(params, **options), "exponential", decay=0.9))


def _nested_torch(params: Any, **options: Any) -> Any:
    return WeightAveraging(Tether(torch.optim.NAdam(params, **options)), "exponential", decay=0.9)


def _lookahead_nadam(params: Any, **options: Any) -> Any:
    return Lookahead(torch.optim.NAdam(params, **options), 3, inner_momentum="reset")


def _lookahead_nested(params: Any, **options: Any) -> Any:
    return Lookahead(WeightAveraging(optim.Adam(params, **options)), 3)


def _sam_torch(params: Any, **options: Any) -> Any:
    return SAM(Lookahead(torch.optim.RMSprop(params, **options)))


def _ball(params: Any, **options: Any) -> Any:
    return ProjectedGradient(torch.optim.Adam(params, **options), Ball(2.0))


WRAPPED: dict[str, Row] = {
    "averaging-torch-sgd": _around(_torch_sgd, lr=0.1),
    "averaging-torch-nadam": _around(_torch_nadam, lr=0.05),
    "averaging-adam": _around(_adam_inside, lr=0.05),
    "tether-averaging-adam": _around(_nested, cls=Tether, lr=0.05),
    "averaging-tether-nadam": _around(_nested_torch, lr=0.05),
    "lookahead-torch-nadam": _around(_lookahead_nadam, cls=Lookahead, lr=0.1),
    "lookahead-averaging-adam": _around(_lookahead_nested, cls=Lookahead, lr=0.1),
    "sam-lookahead-torch-rmsprop": _around(_sam_torch, cls=SAM, lr=0.02),
    "projected-torch-adam": _around(_ball, cls=ProjectedGradient, lr=0.05),
}
CASES: dict[str, Row] = {**ROWS, **WRAPPED}


@dataclass(frozen=True)
class Modelled:
    """A method that needs a model (its layers, or its outputs), so that ``build`` takes one.

    The generic tests hand bare parameters and gradients to a method; these have their own, in
    ``test_modelled.py``.
    """

    cls: type[Optimizer]
    build: Build
    network: Options
    settings: Options = field(default_factory=dict)


def _natural(model: Any, **options: Any) -> Any:
    return optim.NaturalGradient(model.parameters(), **options)


MODELLED: dict[str, Modelled] = {
    "ekfac": Modelled(
        optim.EKFAC,
        optim.EKFAC,
        network={"lr": 0.05},
        settings={"lr": 0.05, "intervals": (2, 3), "weight_decay": 0.1},
    ),
    "kfac": Modelled(
        optim.KFAC,
        optim.KFAC,
        network={"lr": 0.05},
        settings={"lr": 0.05, "intervals": (2, 3), "weight_decay": 0.1},
    ),
    "natural-gradient": Modelled(
        optim.NaturalGradient,
        _natural,
        network={"lr": 0.3, "damping": 0.01},
        settings={"lr": 0.5, "options": optim.NaturalOptions(solver="cg", iterations=5)},
    ),
}

# Values that each hyper-parameter must refuse.
_NUMBERS = (float("nan"), -1.0, float("inf"), "0.1", None, True)
BAD: dict[str, tuple[Any, ...]] = {
    "lr": (*_NUMBERS, torch.tensor(-1.0), torch.tensor([0.1, 0.2])),
    "weight_decay": _NUMBERS,
    "l1": _NUMBERS,
    "eps": _NUMBERS,
    "lr_decay": _NUMBERS,
    "initial_accumulator_value": _NUMBERS,
    "momentum": (*_NUMBERS, 1.0),
    "dampening": (*_NUMBERS, 1.5),
    "alpha": (*_NUMBERS, 1.5),
    "betas": (0.9, (0.9,), (0.9, 0.9, 0.9), (1.0, 0.9), (0.9, float("nan")), (-0.1, 0.9), "ab"),
    "decoupled_weight_decay": ("yes", 1, None),
    "maximize": ("yes", 1, None),
    "nesterov": ("yes", 1, None),
    "amsgrad": ("yes", 1, None),
    "centered": ("yes", 1, None),
    "eps_inside": ("yes", 1, None),
    "foreach": ("yes", 1),
    "average": ("mean", None, 3),
    "decay": (*_NUMBERS, 1.0),
    "start": (-1, 1.5, None, True),
    "every": (0, -1, 1.5, None, True),
    "compile": ("yes", 1, None),
    "adan.betas": (0.9, (0.9, 0.9), (0.9,) * 4, (0.9, 0.9, 1.0), (0.9, float("nan"), 0.9), "abc"),
    "changes": (0.1, (0.1,), (-0.1, 0.1), (0.1, 1.1), (float("inf"), 0.1), (0.1, float("nan"))),
    "theta": (*_NUMBERS, 1.0),
    "compare": ("gradient", None, 3),
    "limits": (1.0, (2.0, 3.0), (0.1, 0.9), (-0.1, 2.0), (0.1, float("nan")), (0.1, 1.0, 10.0)),
    "etas": (0.5, (1.2, 0.5), (0.5, 1.0), (0.0, 1.2), (0.5, float("inf")), (0.5, 1.2, 2.0)),
    "step_sizes": (1.0, (1.0, 0.5), (-1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)),
    "k": (0, -1, 1.5, None, True),
    "slow_lr": (*_NUMBERS[:2], *_NUMBERS[3:], 1.5),
    "inner_momentum": ("pullback", None, True),
    "rho": _NUMBERS,
    "eta": _NUMBERS,
    "adaptive": ("yes", 1, None),
    "hessian_power": (*_NUMBERS, 1.5),
    "block_size": (-1, 1.5, None, True),
    "interval": (0, -1, 1.5, None, True),
    "seed": (-1, 1.5, None, True),
    "gamma": (*_NUMBERS, 0.0),
    "estimator": ("gnb", None, 3),
    "differences": ("yes", 1, None),
    "limit": (-1, 1.5, None, True),
    "shampoo.block_size": (0, -1, 1.5, None, True),
    "floor": (*_NUMBERS, 0.0, 1.0),
    "scaling": ("moré", None, True),
    "line_search": ("wolfe", None, 3),
    "decrease": (*_NUMBERS, 0.0, 1.0),
    "curvature": (*_NUMBERS, 0.0, 1.0),
    "trials": (0, -1, 1.5, None, True),
    "memory": (0, -1, 1.5, None, True),
    "lbfgs.scaling": ("gamma", None, 3),
    "rule": ("fletcher", None, 3),
    "restart": (-1, 1.5, True, "n"),
    "powell": _NUMBERS,
    "damped": ("yes", 1, None),
    "path": ("curve", None, 3),
    "window": (0, -1, 1.5, None, True),
    "damping": (*_NUMBERS, 0.0),
    "levenberg-marquardt.damping": ("none", None, 1e-3),
    "geodesic": ("yes", 1, None),
    "solver": ("qr", None, True),
    "loss": ("l1", None, 2),
    "loss_scale": (*_NUMBERS, 0.0),
    "ridge": _NUMBERS,
    "cutoff": (*_NUMBERS[:4], True),
    "statistics_interval": (0, -1, 1.5, None, True),
    "grafting": ("adamw", None, 3),
    "statistics": ("mean", None, 3),
    "ns_steps": (0, 100, 1.5, None, True),
    "ns_coefficients": (3.0, (1.0, 2.0), (1.0, 2.0, float("nan"))),
    "ns_dtype": ("float16", None, torch.float32),
    "adjust_lr_fn": ("spectral", 1),
    "adamw_eps": _NUMBERS,
    "use_muon": ("yes", 1),
    "radius": (*_NUMBERS[:4], True, 0.0),
    "scale": ("more", None, 3),
    "forcing": (*_NUMBERS, 0.0, 1.0),
    "products": (0, -1, 1.5, True, float("inf")),
    "explore": (-1, 1.5, None, True),
    "modification": ("ldl", None, 3),
    "newton.floor": (*_NUMBERS[:4], True, 0.0, 1.0),
    "flat": (*_NUMBERS[:4], True, 0.0, 1.0),
    "saddle-free-newton.damping": (*_NUMBERS[:2], *_NUMBERS[3:]),
    "hessian-free.damping": (*_NUMBERS[:2], *_NUMBERS[3:]),
    "dense": (-1, 1.5, None, True),
    "krylov": (0, -1, 1.5, None, True),
    "hessian-free.curvature": ("fisher", None, 3),
    "hessian-free.products": ("backward", None, 3),
    "preconditioner": ("kfac", None, 3),
    "iterations": (0, -1, 1.5, None, True),
    "progress": _NUMBERS,
    "warm": (*_NUMBERS, 1.0),
    "drop": (*_NUMBERS, 0.0, 1.0),
    "exponent": (*_NUMBERS, 1.5),
    "least": _NUMBERS,
}


def bad_values(name: str, option: str) -> tuple[Any, ...]:
    """What the method called ``name`` must refuse."""
    return BAD[f"{name}.{option}" if f"{name}.{option}" in BAD else option]
