"""What a user of ``thalweg landscape`` asks to see, and the view that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from thalweg.atlas.connecting import between
from thalweg.atlas.views import Frame, View, around
from thalweg.atlas.walking import along, recorded, trained
from thalweg.problems import Problem
from thalweg.setting import Setting, prepare
from thalweg.setting.preparation import arm_of
from thalweg.study.arms import Arm, parse_arms


__all__ = ["ABOUT", "Subject", "Training", "view_of"]

ABOUT = "thalweg landscape"


@final
@dataclass(frozen=True)
class Subject:
    """What is to be seen; around a point where nothing else is asked for.

    Args:
        directed: Whether directions around a point were named.
        trajectory: The paths of optimizers that are trained now.
        recordings: Paths that were recorded before.
        ends: Two checkpoints.

    Example:
        >>> Subject(trajectory=True).walking
        True
    """

    directed: bool = False
    trajectory: bool = False
    recordings: tuple[str, ...] = ()
    ends: tuple[Path, Path] | None = None

    @property
    def walking(self) -> bool:
        """Whether paths are to be seen."""
        return self.trajectory or bool(self.recordings)

    def check(self) -> None:
        """Refuse two subjects of one picture.

        Raises:
            ValueError: If there are two.
        """
        if self.directed + self.walking + (self.ends is not None) > 1:
            raise ValueError(
                f"{ABOUT}: give one of --directions, --trajectory (or --recorded) and --connect."
            )


@final
@dataclass(frozen=True)
class Training:
    """How the model gets where it is looked at.

    Args:
        optimizer: Its name, or several.
        lr: Its learning rate.
        steps: Steps; None: none, of a trajectory the problem's own.
        checkpoint: Weights to begin with.
        samples: Training samples that are looked at.
        seed: Of weights, order of the data and samples.

    Example:
        >>> [arm.label for arm in Training("sgd,adam").arms()]
        ['sgd', 'adam']
    """

    optimizer: str | None = None
    lr: float | None = None
    steps: int | None = None
    checkpoint: Path | None = None
    samples: int | None = None
    seed: int = 1

    def arms(self) -> list[Arm]:
        """The optimizers, Adam where none is named.

        Raises:
            ValueError: If there is no such optimizer, or one rate for several.
        """
        if self.optimizer is not None and "," in self.optimizer:
            if self.lr is not None:
                raise ValueError(
                    f"{ABOUT}: with several optimizers, write rates as sgd:lr={self.lr:g}."
                )
            return parse_arms(self.optimizer)
        arm = arm_of(ABOUT, self.optimizer, self.lr, None, needed=True)
        return [] if arm is None else [arm]

    def setting(self, problem: Problem, *, train: bool) -> Setting:
        """The model in evaluation mode, trained first where that is asked for.

        Raises:
            ValueError: If an optimizer is named and there is nothing to train.
        """
        first = (self.steps or 0) if train else 0
        if train and not first and (self.optimizer or self.lr is not None):
            raise ValueError(
                f"{ABOUT}: --optimizer and --lr are of training: give --train STEPS, or "
                "--trajectory."
            )
        return prepare(
            problem,
            checkpoint=self.checkpoint,
            optimizer=self.optimizer if first else None,
            lr=self.lr if first else None,
            train=first,
            samples=self.samples,
            seed=self.seed,
            training_mode=False,
            where=ABOUT,
            progress=True,
        )


def view_of(
    problem: Problem, subject: Subject, training: Training, frame: Frame, method: str
) -> tuple[Setting, View]:
    """The view that is asked for, and the setting in which it was taken.

    Args:
        problem: The problem.
        subject: What is to be seen.
        training: How the model gets there.
        frame: How the picture is taken.
        method: How two checkpoints are connected.
    """
    setting = training.setting(problem, train=not subject.walking)
    if subject.ends is not None:
        return setting, between(setting, *subject.ends, method, frame)
    if not subject.walking:
        return setting, around(setting, frame)
    walks = recorded(subject.recordings)
    if subject.trajectory:
        steps = problem.steps if training.steps is None else training.steps
        walks |= trained(
            setting,
            training.arms(),
            steps,
            seed=training.seed,
            checkpoint=training.checkpoint,
            progress=True,
        )
    return setting, along(setting, walks, frame)
