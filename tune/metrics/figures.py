"""Figures of a model's scores: ranking, decisions at a threshold, and calibration, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from data.schema.model_policy import Cost, Decision, ThresholdMetric
from data.schema.search import Metric
from tune.metrics.cluster_bootstrap import resampling_units
from tune.metrics.ranking import Interval, Ranking, resamples

_ECE_BINS = 10
_TINY = 1e-7
_TIMES, _MANY_ROWS, _TIMES_OF_MANY = 300, 200_000, 100
"""Bootstrap resamples: 300, but 100 of more than 200,000 rows, whose intervals are narrow anyway."""


class Evaluation(NamedTuple):
    """Figures by name, and the bootstrap intervals of those that have one."""

    metrics: dict[str, float]
    intervals: dict[str, Interval]


class Difference(NamedTuple):
    """A paired difference of two models' figures, with its bootstrap interval from the same resamples for both."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What can be said of the first model: "better", "worse" or "not told apart"."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not told apart"


def best_threshold(labels: np.ndarray, scores: np.ndarray, decision: Decision | None = None) -> float:
    """Return the threshold that is best by `decision` (default: F1).

    It lies half way between two scores, so that rounding cannot flip a row.
    """
    ranking = Ranking(labels, scores)
    true, false = (np.append(0.0, hits) for hits in ranking.hits())
    at = int(np.argmax(_gain(true, false, decision or Decision())))
    # Position 0 marks nothing, as a high cost of false positives may ask for: above the highest score.
    bounds = np.concatenate([[1.0], ranking.scores, [0.0]])
    return float((bounds[at] + bounds[at + 1]) / 2)


def _gain(true: np.ndarray, false: np.ndarray, decision: Decision) -> np.ndarray:
    """Return the quantity to maximize, for every distinct score taken as threshold."""
    ones, zeros = float(true[-1]), float(false[-1])
    if decision.cost is not None:
        return -(decision.cost.false_positive * false + decision.cost.false_negative * (ones - true))
    if decision.metric is ThresholdMetric.BALANCED_ACCURACY:
        return (true / max(ones, 1.0) + 1 - false / max(zeros, 1.0)) / 2
    return 2 * true / (ones + true + false)


def metrics(labels: np.ndarray, scores: np.ndarray, threshold: float, cost: Cost | None = None) -> dict[str, float]:
    """Return every figure by name, of probabilities `scores` (n,) against labels 0 and 1 (n,).

    auc, pr_auc, f1, precision, recall, log_loss, brier and ece; with a declared cost also `cost`, the mean per row.
    """
    ranking = Ranking(labels, scores)
    clipped = np.clip(scores.astype(np.float64), _TINY, 1 - _TINY)
    return {
        "auc": ranking.auc(),
        "pr_auc": ranking.pr_auc(),
        "f1": ranking.f1(threshold),
        **_decided(labels, scores, threshold, cost)(np.ones(len(labels))),
        "log_loss": float(-np.where(labels == 1, np.log(clipped), np.log1p(-clipped)).mean()),
        "brier": float(((clipped - labels) ** 2).mean()),
        "ece": expected_calibration_error(labels, scores),
    }


def _decided(
    labels: np.ndarray, scores: np.ndarray, threshold: float, cost: Cost | None
) -> Callable[[np.ndarray], dict[str, float]]:
    """Return a function from row counts (n,) to precision, recall and, when declared, the mean cost."""
    # In float64, as serving compares: numpy would round the threshold to the float32 of the scores.
    chosen = scores.astype(np.float64) >= threshold
    true_positives = chosen & (labels == 1)

    def figures(counts: np.ndarray) -> dict[str, float]:
        hits, marked, ones = float(counts[true_positives].sum()), float(counts[chosen].sum()), float(counts @ labels)
        named = {"precision": hits / max(marked, 1.0), "recall": hits / max(ones, 1.0)}
        if cost is not None:
            wrong = cost.false_positive * (marked - hits) + cost.false_negative * (ones - hits)
            named["cost"] = wrong / max(float(counts.sum()), 1.0)
        return named

    return figures


