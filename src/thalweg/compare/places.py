"""Which problem a race is on, and where its data may be looked for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thalweg.compare.own import load_file
from thalweg.errors import bad_argument, integer_from
from thalweg.problems import Problem, catalogue, load


__all__ = ["data_places", "open_problem", "with_batches"]


@contextmanager
def data_places(root: str | Path | None = None, *, download: bool = False) -> Iterator[None]:
    """Inside, data are looked for in ``root`` first, and fetched only if ``download`` says so.

    It sets ``THALWEG_DATA`` and ``THALWEG_DOWNLOAD`` and puts them back, so that it reaches what a
    problem's own code loads, and worker processes.

    Args:
        root: A folder laid out as torchvision does. None: as the environment says.
        download: Whether what is nowhere may be fetched, into ``root`` or else into the cache.

    Raises:
        FileNotFoundError: If there is no such folder, and nothing may be fetched into it.

    Example:
        >>> with data_places("/", download=True):
        ...     os.environ["THALWEG_DATA"], os.environ["THALWEG_DOWNLOAD"]
        ('/', '1')
    """
    given = {"THALWEG_DOWNLOAD": "1"} if download else {}
    if root is not None:
        folder = Path(root).expanduser().absolute()
        if not folder.is_dir() and not download:
            raise FileNotFoundError(f"--data-root {root}: no such folder.")
        given["THALWEG_DATA"] = str(folder)
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def open_problem(
    given: str,
    *,
    root: str | Path | None = None,
    download: bool = False,
    batch: str | None = None,
) -> Problem:
    """The problem of a name, or of a Python file with a ``problem()``.

    Args:
        given: A name of the catalogue, or a path that ends in ``.py``.
        root: The folder of a built-in problem's data: looked for there and nowhere else.
        download: Whether data that are nowhere may be fetched.
        batch: Samples a step, in digits, or ``"full"`` (:func:`with_batches`).

    Raises:
        ValueError: If there is no such problem, a folder is given for one that reads no files, or
            a file does not define one.
        FileNotFoundError: If its data are nowhere (ImportError where they come in a package).

    Example:
        >>> open_problem("booth").name
        'booth'
    """
    problem = _opened(given, root, download)
    if batch is None:
        return problem
    return with_batches(problem, int(batch) if batch.isdigit() else batch)


def _opened(given: str, root: str | Path | None, download: bool) -> Problem:
    if given.endswith(".py"):
        return load_file(given)
    entry = catalogue().get(given)
    if root is not None and entry is not None and entry.source is None:
        allowed = f"left out: {given} reads no files"
        raise bad_argument("thalweg compare", "--data-root", str(root), allowed)
    try:
        return load(given, root=root, download=download)
    except (FileNotFoundError, ImportError) as error:
        fetch = " --download to fetch them," if "download=True" in str(error) else ""
        hint = f"On the command line:{fetch} --data-root DIR for a folder that has them."
        raise type(error)(f"{error} {hint}") from error


def with_batches(problem: Problem, size: int | str) -> Problem:
    """The problem with other batches; another problem, whose results do not compare.

    Args:
        problem: One with data.
        size: Samples a step, or ``"full"`` for all of them, which methods that search (L-BFGS,
            Newton) are made for.

    Returns:
        The problem, with the size in its name.

    Raises:
        ValueError: If it has no data, or the size is neither.

    Example:
        >>> with_batches(load("digits"), "full").batch_size is None
        True
    """
    if problem.data is None:
        raise bad_argument("compare", "batch", size, f"left out: {problem.name} has no data")
    if size == "full":
        return dataclasses.replace(problem, name=f"{problem.name}-full-batch", batch_size=None)
    if not isinstance(size, int) or not integer_from(1).contains(size):
        raise bad_argument("compare", "batch", size, "an integer >= 1, or 'full'")
    return dataclasses.replace(problem, name=f"{problem.name}-batch-{size}", batch_size=size)
