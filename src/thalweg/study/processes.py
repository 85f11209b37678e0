"""Supervised worker processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, final

import cloudpickle

from thalweg.errors import integer_from
from thalweg.study.executor import Event
from thalweg.study.plan import Plan, Run
from thalweg.study.records import load_run


__all__ = ["LocalProcesses"]

RETRIES = 2


@final
class LocalProcesses:
    """Supervised worker processes, one thread each.

    A worker carries out one run after the other. One that dies costs its own run alone, which is
    tried again in a new worker; one whose parent dies ends itself. Nothing needs the caller's
    script to be importable: the problem and the optimizer classes travel by value.

    Args:
        workers: How many. Default: one for each core.

    Example:
        >>> LocalProcesses(workers=2).workers
        2
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None:
            integer_from(1).check("LocalProcesses", "workers", workers)
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: _Pool | None = None

    def execute(self, plan: Plan, runs: Sequence[Run], folder: Path) -> Iterator[Event]:
        """Carry out the runs in worker processes, which stay for the plan's next stage."""
        if not runs:
            return
        if self._pool is None or not self._pool.serves(plan, folder):
            self.close()
            self._pool = _Pool(plan, folder, self.workers)
        try:
            yield from self._pool.work(runs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


@final
class _Worker:
    """A worker process, what it is at, and the thread that listens to it."""

    def __init__(self, payload: Path, folder: Path, inbox: queue.Queue[Any]) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "thalweg.study.worker", str(payload), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C reaches the parent, which decides
        )
        self.run: Run | None = None
        assert self.process.stdout is not None
        arguments = (self.process.stdout, inbox)
        self._listener = threading.Thread(target=self._listen, args=arguments, daemon=True)
        self._listener.start()

    def _listen(self, stream: IO[bytes], inbox: queue.Queue[Any]) -> None:
        with stream:
            for line in stream:
                inbox.put((self, json.loads(line)))
        inbox.put((self, None))

    def give(self, run: Run, retried: int) -> None:
        """Hand over a run."""
        self.run = run
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the listener reports the death
            self.process.stdin.write(json.dumps([run.as_dict(), retried]).encode() + b"\n")
            self.process.stdin.flush()

    def last_words(self) -> str:
        """How the process ended, and the end of what it wrote to stderr."""
        code = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return f"the worker ended with code {code}" + (f": {lines[-1]}" if lines else "")

    def end(self) -> None:
        """Stop the process now."""
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for stream in (self.process.stdin, self.log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@final
class _Pool:
    """The workers of one execution."""

    def __init__(self, plan: Plan, folder: Path, size: int) -> None:
        self._plan, self._folder, self._size = plan, folder, size
        self._scratch = tempfile.TemporaryDirectory(prefix="thalweg-")
        self._payload = Path(self._scratch.name) / "plan.pkl"
        self._payload.write_bytes(cloudpickle.dumps((sys.path, cloudpickle.dumps(plan))))
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._workers: set[_Worker] = set()
        self._retried: dict[str, int] = {}

    def serves(self, plan: Plan, folder: Path) -> bool:
        """Whether the workers are those of this plan."""
        return self._plan is plan and self._folder == folder

    def work(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Hand out runs until each is done or has failed for good."""
        waiting, open_ = deque(runs), len(runs)
        for worker in self._workers:  # of the stage before, idle
            if waiting:
                self._give(worker, waiting.popleft())
        while len(self._workers) < min(self._size, len(runs)):
            self._start()
        while open_:
            worker, message = self._inbox.get()
            if message is None:
                event = self._lost(worker, waiting)
            else:
                event = self._heard(worker, message)
                if worker.run is None and waiting:
                    self._give(worker, waiting.popleft())
            if event is not None:
                open_ -= event.kind != "progress"
                yield event

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.end()
        self._scratch.cleanup()

    def _start(self) -> None:
        self._workers.add(_Worker(self._payload, self._folder, self._inbox))

    def _give(self, worker: _Worker, run: Run) -> None:
        worker.give(run, self._retried.get(run.id, 0))

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> Event | None:
        run, kind = worker.run, message.pop("kind")
        if kind == "ready" or run is None:
            return None
        if kind != "progress":
            worker.run = None
        return Event(kind, run, **message)

    def _lost(self, worker: _Worker, waiting: deque[Run]) -> Event | None:
        """A worker died: its run goes to a new one, or has failed after some tries."""
        words, run = worker.last_words(), worker.run
        worker.end()
        self._workers.discard(worker)
        if run is None:  # it died before it was ready: that would only happen again
            raise RuntimeError(f"LocalProcesses: a worker could not start; {words}.")
        self._start()
        if load_run(self._folder, run.id) is not None:
            return Event("done", run)
        self._retried[run.id] = self._retried.get(run.id, 0) + 1
        if self._retried[run.id] > RETRIES:
            return Event("failed", run, message=words)
        waiting.appendleft(run)
        return None
