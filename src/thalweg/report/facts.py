"""How a study was measured, as pairs of term and text: data, budget, selection, machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.report import words
from thalweg.study.statistics import number


__all__ = ["failures", "measured", "record"]

Record = Mapping[str, Any]


def measured(study: Record, runs: Sequence[Record]) -> list[tuple[str, str]]:
    """The terms a reader needs to trust or repeat the numbers, in reading order."""
    problem, machine, versions = study["problem"], study["machine"], study["versions"]
    batch = problem["batch_size"]
    pairs = [
        (
            "Problem",
            f"{problem['name']}, version {problem['version']}, "
            f"fingerprint {problem['fingerprint'][:12]}",
        ),
        *_data(problem["data"]),
        (
            "Model",
            f"{problem['parameters']:,} parameters; "
            + (f"batches of {batch}" if batch else "full batch"),
        ),
        ("Budget", f"{words.budget(study)} a run"),
        ("Schedule", words.schedule(study)),
        ("Tuning", _tuning(study, runs)),
        (
            "Fresh runs",
            f"{words.seeds(study['seeds'])}, none of them used in tuning; the same "
            "initial weights and batches for every optimizer at each seed",
        ),
    ]
    goal = words.target(study)
    if goal:
        pairs.append(
            (
                "Target",
                f"{goal}, at the first evaluation that reaches it; "
                "a run that misses counts as infinitely long",
            )
        )
    pairs += [
        (
            "Statistics",
            "mean ± half of the 95% Student-t interval over fresh seeds; paired t "
            "tests against the best, Holm-corrected; bold: not separable from the best at 5%",
        ),
        ("Time", f"{study['clock']}, training only: evaluation and loading are outside the clock"),
        (
            "Machine",
            f"{machine['processor']}, {machine['cores']} cores, "
            f"{number(machine['memory_gib'], 3)} GiB; {machine['system']}; "
            f"{study['threads']} thread{'s' if study['threads'] != 1 else ''}",
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Made", str(study["created"])),
    ]
    return pairs


def failures(runs: Sequence[Record]) -> list[dict[str, str]]:
    """Every run that did not finish, with its settings, what happened and its record."""
    order = {"confirm": 0, "default": 1, "tune": 2}
    lost = [run for run in runs if run["status"] != "finished"]
    lost.sort(key=lambda run: (order[run["stage"]], run["optimizer"], run["seed"]))
    return [
        {
            "optimizer": run["optimizer"],
            "stage": {"tune": "tuning"}.get(run["stage"], run["stage"]),
            "seed": str(run["seed"]),
            "settings": words.settings(run),
            "status": run["status"],
            "message": run["message"] or "",
            "record": record(run),
        }
        for run in lost
    ]


def record(run: Record) -> str:
    """The run's record, relative to the study folder."""
    return f"runs/{run['id']}/result.json"


def _data(data: Record | None) -> list[tuple[str, str]]:
    if data is None:
        return []
    counts = ", ".join(f"{data[split]:,} {split}" for split in ("train", "validation", "test"))
    return [
        (
            "Data",
            f"{data['source']} ({data['licence']}); {data['recipe']}; sha256 {data['sha256'][:12]}",
        ),
        ("Splits", f"{counts}; the test set is read once, at the end of each fresh run"),
    ]


def _tuning(study: Record, runs: Sequence[Record]) -> str:
    trials = f"{study['trials']} trials"
    if any(run["round"] for run in runs):
        trials += ", and more where the best sat on the edge of its space,"
    return (
        f"{trials} for each optimizer at seed {study['tuning_seed']}, chosen by the lowest final "
        f"{words.axis_name(study['selection'], study)}"
    )
