"""What is looked at: a problem's model, where it stands, and the samples that are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from thalweg.errors import NonFiniteError, integer_from
from thalweg.objective import Objective
from thalweg.problems import Problem
from thalweg.problems.streams import generator
from thalweg.setting.checkpoint import StoredOptimizer, load_checkpoint
from thalweg.study import as_arm
from thalweg.study.arms import Arm


__all__ = ["Setting", "arm_of", "prepare", "sample_count", "train_steps"]

_MODES = {True: ", in training mode", False: ", in evaluation mode"}

CHUNK = 512  # samples of one batch, so that its graph fits
_FLOPS = 1.2e9  # of a forward pass over all samples: some hundred products in a minute or two
_FEWEST, _MOST = 32, 4096


@final
@dataclass(frozen=True)
class Setting:
    """A model at a point, with what it is trained on.

    Args:
        problem: The problem.
        model: Its model.
        objective: Its loss.
        batches: The samples that are looked at.
        optimizer: The optimizer in use; None where none is named.
        whole: Whether these samples are all that training draws from.
        facts: How it came about, as pairs of term and text.
        notes: What a reader should know.

    Example:
        >>> from thalweg.problems import BOOTH
        >>> prepare(BOOTH.problem()).notes[0]
        'These are the initial weights: ...'
    """

    problem: Problem
    model: nn.Module
    objective: Objective
    batches: list[tuple[Any, Any]]
    optimizer: Any
    whole: bool
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def prepare(
    problem: Problem,
    *,
    checkpoint: str | Path | None = None,
    optimizer: str | None = None,
    lr: float | None = None,
    momentum: float | None = None,
    train: int = 0,
    samples: int | None = None,
    seed: int = 1,
    training_mode: bool = True,
    where: str = "inspect",
    progress: bool = False,
) -> Setting:
    """Build, load, train: what is to be done before a look.

    Args:
        problem: The problem.
        checkpoint: A file of weights (:func:`load_checkpoint`). None: the initial weights.
        optimizer: The optimizer, as in a race: ``"adam"``, ``"sgd:momentum=0.9"``,
            ``"torch.optim.NAdam"``. None: Adam where there is training to do, else the
            checkpoint's, else none.
        lr: Its learning rate; default its own.
        momentum: Its momentum.
        train: Steps to train first.
        samples: Training samples to look at; default by what a forward pass costs.
        seed: Of the initial weights, the order of the data, and the samples.
        training_mode: Whether the model is looked at as it is trained (dropout, batch statistics)
            or as it is used afterwards.
        where: Who asks, for messages.
        progress: Show a progress bar while training.

    Returns:
        The setting.

    Raises:
        ValueError: If an argument or the checkpoint does not fit.
        RuntimeError: If training diverges.

    Example:
        >>> from thalweg.problems import load
        >>> setting = prepare(load("digits-logistic"), optimizer="sgd", lr=0.1, train=5)
        >>> setting.optimizer.param_groups[0]["lr"], len(setting.batches[0][0])
        (0.1, 512)
    """
    integer_from(0).check(where, "train", train)
    integer_from(0).check(where, "seed", seed)
    if samples is not None:
        integer_from(1).check(where, "samples", samples)
    model = problem.build(seed)
    stored = None if checkpoint is None else load_checkpoint(checkpoint, model)
    arm = arm_of(where, optimizer, lr, momentum, needed=train > 0)
    used = None if arm is None else arm.build(model, {})
    if stored is not None:
        used = _restored(used, stored, model)
    objective = problem.objective(model)
    if train:
        assert arm is not None
        train_steps(where, problem, objective, used, train, seed, progress=progress)
    model.train(training_mode)
    batches, looked = _batches(problem, model, samples, seed)
    notes = []
    if checkpoint is None and not train:
        notes.append(
            "These are the initial weights: --train STEPS trains first, --checkpoint FILE reads "
            "weights."
        )
    return Setting(
        problem,
        model,
        objective,
        batches,
        used,
        problem.data is None or sum(len(x) for x, _ in batches) == len(problem.data.train[0]),
        (
            *_facts(problem, checkpoint, arm, train, seed),
            ("Looked at", looked + _MODES[training_mode] * (problem.data is not None)),
            *_arm_facts(arm),
        ),
        tuple(notes),
    )


def sample_count(problem: Problem, model: nn.Module) -> int:
    """How many samples an inspection looks at: as many as take a minute or two on one core."""
    assert problem.data is not None
    inputs, _ = problem.data.train
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(inputs[:2])
        each = max(counter.get_total_flops() / 2, 1.0)
    except (RuntimeError, TypeError):
        each = _FLOPS / 256
    affordable = int(min(max(_FLOPS / each, _FEWEST), _MOST))
    return min(len(inputs), max(affordable, 1))


def arm_of(
    where: str, name: str | None, lr: float | None, momentum: float | None, *, needed: bool
) -> Arm | None:
    """The optimizer that options mean, as an arm of a race.

    Args:
        where: Who asks, for messages.
        name: As in a race; None: Adam where one is needed.
        lr: Its learning rate.
        momentum: Its momentum.
        needed: Whether there is something to train.

    Raises:
        ValueError: If settings are given without an optimizer, or do not fit.
    """
    given = {"lr": lr, "momentum": momentum}
    settings = {key: value for key, value in given.items() if value is not None}
    if name is None and not needed:
        if settings:
            raise ValueError(
                f"{where}: --{next(iter(settings))} is of an optimizer; give --optimizer too."
            )
        return None
    base = as_arm(name or "adam")
    return Arm(base.label, base.cls, {**base.settings, **settings})


def _restored(used: Any, stored: Any, model: nn.Module) -> Any:
    """The optimizer with the checkpoint's state."""
    if used is None:
        params: list[Tensor] = list(model.parameters())
        count = sum(len(group["params"]) for group in stored["param_groups"])
        if count != len(params):
            params = [p for p in params if p.requires_grad]
        return StoredOptimizer(stored, params)
    try:
        used.load_state_dict(stored)
    except (ValueError, KeyError) as error:
        name = type(used).__name__
        raise ValueError(
            f"--checkpoint: its optimizer state does not fit {name}: {error}"
        ) from error
    return used


