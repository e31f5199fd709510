"""Figures of three or more classes, of probabilities (n, classes) against codes (n,), fast enough to bootstrap."""

from __future__ import annotations

import math

import numpy as np

from data.schema.search import Metric
from tune.metrics.figures import expected_calibration_error
from tune.metrics.ranking import Ranking

_TINY = 1e-7


class ClassFigures:
    """The figures of one set of scores.

    The methods' `counts` say how often each row counts, shape (n,); None for once each.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self._labels, self._scores = labels.astype(np.int64), scores.astype(np.float64)
        self._classes = scores.shape[1]
        self._answers = scores.argmax(axis=1)
        self._right = self._answers == self._labels
        own = self._scores[np.arange(len(labels)), self._labels]
        self._losses = -np.log(np.clip(own, _TINY, 1.0))
        # Sum over classes of (p - y)^2, from 0 to 2 (Brier 1950).
        self._squares = (self._scores**2).sum(axis=1) - 2 * own + 1

    def value(self, metric: Metric, counts: np.ndarray | None = None) -> float:
        """Return one metric."""
        weights = np.ones(len(self._labels)) if counts is None else counts
        if metric is Metric.MACRO_F1:
            return self._macro_f1(weights)
        figure = self._right if metric is Metric.ACCURACY else -self._losses
        return float(weights @ figure / weights.sum())

    def resampled(self, counts: np.ndarray) -> dict[str, float]:
        """Return the figures that have intervals."""
        rows = counts.sum()
        loss = float(counts @ self._losses / rows)
        return {
            "accuracy": float(counts @ self._right / rows),
            "macro_f1": self._macro_f1(counts),
            "log_loss": loss,
            "neg_log_loss": -loss,
            "brier": float(counts @ self._squares / rows),
        }

    def all(self) -> dict[str, float]:
        """Return every figure; `ece` is of the probability of the class that is answered (Guo et al. 2017)."""
        return {
            **self.resampled(np.ones(len(self._labels))),
            "auc_ovr": self._mean_auc(),
            "ece": expected_calibration_error(self._right.astype(np.uint8), self._scores.max(axis=1)),
        }

    def _macro_f1(self, counts: np.ndarray) -> float:
        hits = np.bincount(self._labels, counts * self._right, self._classes)
        true = np.bincount(self._labels, counts, self._classes)
        answered = np.bincount(self._answers, counts, self._classes)
        present = (true + answered) > 0
        return float((2 * hits[present] / (true + answered)[present]).mean())

    def _mean_auc(self) -> float:
        """The mean AUC of each class against the rest, of classes that have rows on both sides."""
        aucs = [
            Ranking((self._labels == code).astype(np.uint8), self._scores[:, code]).auc()
            for code in range(self._classes)
        ]
        known = [auc for auc in aucs if not math.isnan(auc)]
        return float(np.mean(known)) if known else math.nan


def excess_of_chance(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return how many standard errors the sum of the labels' probabilities lies above that of shuffled labels.

    Its mean and variance over all orders of the labels are those of a linear permutation statistic (Hoeffding 1951):
    the sum of d(i, j)^2 / (n - 1), where d is the probability that row i has for the label of row j, centered by row
    and column.
    """
    rows, classes = scores.shape
    shares = np.bincount(labels, minlength=classes) / rows
    probabilities = scores.astype(np.float64)
    means = probabilities.mean(axis=0)
    found = probabilities[np.arange(rows), labels.astype(np.int64)].sum()
    # Of each row what it expects of a label drawn from all.
    centered = probabilities - (probabilities @ shares)[:, None] - means + means @ shares
    variance = float((centered**2 @ (shares * rows)).sum()) / (rows - 1)
    return float(found - rows * (means @ shares)) / math.sqrt(variance) if variance > 0 else 0.0
