"""The fits that follow a search: of each fold, of the development rows, and of every row, with what the search found.

Tables in memory are fitted whole, each fit by one worker; shards are fitted by xgboost_ray, which divides their rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import xgboost

from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset
from tune.dataset.shards import PartShards
from tune.training.distributed import fit_distributed
from tune.training.listed_rows import listed


class FinalFits(Protocol):
    """Fits of one set of parameters on different rows, each of as many rounds as its rows ask for."""

    def of_folds(self) -> list[xgboost.Booster]:
        """Of each fold the booster that learned from its rows."""
        ...

    def of_development(self) -> xgboost.Booster:
        """The booster of the rows beside the holdout: that of which the figures on the holdout are."""
        ...

    def of_all(self) -> xgboost.Booster:
        """The booster of every row of the table: that which serves."""
        ...


def scaled_rounds(rounds: int, learned: float, rows: float) -> int:
    """Return how many rounds a fit of `rows` rows has, when `rounds` were best for `learned` of them.

    More rows bear more rounds at the same learning rate, before their trees fit noise: by the square root, half way
    between the same number and proportion, which three public tables do not tell apart.
    """
    return max(round(rounds * math.sqrt(rows / learned)), 1)


class MemoryTask(NamedTuple):
    """One fit of rows in memory: their numbers, and the rounds."""

    rows: np.ndarray
    rounds: int


Run = Callable[[EncodedExamples, Sequence[str], Mapping[str, Any], Sequence[MemoryTask]], list[xgboost.Booster]]
"""Runs fits: examples, feature types, parameters, tasks; the boosters are in the order of the tasks."""


class MemoryFits:
    """The fits of a table in memory.

    Args:
        prepared: the table.
        params: XGBoost parameters.
        rounds: the best number of rounds of a fold.
        run: how fits are run.
    """

    def __init__(self, prepared: PreparedDataset, params: Mapping[str, Any], rounds: int, run: Run) -> None:
        self._examples = prepared.development.and_then(prepared.holdout)
        self._folds, self._types, self._params = prepared.folds, prepared.feature_types, params
        self._rounds, self._run = rounds, run
        self._development = prepared.development.rows

    def of_folds(self) -> list[xgboost.Booster]:
        """As `FinalFits.of_folds`."""
        return self._fitted([MemoryTask(rows.learned, self._rounds) for rows in self._folds.each()])

    def of_development(self) -> xgboost.Booster:
        """As `FinalFits.of_development`."""
        return self._fitted([self._of_first(self._development)])[0]

    def of_all(self) -> xgboost.Booster:
        """As `FinalFits.of_all`."""
        return self._fitted([self._of_first(self._examples.rows)])[0]

    def _of_first(self, rows: int) -> MemoryTask:
        learned = self._folds.learned_share * self._development
        return MemoryTask(np.arange(rows), scaled_rounds(self._rounds, learned, rows))

    def _fitted(self, tasks: Sequence[MemoryTask]) -> list[xgboost.Booster]:
        return self._run(self._examples, self._types, self._params, tasks)


class ShardFits:
    """The fits of a table in shards, whose search is judged by one split.

    The figures are of the booster that learned from the train rows: fitted once more on train and validation rows
    together it would take as long again.
    """

    def __init__(self, shards: PartShards, types: Sequence[str], params: Mapping[str, Any], rounds: int) -> None:
        self._shards, self._types, self._params, self._rounds = shards, types, params, rounds
        self._of_train: xgboost.Booster | None = None

    def of_folds(self) -> list[xgboost.Booster]:
        """As `FinalFits.of_folds`."""
        return [self.of_development()]

    def of_development(self) -> xgboost.Booster:
        """As `FinalFits.of_development`."""
        if self._of_train is None:
            self._of_train = fit_distributed(self._params, self._shards.train, self._types, self._rounds)
        return self._of_train

    def of_all(self) -> xgboost.Booster:
        """As `FinalFits.of_all`."""
        rows = self._shards.all
        rounds = scaled_rounds(self._rounds, self._shards.train.rows, rows.rows)
        return fit_distributed(self._params, rows, self._types, rounds)


def run_here(
    examples: EncodedExamples, types: Sequence[str], params: Mapping[str, Any], tasks: Sequence[MemoryTask]
) -> list[xgboost.Booster]:
    """Run fits one after the other in this process."""
    return [loaded(fit_task(examples, types, params, task)) for task in tasks]


def fit_task(examples: EncodedExamples, types: Sequence[str], params: Mapping[str, Any], task: MemoryTask) -> bytes:
    """Fit, and return the booster in XGBoost's own format."""
    learned = examples.take(task.rows)
    bins = {"max_bin": params["max_bin"]} if "max_bin" in params else {}
    matrix = xgboost.QuantileDMatrix(
        **listed(learned),
        feature_types=list(types),
        enable_categorical=True,
        nthread=params.get("nthread"),
        **bins,
    )
    return bytes(xgboost.train(dict(params), matrix, task.rounds).save_raw("ubj"))


def loaded(raw: bytes) -> xgboost.Booster:
    """The booster of XGBoost's own format."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    return booster
