"""Baselines that a model has to beat: the majority class, logistic regression, and XGBoost with its defaults.

They are fair: they learn from all rows that the measured model learns from, and XGBoost has native categories.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from data.schema.features.feature import FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.model_policy import Decision
from data.schema.search import Metric
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset
from tune.metrics.figures import Scored, best_threshold
from tune.training.boosting import base_params

MAJORITY = "always the majority"
LOGISTIC = "logistic regression"
DEFAULTS = "XGBoost defaults"

_LOGISTIC_ROWS = 50_000
"""Most rows for the linear model, which more rows would make slower and no better."""
_LOGISTIC_STEPS = 300
_MAX_CATEGORIES = 50
_DEFAULT_ROUNDS = 100

Score = Callable[[np.ndarray], np.ndarray]
"""From encoded rows, float32 of shape (n, k), to probabilities of shape (n,)."""
Fit = Callable[[EncodedExamples], Score]
"""From the rows to learn from to what scores others."""


def baselines(prepared: PreparedDataset, decision: Decision, nthread: int) -> dict[str, Scored]:
    """Train each baseline and score the holdout; returns probabilities and threshold by name of the baseline.

    The threshold is chosen by `decision` on the rows of the last fold, scored by a fit that did not learn from them;
    `nthread` is for XGBoost.
    """
    types = prepared.feature_types
    scorers: dict[str, Fit] = {
        LOGISTIC: lambda learned: _logistic_scores(prepared.schema, learned),
        DEFAULTS: lambda learned: _default_scores(types, learned, nthread),
    }
    share = float(prepared.development.y.mean())
    majority = Scored(np.full(prepared.holdout.rows, share, np.float32), 0.5)
    return {MAJORITY: majority, **{name: _scored(prepared, decision, fit) for name, fit in scorers.items()}}


def _scored(prepared: PreparedDataset, decision: Decision, fit: Fit) -> Scored:
    development, last = prepared.development, prepared.folds.rows(prepared.folds.count - 1)
    judged = development.take(last.judged)
    threshold = best_threshold(judged.y, fit(development.take(last.learned))(judged.x), decision)
    return Scored(fit(development)(prepared.holdout.x), threshold)


def _default_scores(types: list[str], learned: EncodedExamples, nthread: int) -> Score:
    matrix = xgboost.QuantileDMatrix(learned.x, learned.y, feature_types=types, enable_categorical=True)
    booster = xgboost.train(base_params(Metric.AUC, nthread, 0), matrix, _DEFAULT_ROUNDS)

    def probabilities(x: np.ndarray) -> np.ndarray:
        return booster.predict(xgboost.DMatrix(x, feature_types=types, enable_categorical=True))

    return probabilities


def _logistic_scores(schema: FeatureSchema, learned: EncodedExamples) -> Score:
    model = _fit_logistic(schema, learned)
    # An infinity is encoded as the largest float32, which the scaling would carry beyond float32.
    return lambda x: model.predict_proba(x.astype(np.float64))[:, 1]


def _fit_logistic(schema: FeatureSchema, train: EncodedExamples) -> Pipeline:
    words = [i for i, feature in enumerate(schema.features) if feature.type is FeatureType.CATEGORY]
    numbers = [i for i in range(len(schema.features)) if i not in words]
    one_hot = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1, keep_empty_features=True),
        OneHotEncoder(handle_unknown="ignore", max_categories=_MAX_CATEGORIES),
    )
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    model = make_pipeline(
        make_column_transformer((one_hot, words), (scaled, numbers)), LogisticRegression(max_iter=_LOGISTIC_STEPS)
    )
    rows = _sample(train.y)
    with warnings.catch_warnings():
        # A baseline that stops a little short of the optimum is still a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(train.x[rows].astype(np.float64), train.y[rows])


def _sample(labels: np.ndarray) -> np.ndarray:
    """Return numbers of rows, evenly spaced within each label so that a rare label keeps its share."""
    step = max(len(labels) // _LOGISTIC_ROWS, 1)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[::step] for label in (0, 1)]))