def resampled(
    labels: np.ndarray, scores: np.ndarray, threshold: float, cost: Cost | None = None
) -> Callable[[np.ndarray], dict[str, float]]:
    """Return the figures that have intervals, by name, as a function of how often each row counts, shape (n,).

    Arguments as for `metrics`.
    """
    ranking = Ranking(labels, scores)
    squares = (scores.astype(np.float64) - labels) ** 2
    decided = _decided(labels, scores, threshold, cost)

    def figures(counts: np.ndarray) -> dict[str, float]:
        return {
            "auc": ranking.auc(counts),
            "pr_auc": ranking.pr_auc(counts),
            "f1": ranking.f1(threshold, counts),
            **decided(counts),
            "brier": float(counts @ squares / counts.sum()),
        }

    return figures


def value(ranking: Ranking, metric: Metric, threshold: float, counts: np.ndarray | None = None) -> float:
    """Return the metric of a ranking, with F1 taken at the threshold; `counts` as for `Ranking`."""
    if metric is Metric.F1:
        return ranking.f1(threshold, counts)
    return ranking.auc(counts) if metric is Metric.AUC else ranking.pr_auc(counts)


def intervals(
    figures: Callable[[np.ndarray], Mapping[str, float]],
    count: int,
    confidence: float = 0.95,
    seed: int = 0,
    entities: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Return percentile bootstrap intervals of several figures at once, from the same resamples.

    Resamples for which a figure is NaN are left out of its interval.

    Args:
        figures: the figures by name, as a function of how often each row counts, shape (count,).
        count: number of rows.
        confidence: coverage of the intervals.
        seed: random seed of the resamples.
        entities: entity code of each row, shape (count,). With it entities are drawn with all their rows: rows of one
            are alike, and intervals that take them for independent are too narrow. When they are too few (see
            `resampling_units`), rows are drawn.
    """
    times = _TIMES if count <= _MANY_ROWS else _TIMES_OF_MANY
    drawn = [figures(counts) for counts in resamples(count, times, seed, resampling_units(entities))]
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = {}
    for name in drawn[0]:
        values = np.array([resampled[name] for resampled in drawn])
        values = values[~np.isnan(values)]
        low, high = np.quantile(values, ends) if len(values) else (np.nan, np.nan)
        bounds[name] = Interval(float(low), float(high))
    return bounds


def reliability(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean score, share of label 1 and row count of at most ten bins, ascending, each of shape (bins,).

    Bins have about equally many rows, not equal widths: with a rare label nearly every score lies in the lowest tenth.
    Rows with the same score are in one bin, so that their order decides nothing.
    """
    order = np.argsort(scores, kind="stable")
    ordered, ones = scores[order].astype(np.float64), labels[order].astype(np.float64)
    starts = _bin_starts(ordered)
    size = np.diff(starts, append=len(ordered)).astype(np.float64)
    return np.add.reduceat(ordered, starts) / size, np.add.reduceat(ones, starts) / size, size


def _bin_starts(ordered: np.ndarray) -> np.ndarray:
    """Return the first row of each bin of ascending scores: each tenth, moved to the nearer end of its run of ties."""
    rows = len(ordered)
    tenths = np.arange(1, _ECE_BINS) * rows // _ECE_BINS
    before, after = (np.searchsorted(ordered, ordered[tenths], side) for side in ("left", "right"))
    cuts = np.unique(np.where(tenths - before <= after - tenths, before, after))
    return np.append(0, cuts[(cuts > 0) & (cuts < rows)])


def expected_calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean over rows of |mean score - share of label 1| in the row's bin (Naeini et al. 2015)."""
    mean, share, size = reliability(labels, scores)
    return float((np.abs(mean - share) * size).sum() / size.sum())
