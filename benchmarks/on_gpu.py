"""What has to be looked at on an accelerator: tests against the CPU, then the two benchmarks.

    python benchmarks/on_gpu.py --out FOLDER [--parts tests,step,second] [--minutes 5]

Each part runs in a process of its own with a limit of time, and writes what it found while it goes:
``tests.txt`` and ``tests.xml`` (``tests/gpu``), ``step.md`` and ``step.json``, ``second.md`` and
``second.json``, and ``summary.md`` over all. Nothing has to be installed but torch and what thalweg
imports; the package is read from ``src``. Without CUDA the same is rehearsed on the CPU, small.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch


ROOT = Path(__file__).resolve().parents[1]
# The share of the time that each part may take.
SHARES = {"tests": 0.45, "step": 0.2, "second": 0.35}
STEP_METHODS = "sgd,momentum,adamw,rmsprop,adan"
SMALL_TESTS = "seed or bad_matrix or one_function or checkpoint and adamw"


@dataclass(frozen=True)
class Part:
    """A process to run.

    Args:
        command: Its arguments, after the interpreter.
        output: The file for what it prints.
        seconds: After which it is ended.
    """

    command: list[str]
    output: Path
    seconds: float


def parts(out: Path, seconds: float, cuda: bool) -> dict[str, Part]:
    """The three, whole or small."""
    device = "cuda:0" if cuda else "cpu"
    tests = [
        "-m",
        "pytest",
        "-q",
        "tests/gpu",
        "-W",
        "default",
        "-o",
        "minversion=7",
        "--show-capture=no",
        "--tb=short",
    ]
    tests += ["-p", "no:cacheprovider", "--durations=10", f"--junitxml={out / 'tests.xml'}"]
    step = ["benchmarks/step.py", "--device", device, "--json", str(out / "step.json")]
    second = ["benchmarks/second_order.py", "--device", device]
    second += ["--json", str(out / "second.json")]
    if cuda:
        if importlib.util.find_spec("xdist"):
            tests += ["-n", str(min(8, os.cpu_count() or 1))]
        step += ["--steps", "30", "--methods", STEP_METHODS]
        second += ["--rounds", "3", "--networks", "mlp-large,transformer,mlp,cnn,transformer-large"]
    else:
        tests += ["-k", SMALL_TESTS]
        step += ["--steps", "2", "--methods", "sgd", "--sets", "many small"]
        second += ["--rounds", "1", "--networks", "cnn", "--methods", "soap, every;k-fac;sophia"]
    made = {
        "tests": (tests, "tests.txt"),
        "step": (step, "step.md"),
        "second": (second, "second.md"),
    }
    return {
        name: Part(command, out / file, SHARES[name] * seconds)
        for name, (command, file) in made.items()
    }


def run(part: Part, cuda: bool) -> str:
    """Run it, and say how it ended."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "THALWEG_GPU_TESTS_ON": "cuda:0" if cuda else "cpu",
    }
    began = time.monotonic()
    with part.output.open("w", encoding="utf-8") as output:
        try:
            code = subprocess.run(
                [sys.executable, *part.command],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=part.seconds,
                check=False,
            ).returncode
            ended = "finished" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after its {part.seconds:.0f} s"
    return f"{ended} ({time.monotonic() - began:.0f} s)"


def main() -> int:
    """Run the parts and sum them up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", default=",".join(SHARES))
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    out: Path = (options.out or Path(tempfile.mkdtemp(prefix="on-gpu-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    where = torch.cuda.get_device_name() if cuda else "no CUDA: a rehearsal on the CPU"
    lines = [f"# On {where}", "", f"torch {torch.__version__}, python {sys.version.split()[0]}", ""]
    failed = False
    for name, part in parts(out, 60 * options.minutes, cuda).items():
        if name not in options.parts.split(","):
            continue
        ended = run(part, cuda)
        failed |= not ended.startswith("finished")
        tail = part.output.read_text(encoding="utf-8").splitlines()[-60:]
        lines += [f"## {name}: {ended}", "", "```text", *tail, "```", ""]
        (out / "summary.md").write_text("\n".join(lines), encoding="utf-8")
        print("\n".join([f"== {name}: {ended}", *tail]), flush=True)
    print(out)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
