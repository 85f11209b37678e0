"""Operators over half of the data each, for two processes; imported by both of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, EmpiricalFisher, Fisher, GradientCovariance, Hessian, How


DOUBLE = torch.float64


def made(part):
    torch.manual_seed(14)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(DOUBLE)
    x, y = torch.randn(9, 3, dtype=DOUBLE), torch.randint(0, 3, (9,))
    y[[1, 2]] = -100  # the halves count unlike numbers
    batches = list(zip(x.split((3, 2, 4)), y.split((3, 2, 4)), strict=True))
    return Objective(model, nn.CrossEntropyLoss()).over(batches[part])


def measured(closure, how):
    found = {}
    for kind in (Hessian, GGN, Fisher, EmpiricalFisher, GradientCovariance):
        operator = kind(closure, how=how)
        v = torch.linspace(-1, 1, operator.shape[1], dtype=DOUBLE)
        found[kind.__name__] = operator @ torch.stack([v, v**2], 1)
        found[kind.__name__ + " gradient"] = operator.gradient
        found[kind.__name__ + " loss"] = torch.tensor([operator.loss], dtype=DOUBLE)
    summed = Objective(nn.Linear(2, 1).to(DOUBLE), nn.MSELoss(reduction="sum"))
    with torch.no_grad():
        for p in summed.model.parameters():
            p.fill_(0.5)
    return found | {
        "sum": Hessian(
            summed.closure(torch.ones(2, 2).double(), torch.ones(2, 1).double()), how=how
        ).to_dense()
    }


def worker(rank, address, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    part = slice(0, 2) if rank == 0 else slice(2, None)
    found = measured(made(part), How(group=dist.group.WORLD))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
