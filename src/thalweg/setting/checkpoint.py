"""Checkpoints: a model's weights, and the optimizer's state where it is there."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn


__all__ = ["StoredOptimizer", "load_checkpoint"]

_MODEL = ("model", "model_state_dict", "state_dict", "weights")
_OPTIMIZER = ("optimizer", "optimizer_state_dict")
_WRAPPED = ("module.", "_orig_mod.")  # what torch's wrappers put before every name


@final
class StoredOptimizer:
    """Groups and state of an optimizer whose class a checkpoint does not name.

    It cannot step; it is for reading what the optimizer did.

    Args:
        state_dict: As ``Optimizer.state_dict`` gives it.
        params: The parameters, in the order in which the optimizer had them.

    Raises:
        ValueError: If the checkpoint has another number of parameters, or other shapes.

    Example:
        >>> p = nn.Parameter(torch.ones(2))
        >>> stored = StoredOptimizer(torch.optim.SGD([p], lr=0.1).state_dict(), [p])
        >>> stored.param_groups[0]["lr"]
        0.1
    """

    nameless = True
    label = "the checkpoint's optimizer"

    def __init__(self, state_dict: Mapping[str, Any], params: list[Tensor]) -> None:
        groups = state_dict["param_groups"]
        places = [place for group in groups for place in group["params"]]
        if len(places) != len(params):
            raise ValueError(
                f"--checkpoint: the optimizer has {len(places)} parameters, the model "
                f"{len(params)}; give a checkpoint without the optimizer."
            )
        held = dict(zip(places, params, strict=True))
        self.param_groups = [
            {**group, "params": [held[place] for place in group["params"]]} for group in groups
        ]
        self.state = {held[place]: slots for place, slots in state_dict["state"].items()}
        for p, slots in self.state.items():
            for name, slot in slots.items():
                if isinstance(slot, Tensor) and slot.ndim and slot.shape != p.shape:
                    raise ValueError(
                        f"--checkpoint: the optimizer's {name} has shape {tuple(slot.shape)} where "
                        f"the parameter has {tuple(p.shape)}: it is of another model."
                    )


def load_checkpoint(
    path: str | Path, model: nn.Module, *, option: str = "--checkpoint"
) -> Mapping[str, Any] | None:
    """Put the weights of a file into a model.

    Args:
        path: A state dictionary as ``torch.save`` writes it, or a dictionary with one under
            ``"model"`` and perhaps the optimizer's under ``"optimizer"``. Only tensors and plain
            data are read: no code of the file runs.
        model: The model; changed only if everything fits.
        option: What it was given as, for messages.

    Returns:
        The optimizer's state dictionary, if there is one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or does not fit the model: which names are missing, which
            are unknown, which shapes differ.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{option} {path}: no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign pickle, which is refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{option} {path}: not a file of tensors and plain data as torch.save writes them "
            f"({first}); save model.state_dict()."
        ) from error
    weights, optimizer = _parts(f"{option} {path}", content)
    model.load_state_dict(_fitting(f"{option} {path}", weights, model))
    return optimizer


def _parts(where: str, content: Any) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The model's part and the optimizer's."""
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ValueError(f"{where}: a dictionary is needed, the file holds a {kind}.")
    optimizer = next((content[name] for name in _OPTIMIZER if name in content), None)
    weights = next(
        (content[name] for name in _MODEL if isinstance(content.get(name), Mapping)), content
    )
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        names = ", ".join(repr(str(name)) for name in list(content)[:8])
        raise ValueError(
            f"{where}: no state dictionary in it. It has {names or 'nothing'}; the "
            "weights are looked for in the file itself and under 'model'."
        )
    if optimizer is not None and not {"state", "param_groups"} <= set(optimizer):
        raise ValueError(f"{where}: 'optimizer' is not an optimizer's state_dict().")
    return weights, optimizer


def _fitting(where: str, weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Any]:
    """The weights by the model's own names, or what does not fit."""
    found = dict(weights)
    for prefix in _WRAPPED:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    own = model.state_dict()
    problems = []
    for word, names in (("missing", own.keys() - found), ("unknown", found.keys() - own.keys())):
        if names:
            shown = ", ".join(sorted(names)[:6]) + (", ..." if len(names) > 6 else "")
            problems.append(f"{word}: {shown}")
    for name in own.keys() & found.keys():
        if own[name].shape != found[name].shape:
            here, there = tuple(own[name].shape), tuple(found[name].shape)
            problems.append(f"{name} has shape {there}, the model's has {here}")
    if problems:
        raise ValueError(f"{where}: it does not fit the model; {'; '.join(problems)}.")
    return found
