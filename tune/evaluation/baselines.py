"""Baselines that a model has to beat: the same answer for every row, a linear model, and XGBoost with its defaults.

They are fair: they learn from all rows that the measured model learns from, and XGBoost has native categories.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from data.schema.features.feature import FeatureType
from data.schema.features.feature_schema import FeatureSchema
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset
from tune.tasks.learning_task import LearningTask, Scored
from tune.training.boosting import base_params
from tune.training.listed_rows import listed

DEFAULTS = "XGBoost defaults"

_LINEAR_ROWS = 50_000
"""Most rows for the linear model, which more rows would make slower and no better."""
_MAX_CATEGORIES = 50
_DEFAULT_ROUNDS = 100

Score = Callable[[np.ndarray], np.ndarray]
"""From encoded rows, float32 of shape (n, k), to scores, float32 of shape (n, width)."""
Fit = Callable[[EncodedExamples], Score]
"""From the rows to learn from to what scores others."""


def baselines(prepared: PreparedDataset, learning: LearningTask[Any], nthread: int) -> dict[str, Scored]:
    """Train each baseline and score the holdout; returns its scores by name of the baseline.

    What reads the scores, such as a threshold, is fitted on the rows of the last fold, scored by a fit that did not
    learn from them; `nthread` is for XGBoost.
    """
    fits: dict[str, Fit] = {
        learning.linear: lambda learned: _linear_scores(prepared.schema, learning, learned),
        DEFAULTS: lambda learned: _default_scores(prepared.feature_types, learning, learned, nthread),
    }
    constant = learning.constant_scores(prepared.development.y, prepared.holdout.rows)
    found = {learning.constant: constant, **{name: _scored(prepared, learning, fit) for name, fit in fits.items()}}
    return {name: each._replace(lists=prepared.holdout.lists) for name, each in found.items()}


def _scored(prepared: PreparedDataset, learning: LearningTask[Any], fit: Fit) -> Scored:
    development, last = prepared.development, prepared.folds.rows(prepared.folds.count - 1)
    judged = development.take(last.judged)
    output = learning.output_of(judged.y, fit(development.take(last.learned))(judged.x))
    return Scored(fit(development)(prepared.holdout.x), output)


def _default_scores(types: list[str], learning: LearningTask[Any], learned: EncodedExamples, nthread: int) -> Score:
    matrix = xgboost.QuantileDMatrix(**listed(learned), feature_types=types, enable_categorical=True)
    booster = xgboost.train(base_params(learning, nthread, 0), matrix, _DEFAULT_ROUNDS)

    def scores(x: np.ndarray) -> np.ndarray:
        margins = booster.predict(xgboost.DMatrix(x, feature_types=types, enable_categorical=True), output_margin=True)
        return learning.scores_of(margins)

    return scores


def _linear_scores(schema: FeatureSchema, learning: LearningTask[Any], learned: EncodedExamples) -> Score:
    model = _fit_linear(schema, learning, learned)
    # An infinity is encoded as the largest float32, which the scaling would carry beyond float32.
    return lambda x: learning.linear_scores(model, x.astype(np.float64))


def _fit_linear(schema: FeatureSchema, learning: LearningTask[Any], train: EncodedExamples) -> Pipeline:
    words = [i for i, feature in enumerate(schema.features) if feature.type is FeatureType.CATEGORY]
    numbers = [i for i in range(len(schema.features)) if i not in words]
    one_hot = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1, keep_empty_features=True),
        OneHotEncoder(handle_unknown="ignore", max_categories=_MAX_CATEGORIES),
    )
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    model = make_pipeline(make_column_transformer((one_hot, words), (scaled, numbers)), learning.linear_model())
    rows = _sample(train.y, learning.task.strata)
    with warnings.catch_warnings():
        # A baseline that stops a little short of the optimum is still a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(train.x[rows].astype(np.float64), train.y[rows])


def _sample(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return numbers of rows, evenly spaced within each class so that a rare one keeps its share."""
    step = max(len(labels) // _LINEAR_ROWS, 1)
    if classes == 1:
        return np.arange(0, len(labels), step)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[::step] for label in range(classes)]))
