"""Cutting the splits that a user's own data lack out of their training examples, once for all, before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ...suite.errors import ConfigError, DataError
from ..splits import validation_ids

__all__ = ["all_splits"]

T = TypeVar("T")
_SEED = 0


def all_splits(
    source: str, given: Mapping[str, Sequence[T]], options: Mapping[str, Any], label: Callable[[T], str] | None = None
) -> dict[str, list[T]]:
    """Examples of train, validation and test: as given, else ``test_fraction`` and ``validation_fraction`` of train.

    A fraction of 0 cuts nothing, and a test split is always needed. ``label`` names the class of an example: classes are cut in
    proportion. Raises ``DataError`` for a split without examples, ``ConfigError`` when there are too few to cut.
    """
    if "train" not in given:
        raise DataError(f"{source}: no train split; found {sorted(given)}")
    for split, examples in given.items():
        if not examples:
            raise DataError(f"{source}: {split} holds no examples")
    splits = {split: list(examples) for split, examples in given.items()}
    for split in ("test", "validation"):
        fraction = options[f"{split}_fraction"]
        if split in given or (split == "validation" and fraction == 0):
            continue
        train = splits["train"]
        classes = len(train) if label is None else np.unique([label(example) for example in train], return_inverse=True)[1]
        try:
            ids = validation_ids(classes, round(fraction * len(train)), _SEED)
        except ConfigError as problem:
            told = f"{source}: no {split} split is given, and option {split}_fraction {fraction} cannot be cut"
            raise ConfigError(f"{told}: {problem}") from None
        held_out = set(ids.tolist())
        splits[split] = [example for i, example in enumerate(train) if i in held_out]
        splits["train"] = [example for i, example in enumerate(train) if i not in held_out]
    return splits
