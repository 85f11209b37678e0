"""Claims of the literature as experiments that say what was expected and what was measured.

One file an experiment, each with an ``EXPERIMENT``; :func:`experiments` lists them by name,
:func:`run_all` runs those that are not yet on disk and writes one book of all.
"""

from thalweg.reproduce.book import Book, Entry, run_all
from thalweg.reproduce.catalogue import experiments
from thalweg.reproduce.claims import Claim, Experiment, Outcome
from thalweg.reproduce.page import write_page
from thalweg.reproduce.records import as_dict, find, perform, write


__all__ = [
    "Book",
    "Claim",
    "Entry",
    "Experiment",
    "Outcome",
    "as_dict",
    "experiments",
    "find",
    "perform",
    "run_all",
    "write",
    "write_page",
]
