"""Links: how a booster's margins become what its objective predicts, as XGBoost itself does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data.errors import BundleError
from tune.tasks.calibration_curves import log_odds_to_probability, softmax


class Link(NamedTuple):
    """One link. Margins are float of shape (n,), of several classes (n, classes)."""

    predicted: Callable[[np.ndarray], np.ndarray]
    """From margins to predictions, float64 of the same shape."""
    margin: Callable[[float], float]
    """From a base score, as a booster's file has it, to the margin before any tree."""
    operator: str
    """The ONNX operator; empty where the margin is the prediction."""


def _plain(margins: np.ndarray) -> np.ndarray:
    return margins.astype(np.float64)


def _exp(margins: np.ndarray) -> np.ndarray:
    return np.exp(margins.astype(np.float64))


def _logit(probability: float) -> float:
    # In float32, as XGBoost takes it.
    return float(-np.log(np.float32(1) / np.float32(probability) - np.float32(1)))


_LOGISTIC = Link(log_odds_to_probability, _logit, "Sigmoid")
_IDENTITY = Link(_plain, float, "")
_LOG = Link(_exp, math.log, "Exp")
_LINKS = {
    "binary:logistic": _LOGISTIC,
    "multi:softprob": Link(softmax, float, "Softmax"),
    "reg:squarederror": _IDENTITY,
    "reg:absoluteerror": _IDENTITY,
    "reg:quantileerror": _IDENTITY,
    "count:poisson": _LOG,
    "reg:tweedie": _LOG,
    "rank:ndcg": _IDENTITY,
}


def link_of(objective: str) -> Link:
    """Return the link of an XGBoost objective.

    Raises:
        BundleError: the objective is none that a model is exported of.
    """
    if objective not in _LINKS:
        raise BundleError(f"cannot export a booster of {objective}; known: {', '.join(_LINKS)}")
    return _LINKS[objective]
