"""Figures of ordered lists: NDCG, average precision and reciprocal rank of each list, fast enough to bootstrap.

Items with the same score have every order among each other alike often: each figure is its mean over those orders, in
closed form (McSherry and Najork 2008), so that the order of the rows in a table decides nothing. The figures of equal
scores are thus those of a random order.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from scipy.special import gammaln

from data.schema.search import Metric

_ROUNDING = 1e-24
"""More than the variance of a list comes to by rounding where its scores, or its grades, are all the same."""


class ListFigures:
    """The figures of one set of scores; lists without a relevant item have none, and are left out of every mean.

    The methods' `counts` say how often each row counts, shape (n,): a list counts as often as its first row does, so
    resamples of whole lists are exact, and those of rows nearly so.

    Args:
        labels: grades of shape (n,), relevant above 0.
        scores: of shape (n,), the largest first.
        lists: the list of each row, whole numbers of shape (n,).
        at: how many items from the top count for NDCG and MAP.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, lists: np.ndarray, at: int) -> None:
        order = np.lexsort((-scores.astype(np.float64), lists))
        own, ordered = lists[order], scores[order]
        changed = own[1:] != own[:-1]
        starts = np.append(0, np.flatnonzero(changed) + 1)
        ties = np.append(0, np.flatnonzero(changed | (ordered[1:] != ordered[:-1])) + 1)
        self._at, self._starts, self._ties = at, starts, ties
        self.sizes = np.diff(starts, append=len(order))
        """Items of each list, in the order of the lists' numbers."""
        self._tied = np.diff(ties, append=len(order))
        self._place = np.arange(len(order)) - np.repeat(starts, self.sizes)
        self._first = order[starts]
        self._labels = labels[order].astype(np.float64)
        self._relevant = (self._labels > 0).astype(np.float64)
        self._hits = np.add.reduceat(self._relevant, starts)
        self.has_relevant = self._hits > 0
        """Whether a list has a relevant item, bool of shape (lists,)."""

    @cached_property
    def ndcg(self) -> np.ndarray:
        """NDCG of each list, float64 of shape (lists,): gains 2^grade - 1, discounts 1 / log2(1 + rank)."""
        gains, discounts = self._normal
        return np.add.reduceat(gains * discounts, self._starts)

    @cached_property
    def average_precision(self) -> np.ndarray:
        """Average precision of each list, over as many relevant items as there can be at the top."""
        tied, hits = self._of_ties(self._tied), self._of_ties(self._tied_hits)
        # In any order of its ties a place holds a relevant item in hits / tied of the orders, and then each place
        # before it, among the same ties, does in (hits - 1) / (tied - 1) of them.
        among = (self._place - self._tie_place) * (hits - 1) / np.maximum(tied - 1, 1)
        precision = (self._before + 1 + among) / (self._place + 1)
        counted = np.where((hits > 0) & (self._place < self._at), precision * hits / tied, 0.0)
        return np.add.reduceat(counted, self._starts) / np.clip(self._hits, 1, self._at)

    @cached_property
    def reciprocal_rank(self) -> np.ndarray:
        """One by the rank of the first relevant item of each list."""
        tied, hits = self._of_ties(self._tied), self._of_ties(self._tied_hits)
        later = tied - 1 - (self._place - self._tie_place)
        possible = (self._before == 0) & (hits > 0) & (later >= hits - 1)
        # The share of the orders in which it is the first: C(later, hits - 1) / C(tied, hits).
        rest = np.where(possible, later - (hits - 1), 0)
        chosen = gammaln(later + 1) - gammaln(np.maximum(hits, 1)) - gammaln(rest + 1)
        all_ways = gammaln(tied + 1) - gammaln(hits + 1) - gammaln(tied - hits + 1)
        share = np.where(possible, np.exp(chosen - all_ways), 0.0)
        return np.add.reduceat(share / (self._place + 1), self._starts)

    def value(self, metric: Metric, counts: np.ndarray | None = None) -> float:
        """Return NDCG or MAP: the mean over the lists; NaN where none has a relevant item."""
        return self._mean(self.ndcg if metric is Metric.NDCG else self.average_precision, counts)

    def all(self, counts: np.ndarray | None = None) -> dict[str, float]:
        """Return `ndcg`, `map` and `mrr`: means over the lists."""
        return {
            "ndcg": self._mean(self.ndcg, counts),
            "map": self._mean(self.average_precision, counts),
            "mrr": self._mean(self.reciprocal_rank, counts),
        }

    def excess_of_chance(self) -> float:
        """Return how many standard errors NDCG lies above its mean over all orders of the grades within each list.

        Of gains and discounts in a random order, the sum of the products has the mean n a b and the variance
        S_a S_b / (n - 1), with a and b their means and S the sums of squares around them (Wald and Wolfowitz 1944).
        Lists fall out independently of each other, so variances add up.
        """
        gains, discounts = self._normal
        mean_gain, mean_discount = self._list_mean(gains), self._list_mean(discounts)
        squares = [
            np.add.reduceat((values - np.repeat(mean, self.sizes)) ** 2, self._starts)
            for values, mean in ((gains, mean_gain), (discounts, mean_discount))
        ]
        variance = float((squares[0] * squares[1] / np.maximum(self.sizes - 1, 1)).sum())
        excess = float((self.ndcg - self.sizes * mean_gain * mean_discount).sum())
        return excess / math.sqrt(variance) if variance > _ROUNDING * len(self.sizes) else 0.0

    @cached_property
    def _normal(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each row, in order, the gain as a share of the list's best sum, and the mean discount of its ties."""
        gains, discounts = 2.0**self._labels - 1, np.where(self._place < self._at, 1 / np.log2(self._place + 2.0), 0.0)
        number = np.repeat(np.arange(len(self.sizes)), self.sizes)
        best = gains[np.lexsort((-gains, number))]
        ideal = np.add.reduceat(best * discounts, self._starts)
        shares = gains / np.repeat(np.where(ideal > 0, ideal, 1.0), self.sizes)
        return shares, self._of_ties(np.add.reduceat(discounts, self._ties) / self._tied)

    @cached_property
    def _tied_hits(self) -> np.ndarray:
        return np.add.reduceat(self._relevant, self._ties)

    @cached_property
    def _tie_place(self) -> np.ndarray:
        """Of each row the place at which its ties begin."""
        return self._of_ties(self._place[self._ties])

    @cached_property
    def _before(self) -> np.ndarray:
        """Of each row the relevant items of its list before its ties."""
        reached = np.append(0.0, np.cumsum(self._relevant))
        return self._of_ties(reached[self._ties]) - np.repeat(reached[self._starts], self.sizes)

    def _of_ties(self, values: np.ndarray) -> np.ndarray:
        return np.repeat(values, self._tied)

    def _list_mean(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, self._starts) / self.sizes

    def _mean(self, values: np.ndarray, counts: np.ndarray | None) -> float:
        weights = self.has_relevant.astype(np.float64)
        if counts is not None:
            weights = weights * counts[self._first]
        total = weights.sum()
        return float(weights @ values / total) if total > 0 else math.nan
