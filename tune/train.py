"""One plain XGBoost fit on matrices in memory; no Ray. The search calls it once a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xgboost
from xgboost.callback import TrainingCallback

from data.errors import ConfigError
from data.usecase import Metric

OnRound = Callable[[int, float], bool]
"""Called after each round with its number (from 0) and the metric; True stops the fit."""

_NATIVE = {Metric.AUC: "auc", Metric.PR_AUC: "aucpr"}


class Fit(NamedTuple):
    """What a fit ended with; `rounds` counts the rounds up to the best one, which is all the booster keeps."""

    booster: xgboost.Booster
    rounds: int
    score: float
    history: list[float]
    """The metric on the validation rows after each round, those after the best one included."""


def base_params(metric: Metric, nthread: int, seed: int) -> dict[str, Any]:
    """The parameters that are not searched."""
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "eval_metric": _NATIVE.get(metric, "logloss"),
        "nthread": nthread,
        "seed": seed,
        "verbosity": 0,
    }


class _Report(TrainingCallback):
    """Takes the metric of each round to `on_round`, and stops when the best is `patience` rounds ago."""

    def __init__(self, metric: Metric, on_round: OnRound | None, patience: int) -> None:
        self._name = _NATIVE.get(metric, metric.value)
        self._on_round, self._patience = on_round, patience
        self.history: list[float] = []

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Return True to end the fit."""
        self.history.append(float(evals_log["validation"][self._name][-1]))
        stop = bool(self._on_round and self._on_round(epoch, self.history[-1]))
        return stop or epoch - int(np.argmax(self.history)) >= self._patience


def fit(
    params: Mapping[str, Any],
    metric: Metric,
    train: xgboost.DMatrix,
    validation: xgboost.DMatrix,
    max_rounds: int,
    patience: int,
    on_round: OnRound | None = None,
) -> Fit:
    """Fit with early stopping on the validation metric and keep the rounds up to the best one.

    Args:
        params: XGBoost parameters, from `base_params` and the search.
        metric: what is maximized.
        train: rows to learn from.
        validation: rows the metric is taken on.
        max_rounds: most boosting rounds.
        patience: rounds without a better metric after which the fit ends.
        on_round: told of every round; may stop the fit.

    Raises:
        ConfigError: XGBoost refuses a parameter; the text names it.
    """
    report = _Report(metric, on_round, patience)
    custom = _f1_metric if metric is Metric.F1 else None
    try:
        booster = xgboost.train(
            dict(params),
            train,
            num_boost_round=max_rounds,
            evals=[(validation, "validation")],
            custom_metric=custom,
            callbacks=[report],
            verbose_eval=False,
        )
    except xgboost.core.XGBoostError as exc:
        raise ConfigError(f"XGBoost refuses the parameters {dict(params)}: {first_line(exc)}") from exc
    best = int(np.argmax(report.history))
    return Fit(booster[: best + 1], best + 1, report.history[best], report.history)


def first_line(exc: BaseException) -> str:
    """The part of an XGBoost error that is meant for people: its message without the C++ stack."""
    text = str(exc).split("Stack trace")[0].strip()
    return text.rsplit("Check failed: ", 1)[-1].replace("\n", " ")


def _f1_metric(margin_or_probability: np.ndarray, matrix: xgboost.DMatrix) -> tuple[str, float]:
    """Best F1 over all thresholds."""
    labels = matrix.get_label()
    order = np.argsort(-margin_or_probability, kind="stable")
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(labels) + 1) + labels.sum())
    return Metric.F1.value, float(f1.max(initial=0.0))
