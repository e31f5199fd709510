"""Boosting with XGBoost on matrices in memory, without Ray, advanced in steps by a trial of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xgboost

from data.errors import ConfigError
from tune.tasks.learning_task import LearningTask
from tune.training.listed_rows import lists_of

_CUSTOM = "metric"
"""Name of the search's metric in XGBoost's evaluation, where it is computed here."""


class Fold(NamedTuple):
    """The rows that a fit learns from, and those on which it is judged."""

    learned: xgboost.DMatrix
    judged: xgboost.DMatrix


class Fit(NamedTuple):
    """The result of a fit: of each fold the booster of the first `rounds` rounds, up to the best one."""

    boosters: tuple[xgboost.Booster, ...]
    rounds: int
    score: float
    history: list[float]
    """The metric on the judged rows after each round, those after the best one included: the mean of the folds."""
    losses: list[float]
    """The loss on the same rows after each round."""


def best_round(losses: Sequence[float]) -> int:
    """Return the index of the best round: that of the smallest loss, the first of equal ones.

    A ranking metric jumps about on few rows and soon saturates; the loss also keeps the probabilities calibrated.
    """
    return min(range(len(losses)), key=losses.__getitem__)


def base_params(learning: LearningTask[Any], nthread: int, seed: int, monotone: Sequence[int] = ()) -> dict[str, Any]:
    """Return the XGBoost parameters that are not searched.

    Args:
        learning: the objective, and what is reported after each round.
        nthread: threads of a fit.
        seed: random seed of row and column sampling.
        monotone: of each feature 1, -1 or 0, as `FeatureSchema.monotone`.
    """
    constraints = {"monotone_constraints": f"({','.join(map(str, monotone))})"} if any(monotone) else {}
    return {
        **learning.rounds.objective,
        "tree_method": "hist",
        "nthread": nthread,
        "seed": seed,
        "verbosity": 0,
        **constraints,
    }


class Boosting:
    """Fits of the same parameters on each fold, advanced together a few rounds at a time, with early stopping.

    The folds have one number of rounds: the best one of their mean loss.

    Args:
        params: XGBoost parameters, from `base_params` and the search.
        learning: what is computed after each round.
        folds: the rows of each fold.
        max_rounds: most boosting rounds.
        patience: the fits end when the best round is this many rounds ago.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        learning: LearningTask[Any],
        folds: Sequence[Fold],
        max_rounds: int,
        patience: int,
    ) -> None:
        self._folds = folds
        self._weights = np.array([fold.judged.num_row() for fold in folds], np.float64)
        self._max_rounds, self._patience = max_rounds, patience
        self._learning, self._loss = learning, learning.rounds.loss
        self._name = learning.rounds.metric or _CUSTOM
        self._params = dict(params)
        self._boosters: list[xgboost.Booster] = []
        self.history: list[float] = []
        self.losses: list[float] = []

    @property
    def best(self) -> int:
        """Index of the best round."""
        return best_round(self.losses)

    @property
    def finished(self) -> bool:
        """Whether early stopping or the most rounds have been reached."""
        rounds = len(self.history)
        return rounds >= self._max_rounds or (rounds > 0 and rounds - 1 - self.best >= self._patience)

    def advance(self, rounds: int) -> None:
        """Boost up to `rounds` more rounds.

        Raises:
            ConfigError: XGBoost refuses a parameter; the message says which.
        """
        start = len(self.history)
        try:
            while not self.finished and len(self.history) < start + rounds:
                self._one_round(len(self.history))
        except xgboost.core.XGBoostError as exc:
            raise ConfigError(f"XGBoost refuses the parameters {self._params}: {first_line(exc)}") from exc

    def result(self) -> Fit:
        """Return the models cut to the best round.

        Raises:
            ValueError: no round has been boosted yet.
        """
        if not self.history:
            raise ValueError("no round has been boosted yet")
        best = self.best
        boosters = tuple(booster[: best + 1] for booster in self._boosters)
        return Fit(boosters, best + 1, self.history[best], self.history, self.losses)

    def _one_round(self, number: int) -> None:
        if not self._boosters:
            # The cache keeps predictions between rounds; without it each evaluation walks every tree again.
            self._boosters = [xgboost.Booster(self._params, cache=list(fold)) for fold in self._folds]
        found = [self._advanced(*each, number) for each in zip(self._boosters, self._folds, strict=True)]
        metric, loss = np.average(found, axis=0, weights=self._weights)
        self.history.append(float(metric))
        self.losses.append(float(loss))

    def _advanced(self, booster: xgboost.Booster, fold: Fold, number: int) -> tuple[float, float]:
        """Boost one fold by a round; returns metric and loss on its judged rows."""
        booster.update(fold.learned, number)
        custom = self._metric if self._name == _CUSTOM else None
        evaluated = str(booster.eval_set([(fold.judged, "judged")], number, feval=custom))
        figures = dict(part.removeprefix("judged-").rsplit(":", 1) for part in evaluated.split("\t")[1:])
        metric = float(figures[self._name])
        return metric, 1 - metric if self._loss is None else float(figures[self._loss])

    def _metric(self, margins: np.ndarray, matrix: xgboost.DMatrix) -> tuple[str, float]:
        labels = matrix.get_label()
        codes = labels if self._learning.task.labels is None else labels.astype(np.uint8)
        return _CUSTOM, self._learning.round_metric(codes, margins, lists_of(matrix, self._learning.task))


def fit(
    params: Mapping[str, Any], learning: LearningTask[Any], folds: Sequence[Fold], max_rounds: int, patience: int
) -> Fit:
    """Boost until early stopping or `max_rounds`; arguments and errors as for `Boosting`."""
    boosting = Boosting(params, learning, folds, max_rounds, patience)
    boosting.advance(max_rounds)
    return boosting.result()


def first_line(exc: BaseException) -> str:
    """Return the message of an XGBoost error without the C++ stack trace that it carries."""
    text = str(exc).split("Stack trace")[0].strip()
    return text.rsplit("Check failed: ", 1)[-1].replace("\n", " ")
