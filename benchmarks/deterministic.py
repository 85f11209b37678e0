"""How many classical problems each method solves at its default tolerances, beside scipy's.

    python benchmarks/deterministic.py [--set mgh|nist] [--methods bfgs,lbfgs,...] [--seconds 20]

A run of the MGH set is solved where |f - f*| <= 1e-8 max(|f*|, 1e-6) at the returned point; one of
NIST's where every parameter has four certified digits. "False" are runs that called themselves a
success and were none. Counts, and not seconds, are compared: the machine does not matter to them.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from dataclasses import dataclass, field
from typing import Any

import scipy.optimize
import torch

import thalweg as tw
from thalweg.problems import LeastSquaresProblem, least_squares_set


PEERS = {
    "bfgs": "BFGS",
    "lbfgs": "L-BFGS-B",
    "nonlinear-cg": "CG",
    "newton-cg": "Newton-CG",
    "trust-ncg": "trust-ncg",
    "newton-lanczos": "trust-krylov",
    "trust-exact": "trust-exact",
}
OURS = (*PEERS, "newton", "saddle-free", "hessian-free")


@dataclass
class Score:
    """What one method did on the set."""

    solved: int = 0
    runs: int = 0
    false: int = 0
    values: list[int] = field(default_factory=list)

    def note(self, solved: bool, success: bool, values: int) -> None:
        """Add a run."""
        self.runs += 1
        self.solved += solved
        self.false += success and not solved
        self.values.append(values)

    def row(self, name: str) -> str:
        """A line of the table."""
        median = statistics.median(self.values)
        return f"| {name} | {self.solved} of {self.runs} | {self.false} | {median:.0f} |"


def solved(problem: LeastSquaresProblem, x: Any, value: float) -> bool:
    if problem.certified is None:
        return problem.solved(value)
    return problem.digits(torch.as_tensor(x)) >= 4


def scipys(problem: LeastSquaresProblem, start: int, method: str) -> Any:
    """The same run with scipy, with the same gradients and Hessians."""

    def both(x: Any) -> tuple[float, Any]:
        point = torch.tensor(x, requires_grad=True)
        value = problem(point)
        (grad,) = torch.autograd.grad(value, point)
        return float(value.detach()), grad.numpy()

    def hessian(x: Any) -> Any:
        point = torch.tensor(x, requires_grad=True)
        (grad,) = torch.autograd.grad(problem(point), point, create_graph=True)
        rows = [
            torch.autograd.grad(g, point, retain_graph=True, materialize_grads=True)[0]
            for g in grad
        ]
        return torch.stack(rows).numpy()

    second = {"hess": hessian} if method.startswith(("trust", "Newton")) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scipy.optimize.minimize(
            both, problem.start(start).numpy(), jac=True, method=method, **second
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", default="mgh", choices=("mgh", "nist"))
    parser.add_argument("--methods", default=",".join(OURS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of one run at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| method | solved | false successes | values (median) |\n|---|---|---|---|")
    for method in options.methods.split(","):
        ours, theirs = Score(), Score()
        for problem in least_squares_set(options.set):
            for start in range(len(problem.starts)):
                found = tw.minimize(
                    problem, problem.start(start), method, time_budget=options.seconds
                )
                good = solved(problem, found.x, found.fun)
                ours.note(good, found.success, found.nfev)
                if method not in PEERS:
                    continue
                try:
                    peer = scipys(problem, start, PEERS[method])
                except (ValueError, ArithmeticError, RuntimeError):
                    theirs.note(False, False, 0)
                    continue
                good = solved(problem, peer.x, float(peer.fun))
                theirs.note(good, bool(peer.success), int(peer.nfev))
        print(ours.row(f"**{method}**"))
        if theirs.runs:
            print(theirs.row(f"scipy {PEERS[method]}"), flush=True)


if __name__ == "__main__":
    main()
