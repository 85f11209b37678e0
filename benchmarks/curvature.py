"""Curvature: what products and estimates cost and how right they are, next to four peers.

All that is compared takes turns in one process and one thread, the order reversed every other
round, on the clock of processor time; a ratio is the median over rounds of the ratio to a plain
gradient of the same round. Errors are against float64: products against double backward written
out, eigenvalues against ARPACK. Memory is measured in a process of its own for each scheme.

    python benchmarks/curvature.py [--sections a,b] [--networks mlp,transformer,resnet]
                                   [--rounds N] [--json FILE]

Peers take part where they are installed (PyHessian needs nothing else, curvlinops and BackPACK may
be installed with --no-deps and what they import):
pip install curvlinops-for-pytorch hessian-eigenthings pyhessian backpack-for-pytorch
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import CASES, Case, perceptron
from peers import (
    CURVLINOPS,
    EIGENTHINGS,
    GGNS,
    HESSIANS,
    PIP,
    PYHESSIAN,
    Scheme,
    closure_of,
    copied,
    curvlinops_operator,
    eigenthings_hessian,
    pyhessian_operator,
    true_ggn,
    true_hessian,
)
from scipy.sparse.linalg import LinearOperator, eigsh as arpack
from torch import Tensor

from thalweg.curvature import Dense, Hessian, How
from thalweg.curvature.density import spectral_density
from thalweg.curvature.eigen import eigsh
from thalweg.curvature.trace import trace
from thalweg.study.provenance import machine, versions


ROUNDS = {"mlp": 30, "transformer": 12, "resnet": 5}
STEPS = {"mlp": 300, "transformer": 150, "resnet": 60}
COLUMNS = 8
PLAIN = "thalweg, kept"


# ---- taking turns ---------------------------------------------------------------------------
def turns(
    candidates: dict[str, Callable[[], Any]], rounds: int, warm: int = 2
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of processor time of each candidate in each round, and why some failed."""
    failed: dict[str, str] = {}
    for name, call in candidates.items():
        for _ in range(warm):
            try:
                call()
            except Exception as error:
                failed[name] = _words(error)
                break
    times: dict[str, list[float]] = {name: [] for name in candidates if name not in failed}
    for turn in range(rounds):
        for name in list(times) if turn % 2 == 0 else list(times)[::-1]:
            began = time.process_time()
            candidates[name]()
            times[name].append(time.process_time() - began)
    return times, failed


def ratios(times: dict[str, list[float]], base: str, share: float = 1.0) -> dict[str, float]:
    """The median over rounds of each one's time over the base's."""
    return {
        name: statistics.median(t / b for t, b in zip(taken, times[base], strict=True)) * share
        for name, taken in times.items()
    }


def _words(error: Exception) -> str:
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[0][:90]}"


def built(schemes: list[Scheme], case: Case, v: Tensor) -> tuple[dict[str, Any], dict[str, str]]:
    """The product of each scheme that is installed, and why the others are not there."""
    made: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for scheme in schemes:
        if not scheme.installed:
            missing[scheme.name] = "not installed"
            continue
        try:
            product = scheme.make(case)
            product(v)
            made[scheme.name] = product
        except Exception as error:
            missing[scheme.name] = "fails: " + _words(error)
    return made, missing


