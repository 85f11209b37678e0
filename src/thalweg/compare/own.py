"""A user's own problem from a file, and the file to begin with."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cloudpickle

from thalweg.problems import Problem


__all__ = ["load_file", "write_template"]


def load_file(path: str | Path) -> Problem:
    """The problem of a Python file: what its function ``problem()`` returns.

    Args:
        path: The file. Modules beside it can be imported.

    Returns:
        The problem.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not run, or has no ``problem()`` that returns a Problem.

    Example:
        >>> load_file("missing.py")
        Traceback (most recent call last):
        FileNotFoundError: missing.py: no such file; `thalweg new-problem` writes one.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; `thalweg new-problem` writes one.")
    module = _run(file)
    make = getattr(module, "problem", None)
    if not callable(make):
        raise ValueError(
            f"{file}: the file has no function problem() that returns a thalweg.Problem; "
            "`thalweg new-problem` writes one that has."
        )
    try:
        problem = make()
    except Exception as error:
        raise ValueError(f"{file}: problem() raised {type(error).__name__}: {error}") from error
    if not isinstance(problem, Problem):
        raise ValueError(f"{file}: problem() must return a thalweg.Problem, got {problem!r}.")
    return problem


def write_template(path: str | Path, *, force: bool = False) -> Path:
    """Write a commented problem that runs as it is.

    Args:
        path: The file to write.
        force: Whether a file that is there is overwritten.

    Returns:
        The file.

    Raises:
        FileExistsError: If the file is there and ``force`` is not given.
    """
    file = Path(path)
    if file.exists() and not force:
        raise FileExistsError(f"{file} is there already; choose another name, or --force.")
    text = (Path(__file__).parent / "templates" / "problem.py.txt").read_text(encoding="utf-8")
    file.write_text(text.replace("FILE.py", file.name), encoding="utf-8")
    return file


def _run(file: Path) -> ModuleType:
    name = f"thalweg_own_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{file}: running it raised {type(error).__name__}: {error}") from error
    # Worker processes cannot import it by this name: its functions travel by value.
    cloudpickle.register_pickle_by_value(module)
    return module
