"""Two processes with half of the data each have the operators of one with all of it."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from thalweg.curvature import How
from unit.curvature.halves import made, measured, worker
from unit.curvature.oracle import close


def test_two_processes_are_one(tmp_path):
    address = f"file://{tmp_path}/meeting"
    mp.spawn(worker, (address, str(tmp_path)), nprocs=2)
    alone = measured(made(slice(None)), How())
    alone["sum"] *= 2  # both processes hold the same two samples
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            close(found[name], value, 1e-12)


def test_a_group_of_one_process_changes_nothing(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/one", rank=0, world_size=1)
    try:
        found = measured(made(slice(None)), How(group=dist.group.WORLD))
    finally:
        dist.destroy_process_group()
    for name, value in measured(made(slice(None)), How()).items():
        close(found[name], value, 1e-14)
