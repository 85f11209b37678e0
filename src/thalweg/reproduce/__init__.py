"""Claims of the literature as experiments that say what was expected and what was measured.

One file an experiment, each with an ``EXPERIMENT``; :func:`experiments` lists them by name.
"""

from thalweg.reproduce import steep_valley
from thalweg.reproduce.book import as_dict, find, write
from thalweg.reproduce.claims import Claim, Experiment, Outcome


__all__ = ["Claim", "Experiment", "Outcome", "as_dict", "experiments", "find", "write"]


def experiments() -> dict[str, Experiment]:
    """Every experiment by its name.

    Example:
        >>> list(experiments())
        ['steep-valley']
    """
    return {module.EXPERIMENT.name: module.EXPERIMENT for module in (steep_valley,)}