def train_steps(
    where: str,
    problem: Problem,
    objective: Objective,
    used: Any,
    steps: int,
    seed: int,
    *,
    progress: bool = False,
) -> None:
    """Train on the problem's own batches.

    Args:
        where: Who asks, for messages.
        problem: The problem.
        objective: Its loss, with the model.
        used: The optimizer.
        steps: How many.
        seed: Of the order of the data.
        progress: Show a progress bar.

    Raises:
        RuntimeError: If training diverges.
    """
    batches = problem.batches(seed)
    console = Console(stderr=True, quiet=not progress)
    with torch.random.fork_rng(devices=[]), Progress(console=console, transient=True) as bar:
        torch.manual_seed(seed)
        task = bar.add_task("training", total=steps)
        for step in range(1, steps + 1):
            try:
                loss = float(used.step(objective.closure(*next(batches))))
                finite = torch.isfinite(torch.tensor(loss))
            except NonFiniteError:
                finite = torch.tensor(False)
            if not finite:
                raise RuntimeError(
                    f"{where}: training diverged at step {step}, so there is no point to look at; "
                    f"lower --lr, or look earlier with --train {max(step - 2, 0)}."
                )
            bar.advance(task)


def _batches(
    problem: Problem, model: nn.Module, samples: int | None, seed: int
) -> tuple[list[tuple[Any, Any]], str]:
    """The samples in batches, and what they are in words."""
    if problem.data is None:
        return [next(problem.batches(seed))], "the function itself: there are no data"
    inputs, targets = problem.data.train
    count = min(len(inputs), samples or sample_count(problem, model))
    if count == len(inputs):
        chosen, words = slice(None), f"the training loss over all {count:,} training samples"
    else:
        draws = generator(seed, "inspect")
        chosen = torch.randperm(len(inputs), generator=draws)[:count].sort().values
        words = (
            f"the training loss over {count:,} of {len(inputs):,} training samples, drawn with "
            f"seed {seed}"
        )
    x, y = inputs[chosen], targets[chosen]
    return list(zip(x.split(CHUNK), y.split(CHUNK), strict=True)), words


def _facts(
    problem: Problem,
    checkpoint: str | Path | None,
    arm: Arm | None,
    train: int,
    seed: int,
) -> tuple[tuple[str, str], ...]:
    place = "initial weights" if checkpoint is None else f"weights of {Path(checkpoint).name}"
    if train and arm is not None:
        size = problem.batch_size
        each = f"batches of {size}" if size else "the full batch"
        place += f", then {train:,} steps of {arm.label} on {each}"
    return (("Problem", f"{problem.title}"), ("Point", f"{place}; seed {seed}"))


def _arm_facts(arm: Arm | None) -> tuple[tuple[str, str], ...]:
    if arm is None:
        return ()
    settings = ", ".join(f"{name} {value}" for name, value in arm.settings.items())
    return (("Optimizer", f"{arm.label}{', ' + settings if settings else ''}"),)
