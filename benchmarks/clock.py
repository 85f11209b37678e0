"""The clock of a device.

On a CPU it is the processor time of this thread, which waiting for a processor is no part of. An
accelerator works on while the host goes ahead, so there it is the time that passes, read when all
that was asked of the accelerator is done: what a user waits for, launches and host included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from thalweg.study.provenance import machine


__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """Seconds on a device.

    Args:
        device: Where the work is done.
    """

    device: torch.device

    def now(self) -> float:
        """The time, once nothing is left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.thread_time()

    def machine(self) -> str:
        """The device in words."""
        known = machine()
        words = f"{known['processor']}, {known['cores']} cores, {known['memory_gib']} GiB"
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}; host {words}"
        return f"{words}, one thread"
