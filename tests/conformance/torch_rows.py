"""Our optimizers as rows of torch's table of optimizers under test, and what they are run on."""

from __future__ import annotations

import functools
import warnings
from copy import deepcopy

import torch
from torch import nn

from thalweg import optim
from thalweg.optim.projections import Box


with warnings.catch_warnings():  # torch's test machinery imports what it deprecates
    warnings.simplefilter("ignore")
    from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR
    from torch.testing._internal import common_optimizers as machinery
    from torch.testing._internal.common_optimizers import OptimizerInfo, OptimizerInput

ABSENT = ("capturable", "fused", "differentiable")


def around_sgd(params, **options):
    return optim.WeightAveraging(optim.SGD(params, **options))


def around_torchs_adam(params, **options):
    return optim.WeightAveraging(torch.optim.Adam(params, **options), "exponential", decay=0.9)


def lookahead(params, **options):
    return optim.Lookahead(optim.SGD(params, **options), k=3)


def asam(params, **options):
    return optim.SAM(torch.optim.SGD(params, **options), rho=0.01, adaptive=True)


def in_a_box(params, **options):
    return optim.ProjectedGradient(optim.Adam(params, **options), Box(-5.0, 5.0))


def inputs(source):
    """Torch's inputs for its own class, without the modes that there are not."""

    def func(device, dtype=None):
        return [i for i in source(device, dtype) if not any(name in i.kwargs for name in ABSENT)]

    return func


