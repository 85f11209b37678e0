"""Data of a problem: three disjoint splits with a hash and a provenance.

Training data drive the optimizer, validation data choose hyper-parameters, and test data are read
once, at the end of a confirmed run. The hash covers the decoded numbers, not a file, so that the
same data have the same hash whatever archive they came in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.problems.fingerprint import update_digest
from thalweg.problems.streams import generator


__all__ = ["Data", "DataField", "Pair", "is_class_target"]

Pair = tuple[Tensor, Tensor]
SPLITS: Final = ("train", "validation", "test")


def is_class_target(targets: Tensor) -> bool:
    """Whether targets are class numbers: one integer a sample.

    Example:
        >>> is_class_target(torch.tensor([0, 2, 1])), is_class_target(torch.rand(3))
        (True, False)
    """
    integer = not (targets.is_floating_point() or targets.is_complex())
    return integer and targets.dtype != torch.bool and targets.dim() == 1


def _as_tensor(where: str, name: str, value: object) -> Tensor:
    """A tensor as it is; a NumPy array or a sequence in torch's own dtypes."""
    if isinstance(value, Tensor):
        return value.detach()
    try:
        array = np.asarray(value)
        tensor = torch.tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise bad_argument(where, name, value, "a tensor or an array of numbers") from error
    if tensor.dtype == torch.float64:
        return tensor.to(torch.get_default_dtype())
    return tensor if tensor.is_floating_point() or tensor.dtype == torch.bool else tensor.long()


def _check_pair(where: str, x: Tensor, y: Tensor) -> None:
    for name, tensor in (("x", x), ("y", y)):
        if tensor.dim() == 0:
            raise ValueError(f"{where}: {name} must have one row a sample; it is a single number.")
        if len(tensor) == 0:
            raise ValueError(f"{where}: {name} is empty; it must hold at least one sample.")
    if len(x) != len(y):
        raise ValueError(
            f"{where}: x and y must hold the same number of samples; "
            f"x holds {len(x)} and y holds {len(y)}."
        )
    for name, tensor in (("x", x), ("y", y)):
        broken = int((~torch.isfinite(tensor)).sum())
        if broken:
            raise ValueError(
                f"{where}: {name} must be finite; {broken} of its {tensor.numel()} entries are "
                "NaN or infinite."
            )


