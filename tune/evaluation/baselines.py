"""Baselines that a model has to beat: the majority class, logistic regression, and XGBoost with its defaults."""

from __future__ import annotations

import warnings

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


def baselines(prepared: PreparedDataset, decision: Decision, nthread: int) -> dict[str, Scored]:
    """Train each baseline and score the holdout; returns probabilities and threshold by name of the baseline.

    The threshold is chosen on the validation rows by `decision`, as the model's is; `nthread` is for XGBoost.
    """
    share = float(prepared.train.y.mean())
    linear = _fit_logistic(prepared.schema, prepared.train)
    boosted = xgboost.train(
        base_params(Metric.AUC, nthread, 0), xgboost.DMatrix(prepared.train.x, prepared.train.y), _DEFAULT_ROUNDS
    )
    parts = prepared.validation, prepared.holdout
    return {
        MAJORITY: Scored(np.full(len(prepared.holdout.y), share, np.float32), 0.5),
        LOGISTIC: _scored(prepared, decision, *(_linear_scores(linear, part.x) for part in parts)),
        DEFAULTS: _scored(prepared, decision, *(boosted.inplace_predict(part.x) for part in parts)),
    }


def _scored(prepared: PreparedDataset, decision: Decision, validation: np.ndarray, holdout: np.ndarray) -> Scored:
    return Scored(holdout, best_threshold(prepared.validation.y, validation, decision))


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


def _linear_scores(model: Pipeline, x: np.ndarray) -> np.ndarray:
    # An infinity is encoded as the largest float32, which the scaling would carry beyond float32.
    return model.predict_proba(x.astype(np.float64))[:, 1]


def _sample(labels: np.ndarray) -> np.ndarray:
    """Return numbers of rows, evenly spaced within each label so that a rare label keeps its share."""
    step = max(len(labels) // _LOGISTIC_ROWS, 1)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[::step] for label in (0, 1)]))
