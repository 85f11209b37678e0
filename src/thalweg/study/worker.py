"""The worker process: reads runs from its standard input, one JSON line each, until that closes.

Started as ``python -m thalweg.study.worker PLAN FOLDER`` by :class:`~thalweg.study.LocalProcesses`.
When the parent dies, its end of the pipe closes and the worker ends at once.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> None:
    """Carry out runs until the standard input closes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the caller's model prints goes to the log, not into the protocol
    payload, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tasks: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()

    path, pickled = pickle.loads(payload.read_bytes())
    sys.path[:] = path
    import torch

    from thalweg.study.executor import carry_out
    from thalweg.study.plan import Run

    torch.set_num_threads(1)
    plan = pickle.loads(pickled)
    _warm_up()

    def say(kind: str, **content: Any) -> None:
        out.write(json.dumps({"kind": kind, **content}) + "\n")

    say("ready")
    while True:
        content, retried = tasks.get()
        run = Run(**content)
        try:
            carry_out(
                plan,
                run,
                folder,
                lambda spent, loss: say("progress", spent=spent, loss=loss),
                retried,
            )
        except Exception as error:  # the caller's model may raise anything
            say("failed", message=f"{type(error).__name__}: {error}")
        else:
            say("done")


def _warm_up() -> None:
    """Do once what torch does only at its first step, so that no run is charged for it."""
    import torch

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model(torch.zeros(1, 2)).sum().backward()
    optimizer.step()


def _listen(tasks: queue.Queue[Any]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
