"""Figures of predicted numbers, of shape (n,) against numbers (n,), fast enough to bootstrap."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_TINY = 1e-9


class Loss(NamedTuple):
    """A loss of predicted numbers: a deviance, or the pinball loss of a quantile."""

    power: float | None
    """Variance power of a deviance (Jørgensen 1987): 0 squared errors, 1 Poisson, between 1 and 2 Tweedie; None for
    the pinball loss."""
    level: float = 0.5
    """The quantile; 0.5 is half of the absolute error."""

    def of(self, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return the loss of each row, float64 of shape (n,); `predicted` may be one number."""
        labels, predicted = np.asarray(labels, np.float64), np.asarray(predicted, np.float64)
        if self.power is None:
            error = labels - predicted
            return np.maximum(self.level * error, (self.level - 1) * error)
        if self.power == 0:
            return (labels - predicted) ** 2
        mean, power = np.maximum(predicted, _TINY), self.power
        if power == 1:
            return 2 * (np.where(labels > 0, labels * np.log(np.maximum(labels, _TINY) / mean), 0.0) - labels + mean)
        first = np.maximum(labels, 0.0) ** (2 - power) / ((1 - power) * (2 - power))
        return 2 * (first - labels * mean ** (1 - power) / (1 - power) + mean ** (2 - power) / (2 - power))

    def constant(self, labels: np.ndarray, counts: np.ndarray | None = None) -> float:
        """Return the number with the least loss: the mean, or the quantile."""
        weights = np.ones(len(labels)) if counts is None else counts
        if self.power is not None:
            return float(weights @ labels.astype(np.float64) / weights.sum())
        order = np.argsort(labels, kind="stable")
        reached = np.cumsum(weights[order])
        at = int(np.searchsorted(reached, self.level * reached[-1]))
        return float(labels[order[min(at, len(order) - 1)]])


class NumberFigures:
    """The figures of one set of predictions.

    The methods' `counts` say how often each row counts, shape (n,); None for once each.
    """

    def __init__(self, labels: np.ndarray, predicted: np.ndarray) -> None:
        self._labels, self._predicted = labels.astype(np.float64), predicted.astype(np.float64)
        self._errors = self._predicted - self._labels
        self._losses: dict[Loss, np.ndarray] = {}

    def explained(self, loss: Loss, counts: np.ndarray | None = None) -> float:
        """Return 1 - loss / loss of the best constant for these rows: R2 and scikit-learn's D2; NaN if all are equal.

        The constant is fitted to the same rows, so 0 is what a model reaches that knows their mean and nothing else.
        """
        weights = np.ones(len(self._labels)) if counts is None else counts
        if loss not in self._losses:
            self._losses[loss] = loss.of(self._labels, self._predicted)
        constant = loss.constant(self._labels, weights)
        least = float(weights @ loss.of(self._labels, np.array(constant)))
        return 1 - float(weights @ self._losses[loss]) / least if least > 0 else math.nan

    def errors(self, counts: np.ndarray) -> dict[str, float]:
        """Return `rmse`, `mae` and `bias`, the mean of prediction minus label, in the label's unit."""
        rows = counts.sum()
        return {
            "rmse": math.sqrt(float(counts @ self._errors**2 / rows)),
            "mae": float(counts @ np.abs(self._errors) / rows),
            "bias": float(counts @ self._errors / rows),
        }


def excess_of_chance(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return how many standard errors the rank correlation of predictions and labels lies above 0.

    Over all orders of the labels Spearman's coefficient has a standard deviation of 1 / sqrt(n - 1), ties or not
    (Hoeffding 1951). By ranks, a few huge labels decide nothing.
    """
    one, other = _ranks(labels), _ranks(predicted)
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float(one @ other) / spread * math.sqrt(len(labels) - 1) if spread > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values, ties by their mean, minus the mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks - ranks.mean()