def _off(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


# ---- sections -------------------------------------------------------------------------------
def products(key: str, rounds: int) -> list[dict[str, Any]]:
    """One product with the Hessian and with the Gauss-Newton matrix, in gradients."""
    case = CASES[key]()
    v = torch.randn(sum(p.numel() for p in case.params), generator=_seed())
    rows = []
    for matrix, schemes, truth in (("H", HESSIANS, true_hessian), ("GGN", GGNS, true_ggn)):
        exact = truth(copied(case).double())(v.double())
        made, missing = built(schemes, case, v)
        calls = {name: (lambda p=p: p(v)) for name, p in made.items()}
        calls["gradient"] = lambda: torch.autograd.grad(case.loss(), case.params)
        times, failed = turns(calls, rounds)
        found = ratios(times, "gradient")
        for name in (scheme.name for scheme in schemes):
            row: dict[str, Any] = {"network": case.name, "matrix": matrix, "scheme": name}
            if name in found:
                row |= {"gradients": found[name], "error": _off(made[name](v), exact)}
            rows.append(row | {"note": (missing | failed).get(name, "")})
        rows.append(
            {
                "network": case.name,
                "matrix": matrix,
                "scheme": "gradient, ms",
                "gradients": 1000 * statistics.median(times["gradient"]),
                "note": f"{v.numel():,} parameters",
            }
        )
    return rows


def many(key: str, rounds: int) -> list[dict[str, Any]]:
    """Products with eight vectors at once, in gradients a vector."""
    case = CASES[key]()
    n = sum(p.numel() for p in case.params)
    block = torch.randn(n, COLUMNS, generator=_seed())
    rows = []
    for matrix, schemes in (("H", HESSIANS), ("GGN", GGNS)):
        taking = [s for s in schemes if s.columns]
        made, missing = built(taking, case, block)
        calls = {name: (lambda p=p: p(block)) for name, p in made.items()}
        calls["gradient"] = lambda: torch.autograd.grad(case.loss(), case.params)
        times, failed = turns(calls, max(2, rounds // 4))
        found = ratios(times, "gradient", 1 / COLUMNS)
        for scheme in taking:
            row = {"network": case.name, "matrix": matrix, "scheme": scheme.name}
            if scheme.name in found:
                row["gradients"] = found[scheme.name]
            rows.append(row | {"note": (missing | failed).get(scheme.name, "")})
    return rows


def eigen(key: str, rounds: int) -> list[dict[str, Any]]:
    """The largest eigenvalue of a trained network's Hessian, each from a cold start."""
    case = CASES[key]()
    case.train(STEPS[key])
    truth = _largest(copied(case).double())
    seeds = range(min(3, rounds))
    found: dict[str, list[tuple[float, int]]] = {}
    failed: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    solvers = _eigen_solvers(case)
    for seed in seeds:
        for name in list(solvers) if seed % 2 == 0 else list(solvers)[::-1]:
            if name in failed:
                continue
            began = time.process_time()
            try:
                torch.manual_seed(seed)
                value = solvers[name](seed)
            except Exception as error:
                failed[name] = "fails: " + _words(error)
                continue
            times.setdefault(name, []).append(time.process_time() - began)
            found.setdefault(name, []).append(value)
    rows = []
    for name in solvers:
        row: dict[str, Any] = {"network": case.name, "method": name, "lambda_max": truth}
        if name in found and name not in failed:
            row["products"] = statistics.median(spent for _, spent in found[name])
            row["seconds"] = statistics.median(times[name])
            row["error"] = max(abs(value - truth) / truth for value, _ in found[name])
        rows.append(row | {"note": failed.get(name, "")})
    return rows


def _largest(case: Case) -> float:
    """By ARPACK on the product written out, in float64."""
    product = true_hessian(case)
    n = sum(p.numel() for p in case.params)
    counted = LinearOperator(
        (n, n), dtype=np.float64, matvec=lambda v: product(torch.from_numpy(v.ravel())).numpy()
    )
    start = torch.randn(n, generator=_seed(), dtype=torch.float64).numpy()
    return float(arpack(counted, 1, which="LA", tol=1e-8, v0=start, return_eigenvectors=False)[0])


def _eigen_solvers(case: Case) -> dict[str, Callable[[int], tuple[float, int]]]:
    """Name -> (seed -> the eigenvalue, products); each makes its own operator."""

    def fresh() -> Hessian:
        return Hessian(closure_of(case), how=How(check=False))

    def own(tol: float) -> Callable[[int], tuple[float, int]]:
        def solve(seed: int) -> tuple[float, int]:
            pairs = eigsh(fresh(), tol=tol, seed=seed)
            return float(pairs.values[0]), pairs.products

        return solve

    def warm(seed: int) -> tuple[float, int]:
        pairs = eigsh(fresh(), tol=0.02, seed=seed, start=before)
        return float(pairs.values[0]), pairs.products

    def scipy(seed: int) -> tuple[float, int]:
        operator = fresh()
        return _arpack(operator.to_scipy(), seed), operator.products

    before = eigsh(fresh(), tol=0.02, seed=99)
    solvers: dict[str, Callable[[int], tuple[float, int]]] = {
        "thalweg eigsh, residual 1 %": own(0.01),
        "thalweg eigsh, residual 2 %": own(0.02),
        "the same, warm start": warm,
        "scipy eigsh on ours, tol 1e-3": scipy,
    }
    return solvers | {
        name: solve
        for (module, name), solve in _peer_solvers(case).items()
        if Scheme(name, lambda _: _, module).installed
    }


def _peer_solvers(case: Case) -> dict[tuple[str, str], Callable[[int], tuple[float, int]]]:
    def curvlinops(seed: int) -> tuple[float, int]:
        operator = curvlinops_operator(copied(case), "HessianLinearOperator").to_scipy()
        spent = [0]

        def product(v: np.ndarray) -> np.ndarray:
            spent[0] += 1
            return operator.matvec(v)

        counted = LinearOperator(operator.shape, dtype=operator.dtype, matvec=product)
        return _arpack(counted, seed), spent[0]

    def pyhessian(tol: float) -> Callable[[int], tuple[float, int]]:
        def solve(seed: int) -> tuple[float, int]:
            del seed  # it draws from torch's own generator
            from pyhessian import hessian as module

            held = pyhessian_operator(case)
            inside = sys.modules[module.__module__]
            plain, spent = inside.hessian_vector_product, [0]

            def product(*arguments: Any) -> Any:
                spent[0] += 1
                return plain(*arguments)

            inside.hessian_vector_product = product
            try:
                return held.eigenvalues(tol=tol)[0][0], spent[0]
            finally:
                inside.hessian_vector_product = plain

        return solve

    def power(seed: int) -> tuple[float, int]:
        from hessian_eigenthings import power_iteration_one

        operator = eigenthings_hessian(copied(case))
        value, _, _, spent, _ = power_iteration_one(operator, tol=1e-3, seed=seed)
        return value, spent

    def krylov(**options: Any) -> Callable[[int], tuple[float, int]]:
        def solve(seed: int) -> tuple[float, int]:
            from hessian_eigenthings import lanczos

            result = lanczos(
                eigenthings_hessian(copied(case)), k=1, which="LA", seed=seed, **options
            )
            return float(result.eigenvalues[0]), options.get("max_iter", 2)

        return solve

    return {
        (CURVLINOPS, "curvlinops and scipy eigsh, tol 1e-3"): curvlinops,
        (PYHESSIAN, "PyHessian power iteration, tol 1e-3"): pyhessian(1e-3),
        (PYHESSIAN, "PyHessian power iteration, tol 1e-5"): pyhessian(1e-5),
        (EIGENTHINGS, "eigenthings power iteration, tol 1e-3"): power,
        (EIGENTHINGS, "eigenthings lanczos, default"): krylov(),
        (EIGENTHINGS, "eigenthings lanczos, 10 steps"): krylov(max_iter=10),
    }


def _arpack(operator: Any, seed: int) -> float:
    start = np.random.default_rng(seed).standard_normal(operator.shape[0])
    start = start.astype(operator.dtype)
    return float(arpack(operator, 1, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)[0])


def density(key: str, rounds: int) -> list[dict[str, Any]]:
    """Eighty Lanczos steps for a spectral density, the operator made anew."""
    if key != "mlp":
        return []
    case = CASES[key]()
    case.train(STEPS[key])

    def own(**options: Any) -> Callable[[], Any]:
        return lambda: spectral_density(
            Hessian(closure_of(case), how=How(check=False)), 80, **options
        )

    def curvlinops() -> Any:
        from curvlinops import lanczos_approximate_spectrum

        operator = curvlinops_operator(copied(case), "HessianLinearOperator")
        return lanczos_approximate_spectrum(operator, ncv=80)

    def eigenthings() -> Any:
        from hessian_eigenthings import spectral_density as peer

        return peer(eigenthings_hessian(copied(case)), num_runs=1, lanczos_steps=80)

    def patched() -> Any:
        def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
            del eigenvectors
            values, vectors = torch.linalg.eigh(matrix)
            return values[:, None], vectors

        torch.eig, removed = eig, torch.eig
        try:
            return pyhessian_operator(case).density(iter=80, n_v=1)
        finally:
            torch.eig = removed

    peers = {
        (CURVLINOPS, "curvlinops"): curvlinops,
        (EIGENTHINGS, "eigenthings"): eigenthings,
        (PYHESSIAN, "PyHessian"): lambda: pyhessian_operator(case).density(iter=80, n_v=1),
        (PYHESSIAN, "PyHessian, torch.eig put back"): patched,
    }
    calls = {"thalweg": own(), "thalweg, re-orthogonalised": own(reorthogonalize=True)} | {
        name: call
        for (module, name), call in peers.items()
        if Scheme(name, lambda _: _, module).installed
    }
    calls["gradient"] = lambda: torch.autograd.grad(case.loss(), case.params)
    times, failed = turns(calls, min(3, rounds), warm=1)
    gradients = ratios(times, "gradient")
    return [
        {
            "network": case.name,
            "method": name,
            "seconds": statistics.median(times[name]) if name in times else None,
            "gradients": gradients.get(name),
            "note": failed.get(name, ""),
        }
        for name in calls
    ]


def traces(key: str, rounds: int) -> list[dict[str, Any]]:
    """Relative errors of the trace of an explicit Hessian, root mean square over the rounds."""
    if key != "mlp":
        return []
    repetitions, rows = min(30, rounds), []
    for point, steps in (("start", 0), ("trained", 400)):
        case = perceptron((64, 32, 10), batch=1024)
        case.train(steps, lr=3e-3)
        H = Hessian(closure_of(copied(case).double()), how=How(check=False)).to_dense()
        truth = float(H.trace())
        for name, estimate in _trace_estimates(H.float()).items():
            try:
                found = [estimate(seed) for seed in range(repetitions)]
            except Exception as error:
                rows.append({"point": point, "method": name, "note": "fails: " + _words(error)})
                continue
            off = [(value - truth) / abs(truth) for value, _ in found]
            rows.append(
                {
                    "point": point,
                    "trace": truth,
                    "method": name,
                    "products": statistics.median(spent for _, spent in found),
                    "error": math.sqrt(statistics.fmean(e * e for e in off)),
                    "note": "",
                }
            )
    return rows


def _trace_estimates(H: Tensor) -> dict[str, Callable[[int], tuple[float, int]]]:
    def own(**options: Any) -> Callable[[int], tuple[float, int]]:
        def estimate(seed: int) -> tuple[float, int]:
            found = trace(Dense(H), seed=seed, **options)
            return float(found.value), found.products

        return estimate

    def curvlinops(name: str) -> Callable[[int], tuple[float, int]]:
        def estimate(seed: int) -> tuple[float, int]:
            import curvlinops as peer

            torch.manual_seed(seed)
            return float(getattr(peer, name)(H, 60)), 60

        return estimate

    def eigenthings(method: str) -> Callable[[int], tuple[float, int]]:
        def estimate(seed: int) -> tuple[float, int]:
            import hessian_eigenthings as peer

            operator = peer.LambdaOperator(lambda v: H @ v, len(H), dtype=H.dtype)
            found = peer.trace(operator, num_matvecs=60, method=method, seed=seed)
            return found.estimate, 60

        return estimate

    def pyhessian(seed: int) -> tuple[float, int]:
        """Its rule: stop when the running mean moves by less than 1e-3 of itself."""
        generator, samples, mean = torch.Generator().manual_seed(seed), [], 0.0
        for _ in range(100):
            v = torch.randint(2, (len(H),), generator=generator).to(H) * 2 - 1
            samples.append(float(v @ H @ v))
            now = statistics.fmean(samples)
            if abs(now - mean) / (mean + 1e-6) < 1e-3:
                break
            mean = now
        return statistics.fmean(samples), len(samples)

    found: dict[str, Callable[[int], tuple[float, int]]] = {
        "thalweg, 1 % asked for": own(target=0.01),
        "thalweg xtrace": own(method="xtrace", max_products=60),
        "thalweg hutchinson": own(method="hutchinson", max_products=60),
        "thalweg hutch++": own(method="hutch++", max_products=60),
        "PyHessian's rule": pyhessian,
    }
    if Scheme("", lambda _: _, CURVLINOPS).installed:
        for name in ("xtrace", "hutchpp_trace", "hutchinson_trace"):
            found[f"curvlinops {name}"] = curvlinops(name)
    if Scheme("", lambda _: _, EIGENTHINGS).installed:
        for name in ("hutch++", "hutchinson"):
            found[f"eigenthings {name}"] = eigenthings(name)
    return found


# ---- memory ---------------------------------------------------------------------------------
def memory(key: str, rounds: int) -> list[dict[str, Any]]:
    """The peak of one product above the built model, each in a process of its own."""
    del rounds  # memory does not vary
    rows = []
    plain = ["gradient", "gradient with its graph", "double backward written out"]
    names = [(n, "") for n in plain] + [
        (s.name, m) for m, schemes in (("H", HESSIANS), ("GGN", GGNS)) for s in schemes
    ]
    for name, matrix in names:
        row: dict[str, Any] = {"network": CASES[key]().name, "matrix": matrix, "scheme": name}
        rows.append(row | _child("peak", key, matrix, name))
    if key == "mlp":
        for name, matrix in [(PLAIN, "H"), ("thalweg, recomputed", "H"), (GGNS[0].name, "GGN")]:
            row = {"network": "MLP", "matrix": matrix, "scheme": f"{name}: growth in 1,000"}
            rows.append(row | _child("growth", key, matrix, name))
    return rows


def _child(kind: str, key: str, matrix: str, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", kind, key, matrix, name]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        last = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
        return {"note": "fails: " + last[-1][:90]}
    return {"megabytes": float(run.stdout), "note": ""}


def _in_child(kind: str, key: str, matrix: str, name: str) -> float:
    case = CASES[key]()
    v = torch.randn(sum(p.numel() for p in case.params), generator=_seed())
    small = perceptron((64, 4, 10), batch=4)
    true_hessian(small)(torch.ones(sum(p.numel() for p in small.params)))  # torch's own start
    schemes = {s.name: s.make for s in (HESSIANS if matrix == "H" else GGNS)}
    calls: dict[str, Callable[[], Any]] = {
        "gradient": lambda: torch.autograd.grad(case.loss(), case.params),
        "gradient with its graph": lambda: torch.autograd.grad(
            case.loss(), case.params, create_graph=True
        ),
        "double backward written out": lambda: true_hessian(case)(v),
    }
    if name not in calls:
        schemes[name](small)(torch.ones(sum(p.numel() for p in small.params)))
    call = calls.get(name, lambda: schemes[name](case)(v))
    before = _resident()
    if kind == "peak":
        kept = call()
        del kept
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    product = schemes[name](case)
    for _ in range(50):
        product(v)
    before = _resident()
    for _ in range(1000):
        product(v)
    return _resident() - before


def _resident() -> float:
    """Megabytes in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(7)


# ---- tables ---------------------------------------------------------------------------------
SECTIONS: dict[str, Callable[[str, int], list[dict[str, Any]]]] = {
    "products": products,
    "many": many,
    "eigen": eigen,
    "density": density,
    "trace": traces,
    "memory": memory,
}


def printed(section: str, rows: list[dict[str, Any]]) -> None:
    """A Markdown table."""
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    doc = SECTIONS[section].__doc__ or ""
    print(f"\n{doc}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print("| " + " | ".join(_shown(name, row.get(name)) for name in columns) + " |", flush=True)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        digits = {"error": ".1e", "lambda_max": ".5g", "trace": ".5g"}
        return format(value, digits.get(name, ".0f" if name in _WHOLE else ".2f"))
    return str(value)


_WHOLE = {"products", "megabytes"}


def peers_installed() -> dict[str, str]:
    """Their versions."""
    found = {}
    for name in PIP.split():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--networks", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, help="default: by the network")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # peers warn of reference cycles and deprecated calls
    if arguments.child:
        print(_in_child(*arguments.child))
        return
    facts = {"machine": machine(), "versions": versions() | peers_installed()}
    print(f"{facts['machine']}\n{facts['versions']}\none thread, processor time")
    results: dict[str, Any] = dict(facts)
    for section in arguments.sections.split(","):
        rows: list[dict[str, Any]] = []
        for key in arguments.networks.split(","):
            rows += SECTIONS[section](key, arguments.rounds or ROUNDS[key])
        printed(section, rows)
        results[section] = rows
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