@final
@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and targets in three disjoint splits.

    Two Data are the same data where their ``sha256`` agree. The tensors are not copied, and must
    not be changed afterwards.

    Args:
        train: Inputs and targets, one row a sample, that the optimizer learns from.
        validation: The pair that hyper-parameters are chosen on.
        test: The pair that is read once, when a run is finished.
        source: Where the data come from.
        licence: What one may do with them.
        recipe: How the splits were made from the source.

    Raises:
        ValueError: If a split is empty, not finite, or its inputs and targets differ in length.

    Example:
        >>> data = Data.split(torch.arange(20.0).reshape(10, 2), torch.arange(10) % 2)
        >>> [len(x) for x, y in (data.train, data.validation, data.test)]
        [6, 2, 2]
    """

    train: Pair
    validation: Pair
    test: Pair
    source: str = "given by the caller"
    licence: str = "unknown"
    recipe: str = "split by the caller"

    def __post_init__(self) -> None:
        for split in SPLITS:
            _check_pair(f"Data.{split}", *self.of(split))

    def of(self, split: str) -> Pair:
        """The inputs and targets of ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            ValueError: If there is no such split.
        """
        if split not in SPLITS:
            raise bad_argument("Data.of", "split", split, f"one of {', '.join(SPLITS)}")
        return getattr(self, split)

    @cached_property
    def sha256(self) -> str:
        """The hash of every split's dtype, shape and bytes, worked out once."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for tensor in self.of(split):
                update_digest(digest, tensor)
        return digest.hexdigest()

    @classmethod
    def split(
        cls,
        x: object,
        y: object,
        *,
        validation: float = 0.15,
        test: float = 0.2,
        seed: int = 0,
        source: str = "given by the caller",
        licence: str = "unknown",
    ) -> Data:
        """Split samples by a fixed permutation, evenly over the classes where there are any.

        Tensors keep their dtype. NumPy arrays and sequences take torch's default float dtype, or
        int64 where they hold integers. Sizes are rounded, and no split is left empty.

        Args:
            x: Inputs, shape ``(n, ...)``.
            y: Targets, shape ``(n, ...)``; integers of shape ``(n,)`` are classes.
            validation: Fraction of the samples for validation, in (0, 1).
            test: Fraction of the samples for the test, in (0, 1).
            seed: Seed of the permutation; the same seed gives the same split everywhere.
            source: Where the data come from.
            licence: What one may do with them.

        Returns:
            The three splits, copied.

        Raises:
            ValueError: If the samples are fewer than three, differ in number, are not finite, or
                a fraction is out of range.
        """
        where = "Data.split"
        inputs, targets = _as_tensor(where, "x", x), _as_tensor(where, "y", y)
        _check_pair(where, inputs, targets)
        for name, value in (("validation", validation), ("test", test)):
            if not (isinstance(value, (int, float)) and 0.0 < value < 1.0):
                raise bad_argument(where, name, value, "a fraction in (0, 1)")
        count = len(inputs)
        held = max(1, round(test * count)), max(1, round(validation * count))
        if validation + test >= 1.0 or sum(held) >= count:
            raise ValueError(
                f"{where}(validation={validation}, test={test}): the held-out fractions must "
                f"leave samples to train on; x holds {count}."
            )
        order = _split_order(targets, seed).to(inputs.device)
        parts = [
            (inputs[rows], targets[rows.to(targets.device)])
            for rows in order.split([*held, count - sum(held)])
        ]
        recipe = f"stratified permutation, seed {seed}, validation {validation}, test {test}"
        return cls(parts[2], parts[1], parts[0], source, licence, recipe)

    @classmethod
    def hold_out(
        cls,
        train: Pair,
        test: Pair,
        *,
        validation: float = 0.1,
        seed: int = 0,
        source: str = "given by the caller",
        licence: str = "unknown",
    ) -> Data:
        """Cut validation data from published training data; the published test data stay whole.

        Args:
            train: Inputs and targets to train on and to validate with.
            test: Inputs and targets for the test.
            validation: Fraction of ``train`` for validation, in (0, 1).
            seed: Seed of the permutation, which is even over the classes.
            source: Where the data come from.
            licence: What one may do with them.

        Returns:
            The three splits; what is left to train on comes in the order of the permutation.

        Raises:
            ValueError: If the samples differ in number or the fraction is out of range.
        """
        where = "Data.hold_out"
        inputs, targets = train
        _check_pair(where, inputs, targets)
        if not (isinstance(validation, (int, float)) and 0.0 < validation < 1.0):
            raise bad_argument(where, "validation", validation, "a fraction in (0, 1)")
        order = _split_order(targets, seed).to(inputs.device)
        count = max(1, round(validation * len(inputs)))
        held, kept = order[:count], order[count:]
        recipe = f"test as published; stratified permutation of the rest, seed {seed}, "
        recipe += f"validation {validation}"
        return cls(
            (inputs[kept], targets[kept]),
            (inputs[held], targets[held]),
            test,
            source,
            licence,
            recipe,
        )

    def standardised(self, columns: slice = slice(None)) -> Data:
        """Inputs with mean 0 and standard deviation 1, as measured on the training data.

        Args:
            columns: Which columns of the inputs; constant ones are only centred.

        Example:
            >>> data = Data.split(torch.arange(30.0).reshape(15, 2), torch.arange(15))
            >>> data.standardised().train[0].std(0)
            tensor([1., 1.])
        """
        part = self.train[0][:, columns]
        mean, std = part.mean(0), part.std(0)
        std = torch.where(std > 0, std, torch.ones_like(std))
        pairs: list[Pair] = []
        for split in SPLITS:
            inputs, targets = self.of(split)
            changed = inputs.clone()
            changed[:, columns] = (inputs[:, columns] - mean) / std
            pairs.append((changed, targets))
        recipe = f"{self.recipe}; inputs standardised by the training data"
        return Data(pairs[0], pairs[1], pairs[2], self.source, self.licence, recipe)

    def centred(self) -> Data:
        """Targets less their mean over the training data, so that no step is spent on finding it.

        Example:
            >>> data = Data.split(torch.rand(15, 2), torch.arange(15.0)).centred()
            >>> data.train[1].mean().item()
            0.0
        """
        mean = self.train[1].mean(0)
        pairs: list[Pair] = [(x, y - mean) for x, y in map(self.of, SPLITS)]
        recipe = f"{self.recipe}; targets less their mean over the training data"
        return Data(pairs[0], pairs[1], pairs[2], self.source, self.licence, recipe)


def _split_order(targets: Tensor, seed: int) -> Tensor:
    """An order of the samples whose every prefix holds the classes in proportion.

    Each class is shuffled and its samples laid out evenly over [0, 1) from a random offset;
    sorting by that position is systematic sampling, and one class makes it a permutation.
    """
    draws = generator(seed, "split")
    labels = targets.cpu() if is_class_target(targets) else torch.zeros(len(targets))
    position = torch.empty(len(targets), dtype=torch.float64)
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        rank = torch.randperm(len(rows), generator=draws).double()
        offset = torch.rand((), generator=draws, dtype=torch.float64)
        position[rows] = (rank + offset) / len(rows)
    return position.argsort(stable=True)


@final
class DataField:
    """The field ``data`` of a Problem: takes a Data or a pair, gives a Data.

    A descriptor, so that type checkers know both what goes in and what comes out.

    Raises:
        ValueError: If what is given is neither, nor None.
    """

    def __get__(self, problem: object, owner: type | None = None) -> Data | None:
        return None if problem is None else problem.__dict__["data"]

    def __set__(self, problem: object, value: Data | tuple[object, object] | None) -> None:
        if isinstance(value, (tuple, list)) and len(value) == 2:
            value = Data.split(*value)
        if not (value is None or isinstance(value, Data)):
            raise bad_argument("Problem", "data", value, "a Data or a pair (inputs, targets)")
        problem.__dict__["data"] = value
