"""The paths of optimizers, trained now or recorded before, in one plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from thalweg.atlas.views import Frame, View, coordinates, loss_of, measure
from thalweg.errors import integer_from
from thalweg.landscape import Recording, Trajectory, thinned, walks_axes
from thalweg.setting import Setting, load_checkpoint
from thalweg.setting.preparation import train_steps
from thalweg.study.arms import Arm


__all__ = ["along", "recorded", "trained"]

POINTS = 120  # of a path that are drawn, each with its true loss


def trained(
    setting: Setting,
    arms: Sequence[Arm],
    steps: int,
    *,
    seed: int = 1,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Recording]:
    """Train with each optimizer from the same weights on the same batches, and record its path.

    Args:
        setting: The problem; its own model is left alone.
        arms: The optimizers.
        steps: Steps of each.
        seed: Of the initial weights and of the order of the data.
        checkpoint: Weights to start from; None: the initial ones.
        progress: Show progress bars.

    Returns:
        The paths by the optimizers' names.

    Raises:
        ValueError: If ``steps`` is below 2.
        RuntimeError: If training diverges.
    """
    integer_from(2).check("thalweg landscape", "train", steps)
    walks, names = {}, _names(arms)
    for arm in arms:
        model = setting.problem.build(seed)
        if checkpoint is not None:
            load_checkpoint(checkpoint, model)
        used = arm.build(model, {})
        objective = setting.problem.objective(model)
        with Trajectory(used, max(1, steps // POINTS), params=model) as trajectory:
            where = f"thalweg landscape, {arm.label}"
            train_steps(where, setting.problem, objective, used, steps, seed, progress=progress)
        walks[names[arm.label]] = trajectory.recording
    return walks


def _names(arms: Sequence[Arm]) -> dict[str, str]:
    """The methods' own names, and so their colours, where no two arms share one."""
    short = [arm.label.partition(":")[0] for arm in arms]
    alone = len(set(short)) == len(short)
    return {arm.label: name if alone else arm.label for arm, name in zip(arms, short, strict=True)}


def recorded(given: Sequence[str]) -> dict[str, Recording]:
    """Recordings of a Trajectory from their folders.

    Args:
        given: ``FOLDER`` or ``NAME=FOLDER``; without a name, the folder's.

    Returns:
        The recordings by name.

    Raises:
        FileNotFoundError: If a folder has no recording.
        ValueError: If two have one name.
    """
    walks: dict[str, Recording] = {}
    for text in given:
        name, equals, place = text.partition("=")
        folder = Path(place if equals else text)
        name = name if equals else folder.resolve().name
        if name in walks:
            raise ValueError(f"--recorded: two paths are named {name!r}; write NAME=FOLDER.")
        walks[name] = Recording.load(folder)
    return walks


def along(setting: Setting, walks: Mapping[str, Recording], frame: Frame | None = None) -> View:
    """Look at paths in the plane in which they vary most, around the end of the first.

    Of a function of two variables the plane is its own.

    Args:
        setting: What the loss is measured with.
        walks: Paths by name, the most important first.
        frame: How the picture is taken.

    Returns:
        The view, with the paths on its surface.

    Raises:
        ValueError: If a path does not fit the model.
    """
    frame = frame or Frame()
    loss = loss_of(setting)
    shapes = [tuple(part.shape) for part in loss.params]
    for name, walk in walks.items():
        held = [tuple(shape) for shape in walk.shapes]
        if held != shapes:
            raise ValueError(
                f"--recorded {name}: its points have the shapes {held[:4]}, the parameters of the "
                f"model {shapes[:4]}: it was recorded with another model."
            )
    drawn = {name: thinned(walk, POINTS) for name, walk in walks.items()}
    if setting.problem.function is not None:
        axes, span = coordinates(setting.problem, frame)
    else:
        axes, span = walks_axes(loss, drawn), frame.span
    surface = measure(loss, frame, axes, span, drawn)
    lengths = ", ".join(f"{name} {int(walk.steps[-1]):,}" for name, walk in walks.items())
    return View(surface, facts=(("Steps", lengths),))
