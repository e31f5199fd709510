"""The search space: which XGBoost parameters vary, checked before anything runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xgboost

from data.errors import ConfigError
from data.schema.search import Range, Search
from tune.tasks.learning_task import LearningTask
from tune.training.boosting import base_params, first_line

Params = dict[str, Any]


def bounds(declared: Range) -> tuple[float, float]:
    """Return (low, high) of a range; raises ConfigError for one of choices."""
    if declared.low is None or declared.high is None:
        raise ConfigError("a range needs low and high")
    return declared.low, declared.high


def check_space(search: Search, learning: LearningTask[Any], features: int, monotone: Sequence[int] = ()) -> None:
    """Check a search space by fitting XGBoost, on a table of two rows, with both ends of every range.

    Args:
        search: the declared search.
        learning: the kind of target.
        features: number of features, since constraints list a value for each.
        monotone: what features declare of them, as `FeatureSchema.monotone`.

    Raises:
        ConfigError: XGBoost does not know or accept a parameter, or it must not be searched.
    """
    fixed = base_params(learning, 1, 0, monotone)
    matrix = xgboost.DMatrix(np.repeat(np.array([[0.0], [1.0]], np.float32), features, axis=1), np.array([0, 1]))
    for name, declared in search.space.items():
        if name in fixed or name in ("booster", "num_class", "n_jobs", "random_state"):
            by = "by features that are monotone" if name == "monotone_constraints" else "by rayscore"
            raise ConfigError(f"search.space.{name}: is set {by} and cannot be searched")
        if declared.integer and declared.choices is None and math.ceil(bounds(declared)[0]) > bounds(declared)[1]:
            raise ConfigError(f"search.space.{name}: no whole number lies between low and high")
        for value in _corners(declared):
            _try(name, value, {**fixed, name: value}, matrix)


def _corners(declared: Range) -> Iterator[float | int | str]:
    if declared.choices is not None:
        yield from declared.choices
    else:
        low, high = bounds(declared)
        yield from (math.ceil(low), math.floor(high)) if declared.integer else (low, high)


def _try(name: str, value: object, params: Params, matrix: xgboost.DMatrix) -> None:
    # XGBoost reports an unknown parameter by a warning only.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            xgboost.train({**params, "verbosity": 1, "validate_parameters": True}, matrix, 1)
        except xgboost.core.XGBoostError as exc:
            hint = "; a whole-number parameter needs integer = true" if "expect int" in str(exc) else ""
            raise ConfigError(f"search.space.{name} = {value!r}: XGBoost refuses it: {first_line(exc)}{hint}") from exc
    unused = [str(warning.message) for warning in caught if "not used" in str(warning.message)]
    if any(f'"{name}"' in message for message in unused):
        raise ConfigError(f"search.space.{name}: XGBoost has no such parameter; see its list of parameters")
