"""Boosting with XGBoost on matrices in memory, without Ray, advanced in steps by a trial of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xgboost

from data.errors import ConfigError
from data.schema.search import Metric
from tune.metrics.ranking import Ranking

_LOSS = "logloss"
_NATIVE = {Metric.AUC: "auc", Metric.PR_AUC: "aucpr"}


class Fit(NamedTuple):
    """The result of a fit. The booster holds the first `rounds` rounds, up to the best one."""

    booster: xgboost.Booster
    rounds: int
    score: float
    history: list[float]
    """The metric on the validation rows after each round, those after the best one included."""
    losses: list[float]
    """The log loss on the same rows after each round."""


def best_round(history: Sequence[float], losses: Sequence[float]) -> int:
    """Return the index of the best round: the best metric, and among equal ones the smallest log loss.

    A ranking metric soon saturates on few rows, and then does not tell rounds apart.
    """
    return max(range(len(history)), key=lambda i: (history[i], -losses[i]))


def base_params(metric: Metric, nthread: int, seed: int) -> dict[str, Any]:
    """Return the XGBoost parameters that are not searched.

    Args:
        metric: reported after each round beside the log loss; F1, which XGBoost lacks, by `Boosting` itself.
        nthread: threads of a fit.
        seed: random seed of row and column sampling.
    """
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "eval_metric": [_LOSS, _NATIVE[metric]] if metric in _NATIVE else [_LOSS],
        "nthread": nthread,
        "seed": seed,
        "verbosity": 0,
    }


class Boosting:
    """One fit that is advanced a few rounds at a time, with early stopping.

    Args:
        params: XGBoost parameters, from `base_params` and the search.
        metric: metric to maximize.
        train: rows to learn from.
        validation: rows on which the metric is computed.
        max_rounds: most boosting rounds.
        patience: the fit ends when the best round is this many rounds ago.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        metric: Metric,
        train: xgboost.DMatrix,
        validation: xgboost.DMatrix,
        max_rounds: int,
        patience: int,
    ) -> None:
        self._train, self._validation = train, validation
        self._max_rounds, self._patience = max_rounds, patience
        self._name = _NATIVE.get(metric, metric.value)
        self._custom = _best_f1 if metric is Metric.F1 else None
        self._params = dict(params)
        self._booster: xgboost.Booster | None = None
        self.history: list[float] = []
        self.losses: list[float] = []

    @property
    def best(self) -> int:
        """Index of the best round."""
        return best_round(self.history, self.losses)

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
        """Return the model cut to its best round.

        Raises:
            ValueError: no round has been boosted yet.
        """
        if self._booster is None:
            raise ValueError("no round has been boosted yet")
        best = self.best
        return Fit(self._booster[: best + 1], best + 1, self.history[best], self.history, self.losses)

    def _one_round(self, number: int) -> None:
        if self._booster is None:
            # The cache keeps predictions between rounds; without it each evaluation walks every tree again.
            self._booster = xgboost.Booster(self._params, cache=[self._train, self._validation])
        self._booster.update(self._train, number)
        evaluated = str(self._booster.eval_set([(self._validation, "validation")], number, feval=self._custom))
        figures = dict(part.removeprefix("validation-").rsplit(":", 1) for part in evaluated.split("\t")[1:])
        self.history.append(float(figures[self._name]))
        self.losses.append(float(figures[_LOSS]))


def fit(
    params: Mapping[str, Any],
    metric: Metric,
    train: xgboost.DMatrix,
    validation: xgboost.DMatrix,
    max_rounds: int,
    patience: int,
) -> Fit:
    """Boost until early stopping or `max_rounds`; arguments and errors as for `Boosting`."""
    boosting = Boosting(params, metric, train, validation, max_rounds, patience)
    boosting.advance(max_rounds)
    return boosting.result()


def first_line(exc: BaseException) -> str:
    """Return the message of an XGBoost error without the C++ stack trace that it carries."""
    text = str(exc).split("Stack trace")[0].strip()
    return text.rsplit("Check failed: ", 1)[-1].replace("\n", " ")


def _best_f1(margins: np.ndarray, matrix: xgboost.DMatrix) -> tuple[str, float]:
    """Return name and best F1 over all thresholds; XGBoost passes margins, which rank rows as probabilities do."""
    return Metric.F1.value, Ranking(matrix.get_label(), margins).best_f1()
