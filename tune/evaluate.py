"""How good scores are: ranking, decisions at a threshold, and whether probabilities mean what they say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tune.ranking import Interval, Ranking, bootstrap

_ECE_BINS = 10
_TINY = 1e-7


class Evaluation(NamedTuple):
    """Figures by name (auc, pr_auc, f1, precision, recall, log_loss, brier, ece) and intervals of the first three."""

    metrics: dict[str, float]
    intervals: dict[str, Interval]


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the best F1, half way to the next lower score so that rounding cannot flip a row."""
    ranking = Ranking(labels, scores)
    true, false = ranking.hits()
    f1 = 2 * true / (true[-1] + true + false)
    at = int(np.argmax(f1))
    below = ranking.scores[at + 1] if at + 1 < len(ranking.scores) else 0.0
    return float((float(ranking.scores[at]) + float(below)) / 2)


def metrics(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Every figure of probabilities `scores` (n,) against labels 0 and 1 (n,)."""
    ranking = Ranking(labels, scores)
    chosen = scores.astype(np.float64) >= threshold
    found = float((chosen & (labels == 1)).sum())
    clipped = np.clip(scores.astype(np.float64), _TINY, 1 - _TINY)
    return {
        "auc": ranking.auc(),
        "pr_auc": ranking.pr_auc(),
        "f1": ranking.f1(threshold),
        "precision": found / max(float(chosen.sum()), 1.0),
        "recall": found / max(float(labels.sum()), 1.0),
        "log_loss": float(-np.where(labels == 1, np.log(clipped), np.log1p(-clipped)).mean()),
        "brier": float(((clipped - labels) ** 2).mean()),
        "ece": expected_calibration_error(labels, scores),
    }


def evaluate(labels: np.ndarray, scores: np.ndarray, threshold: float, confidence: float = 0.95) -> Evaluation:
    """Figures with bootstrap intervals for the ranking ones and F1."""
    ranking = Ranking(labels, scores)
    statistics = {
        "auc": ranking.auc,
        "pr_auc": ranking.pr_auc,
        "f1": lambda counts: ranking.f1(threshold, counts),
    }
    intervals = {name: bootstrap(statistic, len(labels), confidence) for name, statistic in statistics.items()}
    return Evaluation(metrics(labels, scores, threshold), intervals)


def calibration(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, share of label 1 and number of rows in bins of equally many rows.

    Equal counts, not equal widths: with a rare label nearly every score lies in the lowest tenth.
    """
    bins = np.array_split(np.argsort(scores, kind="stable"), min(_ECE_BINS, len(scores)))
    columns = [(float(scores[rows].mean()), float(labels[rows].mean()), float(len(rows))) for rows in bins]
    mean, share, size = np.array(columns).T
    return mean, share, size


def expected_calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over rows of |mean score - share of label 1| in the row's bin (Naeini et al. 2015, equal-count bins)."""
    mean, share, size = calibration(labels, scores)
    return float((np.abs(mean - share) * size).sum() / size.sum())