def nesterov_inputs(device, dtype=None):
    options = [
        {},
        {"lr": 0.01},
        {"lr": torch.tensor(0.01)},
        {"weight_decay": 0.1},
        {"momentum": 0.5, "maximize": True},
        {"momentum": 0.5, "l1": 0.01},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def adan_inputs(device, dtype=None):
    options = [
        {},
        {"lr": 0.01, "betas": (0.9, 0.5, 0.9)},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
        {"l1": 0.01},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def delta_bar_delta_inputs(device, dtype=None):
    options = [
        {},
        {"lr": 0.01, "momentum": 0.5},
        {"compare": "velocity"},
        {"compare": "velocity", "momentum": 0.5, "changes": (0.2, 0.2)},
        {"theta": 0.0, "weight_decay": 0.1, "maximize": True},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def adahessian_inputs(device, dtype):
    options = [
        {"lr": 0.01},
        {"lr": torch.tensor(0.01), "betas": (0.5, 0.9), "hessian_power": 0.5},
        {"lr": 0.01, "weight_decay": 0.1, "block_size": 2},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": False, "interval": 3},
        {"lr": 0.01, "l1": 0.01, "maximize": True},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def sophia_inputs(device, dtype):
    options = [
        {},
        {"lr": torch.tensor(0.01), "betas": (0.5, 0.9), "gamma": 1.0},
        {"weight_decay": 0.1, "interval": 2},
        {"weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
        {"l1": 0.01},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def muon_inputs(device, dtype=None):
    options = [
        {"lr": 0.01},
        {"lr": torch.tensor(0.01), "momentum": 0.5, "nesterov": False},
        {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "original"},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
        {"lr": 0.01, "weight_decay": 0.0, "l1": 0.01, "betas": (0.5, 0.9)},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def shampoo_inputs(device, dtype=None):
    options = [
        {"lr": 0.01},
        {"lr": torch.tensor(0.01), "interval": 3, "start": 2, "grafting": "sgd"},
        {"lr": 0.01, "weight_decay": 0.1, "block_size": 4, "grafting": "adagrad"},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
        {"lr": 0.01, "l1": 0.01, "statistics": "sum", "grafting": "none"},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def soap_inputs(device, dtype=None):
    options = [
        {"lr": 0.01},
        {"lr": torch.tensor(0.01), "betas": (0.5, 0.9), "interval": 2},
        {"lr": 0.01, "weight_decay": 0.1, "limit": 6},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
        {"lr": 0.01, "weight_decay": 0.0, "l1": 0.01},
    ]
    return [OptimizerInput(params=None, kwargs=o, desc=str(o)) for o in options]


def errors(device, dtype):
    """Torch's error inputs whose message is torch's own, and one of ours."""
    theirs = machinery.get_error_inputs_for_all_optims(device, dtype)
    return [e for e in theirs if "1-element" not in e.error_regex] + [
        machinery.ErrorOptimizerInput(
            OptimizerInput(params=None, kwargs={"lr": rate}, desc="a rate that is none"),
            error_type=ValueError,
            error_regex="lr must be a number in",
        )
        for rate in (-1.0, float("nan"), torch.tensor([0.001, 0.001]))
    ]


def info(cls, source, **options):
    schedules = (
        [lambda o: StepLR(o, gamma=0.9, step_size=10)],
        [
            lambda o: StepLR(o, gamma=0.99, step_size=10),
            lambda o: ExponentialLR(o, gamma=0.999),
            ReduceLROnPlateau,
        ],
    )
    options = {"supported_impls": ("foreach",), "optim_error_inputs_func": errors, **options}
    return OptimizerInfo(cls, optim_inputs_func=source, scheduler_inputs=schedules, **options)


OURS = [
    info(optim.AdaHessian, adahessian_inputs, step_requires_closure=True),
    info(optim.Sophia, sophia_inputs, step_requires_closure=True),
    info(optim.Adagrad, inputs(machinery.optim_inputs_func_adagrad)),
    info(optim.Adam, inputs(machinery.optim_inputs_func_adam)),
    info(optim.AdamW, inputs(machinery.optim_inputs_func_adamw)),
    info(optim.Adan, adan_inputs),
    info(optim.DeltaBarDelta, delta_bar_delta_inputs),
    info(optim.Muon, muon_inputs),
    info(optim.SOAP, soap_inputs),
    info(optim.Shampoo, shampoo_inputs),
    info(optim.RMSprop, inputs(machinery.optim_inputs_func_rmsprop)),
    info(optim.Rprop, inputs(machinery.optim_inputs_func_rprop)),
    info(optim.SGD, inputs(machinery.optim_inputs_func_sgd)),
    info(optim.Nesterov, nesterov_inputs, step_requires_closure=True),
]
WRAPPERS = [
    info(around_sgd, inputs(machinery.optim_inputs_func_sgd), supported_impls=()),
    info(
        around_torchs_adam,
        inputs(machinery.optim_inputs_func_adam),
        supported_impls=(),
        optim_error_inputs_func=machinery.get_error_inputs_for_all_optims,
    ),
    info(lookahead, inputs(machinery.optim_inputs_func_sgd), supported_impls=()),
    info(in_a_box, inputs(machinery.optim_inputs_func_adam), supported_impls=()),
    info(
        asam,
        inputs(machinery.optim_inputs_func_sgd),
        supported_impls=(),
        step_requires_closure=True,
        optim_error_inputs_func=machinery.get_error_inputs_for_all_optims,
    ),
]
EVERY = [*OURS, *WRAPPERS]


class Line:
    """A linear layer whose squared output is to be made small."""

    def __init__(self, device, dtype, contiguous=True):
        torch.manual_seed(0)
        make = functools.partial(torch.rand, device=device, dtype=dtype)
        if contiguous:
            weight, bias = make(10, 5), make(10)
        else:
            weight, bias = make(10, 5, 2)[..., 0], make(10, 2)[..., 0]
        self.weight, self.bias, self.x = nn.Parameter(weight), nn.Parameter(bias), make(5)
        self.params = [self.weight, self.bias]

    def loss(self):
        return (self.weight.mv(self.x) + self.bias).pow(2).sum()

    def closure(self):
        for p in self.params:
            p.grad = None
        loss = self.loss()
        loss.backward()
        return loss


def all_inputs(optim_info, device, dtype, *, foreach=(False,)):
    for given in optim_info.optim_inputs_func(device=device, dtype=dtype):
        for flag in foreach if "foreach" in optim_info.supported_impls else (None,):
            options = deepcopy(given.kwargs)
            yield {**options, **({} if flag is None else {"foreach": flag})}


def goes_down(optimizer, line, options, schedulers=(), steps=15):
    """The loss falls, or rises where it is to be maximized."""
    before = line.loss().item()
    for _ in range(steps):
        loss = optimizer.step(line.closure)
        for s in schedulers:
            s.step(loss.item()) if isinstance(s, ReduceLROnPlateau) else s.step()
    after = line.loss().item()
    return after > before if options.get("maximize") else after < before
