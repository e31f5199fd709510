"""Ranking metrics (AUC, average precision, F1) of one set of scores, fast enough to bootstrap.

Rows are sorted once; a bootstrap resample is then only a vector of how often each row was drawn, and
AUC and average precision follow from cumulative sums in O(n), ties counted as scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A two-sided percentile bootstrap interval."""

    low: float
    high: float


class Ranking:
    """Labels (0 and 1) sorted by descending score.

    The methods' `counts` say how often each row counts, shape (n,), in input order; None for once each.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        # In float64, as serving compares: numpy would round a threshold to the float32 of the scores.
        scores = scores.astype(np.float64)
        self._order = np.argsort(-scores, kind="stable")
        self._labels = labels[self._order].astype(np.float64)
        ordered = scores[self._order]
        self.scores = ordered[_ends(ordered)]
        """The distinct scores, descending."""
        self._ends = _ends(ordered)

    def hits(self, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return true and false positives at each distinct score taken as threshold, descending."""
        weights = np.ones(len(self._labels)) if counts is None else counts[self._order]
        true = np.cumsum(weights * self._labels)[self._ends]
        return true, np.cumsum(weights)[self._ends] - true

    def auc(self, counts: np.ndarray | None = None) -> float:
        """Return the area under the ROC curve, NaN without both labels."""
        true, false = self.hits(counts)
        if true[-1] == 0 or false[-1] == 0:
            return float("nan")
        widths = np.diff(false, prepend=0.0)
        heights = true - np.diff(true, prepend=0.0) / 2
        return float((widths * heights).sum() / (true[-1] * false[-1]))

    def pr_auc(self, counts: np.ndarray | None = None) -> float:
        """Return the average precision (scikit-learn's definition), NaN without label 1."""
        true, false = self.hits(counts)
        if true[-1] == 0:
            return float("nan")
        precision = true / np.maximum(true + false, 1e-300)
        return float((np.diff(true, prepend=0.0) * precision).sum() / true[-1])

    def f1(self, threshold: float, counts: np.ndarray | None = None) -> float:
        """Return F1 of the rule score >= threshold, 0 when it has no true positive."""
        true, false = self.hits(counts)
        at = int(np.searchsorted(-self.scores, -threshold, "right")) - 1
        hits, wrong = (float(true[at]), float(false[at])) if at >= 0 else (0.0, 0.0)
        return 2 * hits / max(float(true[-1]) + hits + wrong, 1e-300)

    def best_f1(self) -> float:
        """Return the best F1 of any threshold; no threshold separates rows with the same score."""
        true, false = self.hits()
        return float((2 * true / np.maximum(true[-1] + true + false, 1e-300)).max())


def _ends(ordered: np.ndarray) -> np.ndarray:
    return np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def resamples(count: int, times: int, seed: int, units: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield bootstrap resamples of `count` rows, each as how often every row was drawn, shape (count,).

    Args:
        count: number of rows.
        times: number of resamples.
        seed: random seed.
        units: unit of each row, numbered from 0, shape (count,): all rows of a unit are drawn together (the cluster
            bootstrap, Davison and Hinkley 1997, section 3.8). None draws each row by itself.
    """
    rng = np.random.default_rng(seed)
    size = count if units is None else int(units.max()) + 1
    for _ in range(times):
        drawn = np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
        yield drawn if units is None else drawn[units]
