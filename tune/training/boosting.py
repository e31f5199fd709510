"""Plain XGBoost boosting on matrices in memory; no Ray. A trial of the search advances it in steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xgboost

from data.errors import ConfigError
from data.schema.use_case import Metric
from tune.metrics.ranking import Ranking

_LOSS = "logloss"
_NATIVE = {Metric.AUC: "auc", Metric.PR_AUC: "aucpr"}


class Fit(NamedTuple):
    """What a fit ended with; the booster keeps the `rounds` rounds up to the best one and no more."""

    booster: xgboost.Booster
    rounds: int
    score: float
    history: list[float]
    """The metric on the validation rows after each round, those after the best one included."""
    losses: list[float]
    """The log loss on the same rows after each round."""


def best_round(history: Sequence[float], losses: Sequence[float]) -> int:
    """Number of the best round, from 0: the best metric, of equal ones the smallest log loss.

    A ranking metric is soon perfect on few rows, and then says nothing of which round is better.
    """
    return max(range(len(history)), key=lambda i: (history[i], -losses[i]))


def base_params(metric: Metric, nthread: int, seed: int) -> dict[str, Any]:
    """The parameters that are not searched."""
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "eval_metric": [_LOSS, _NATIVE[metric]] if metric in _NATIVE else [_LOSS],
        "nthread": nthread,
        "seed": seed,
        "verbosity": 0,
    }


class Boosting:
    """One fit, advanced a few rounds at a time, that ends when the best round is `patience` rounds ago.

    Args:
        params: XGBoost parameters, from `base_params` and the search.
        metric: what is maximized.
        train: rows to learn from.
        validation: rows the metric is taken on.
        max_rounds: most boosting rounds.
        patience: rounds without a better metric after which the fit ends.
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
        """Number of the best round, from 0."""
        return best_round(self.history, self.losses)

    @property
    def finished(self) -> bool:
        """True when no further round is worth it or allowed."""
        done = len(self.history)
        return done >= self._max_rounds or (done > 0 and done - 1 - self.best >= self._patience)

    def advance(self, rounds: int) -> None:
        """Boost up to `rounds` more rounds.

        Raises:
            ConfigError: XGBoost refuses a parameter; the text says which.
        """
        start = len(self.history)
        try:
            while not self.finished and len(self.history) < start + rounds:
                self._one_round(len(self.history))
        except xgboost.core.XGBoostError as exc:
            raise ConfigError(f"XGBoost refuses the parameters {self._params}: {first_line(exc)}") from exc

    def result(self) -> Fit:
        """The model cut to its best round; call after at least one round."""
        if self._booster is None:
            raise ValueError("no round has been boosted yet")
        best = self.best
        return Fit(self._booster[: best + 1], best + 1, self.history[best], self.history, self.losses)

    def _one_round(self, number: int) -> None:
        if self._booster is None:
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
    """Boost to the end in one go; arguments and errors as those of `Boosting`."""
    boosting = Boosting(params, metric, train, validation, max_rounds, patience)
    boosting.advance(max_rounds)
    return boosting.result()


def first_line(exc: BaseException) -> str:
    """The part of an XGBoost error that is meant for people: its message without the C++ stack."""
    text = str(exc).split("Stack trace")[0].strip()
    return text.rsplit("Check failed: ", 1)[-1].replace("\n", " ")


def _best_f1(margins: np.ndarray, matrix: xgboost.DMatrix) -> tuple[str, float]:
    """The best F1 over all thresholds; margins order rows as probabilities do."""
    return Metric.F1.value, Ranking(matrix.get_label(), margins).best_f1()
