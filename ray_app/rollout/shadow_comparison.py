"""Comparison of a shadow with its champion on the same rows: counts of one gateway, which add up, and a verdict."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ray_app.rollout.slo_judge import distance, percent
from ray_app.rollout.version_stats import LATENCY_EDGES_S, SCORE_EDGES, quantile_ms

SHADOWS = "shadows"
"""Name under which gateways report their comparisons."""

_SAMPLE = 500
_ENOUGH_ROWS = 1000
_SHIFT, _LARGE_SHIFT = 0.1, 0.25
"""Below the first a population stability index counts as stable, above the second as another population.

Siddiqi, Credit Risk Scorecards, 2006.
"""


class ScorePair(NamedTuple):
    """Both scores of one row, with a random key: the largest keys are a uniform sample, also over several gateways."""

    key: float
    champion: float
    shadow: float


class ShadowVerdict(NamedTuple):
    """Figures and text about a shadow. `ranks` is Spearman's correlation of the scores, NaN where it is undefined."""

    version: str
    against: str
    rows: int
    psi: float
    ks: float
    ranks: float
    changed: float
    """Share of the rows whose label differs."""
    text: str

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON, with null for a NaN."""
        return {**self._asdict(), "ranks": self.ranks if math.isfinite(self.ranks) else None}


def _counts(edges: np.ndarray) -> np.ndarray:
    return np.zeros(len(edges) + 1, np.int64)


@dataclass(eq=False)
class ShadowComparison:
    """Cumulative counts of one shadow against one champion.

    `dropped` rows found the queue full, `failed` ones got no score; `raised` are labelled 1 by the shadow alone,
    `lowered` by the champion alone. Latencies: of the champion's requests, and of the shadow's scoring.
    """

    against: str
    dropped: int = 0
    failed: int = 0
    raised: int = 0
    lowered: int = 0
    champion_scores: np.ndarray = field(default_factory=lambda: _counts(SCORE_EDGES))
    shadow_scores: np.ndarray = field(default_factory=lambda: _counts(SCORE_EDGES))
    champion_latencies: np.ndarray = field(default_factory=lambda: _counts(LATENCY_EDGES_S))
    shadow_latencies: np.ndarray = field(default_factory=lambda: _counts(LATENCY_EDGES_S))
    sample: list[ScorePair] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of rows that both scored."""
        return int(self.shadow_scores.sum())

    def add(self, scores: tuple[float, float], labels: tuple[int, int], latencies_s: tuple[float, float]) -> None:
        """Count one row; each pair has the champion's value, then the shadow's."""
        for score, latency_s, histogram, latencies in zip(
            scores,
            latencies_s,
            (self.champion_scores, self.shadow_scores),
            (self.champion_latencies, self.shadow_latencies),
            strict=True,
        ):
            histogram[np.searchsorted(SCORE_EDGES, score)] += 1
            latencies[np.searchsorted(LATENCY_EDGES_S, latency_s)] += 1
        self.raised += labels[1] > labels[0]
        self.lowered += labels[1] < labels[0]
        # Keeps the pairs with the largest keys; `sample[0]` is the heap's smallest.
        pair = ScorePair(-random.random(), *scores)
        if len(self.sample) < _SAMPLE:
            heapq.heappush(self.sample, pair)
        elif pair > self.sample[0]:
            heapq.heapreplace(self.sample, pair)

    def __add__(self, other: ShadowComparison) -> ShadowComparison:
        return ShadowComparison(
            self.against,
            self.dropped + other.dropped,
            self.failed + other.failed,
            self.raised + other.raised,
            self.lowered + other.lowered,
            self.champion_scores + other.champion_scores,
            self.shadow_scores + other.shadow_scores,
            self.champion_latencies + other.champion_latencies,
            self.shadow_latencies + other.shadow_latencies,
            heapq.nlargest(_SAMPLE, [*self.sample, *other.sample]),
        )

    def verdict(self, version: str) -> ShadowVerdict:
        """Return the verdict on the shadow, in figures and in words."""
        psi, ks = (
            stability(self.champion_scores, self.shadow_scores),
            distance(self.champion_scores, self.shadow_scores),
        )
        ranks = rank_agreement([pair.champion for pair in self.sample], [pair.shadow for pair in self.sample])
        changed = (self.raised + self.lowered) / self.rows if self.rows else 0.0
        text = self._text(version, psi, ks, ranks)
        return ShadowVerdict(version, self.against, self.rows, psi, ks, ranks, changed, text)

    def _text(self, version: str, psi: float, ks: float, ranks: float) -> str:
        beside = f"version {version} beside champion {self.against}"
        lost = f"{self.dropped:,} rows were dropped under load, {self.failed:,} failed"
        if not self.rows:
            return f"{beside}: no row was compared yet; {lost}"
        alike = "alike" if psi < _SHIFT else "somewhat shifted" if psi < _LARGE_SHIFT else "of another distribution"
        few = "" if self.rows >= _ENOUGH_ROWS else f" (fewer than {_ENOUGH_ROWS:,} rows: not much is known yet)"
        times = ", ".join(
            f"{share:.0%} within {quantile_ms(self.champion_latencies, share):g} ms, the shadow "
            f"{quantile_ms(self.shadow_latencies, share):g} ms"
            for share in (0.5, 0.99)
        )
        return (
            f"{beside}, {self.rows:,} rows compared{few}: scores are {alike} (PSI {psi:.3f}, KS {ks:.3f}), ranks agree "
            f"by {ranks:.3f}, decisions changed for {percent(self.raised + self.lowered, self.rows)}, "
            f"{self.raised:,} to 1 and {self.lowered:,} to 0; champion's requests {times}; {lost}"
        )


def stability(one: np.ndarray, other: np.ndarray) -> float:
    """Population stability index of two histograms: sum (p - q) ln(p / q), with half a row added to each bin."""
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (one, other))
    return float(((p - q) * np.log(p / q)).sum())


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN for fewer than two rows, or where all are equal."""
    if len(one) < 2 or len(set(one)) < 2 or len(set(other)) < 2:
        return float("nan")
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def summed(reports: Iterable[Mapping[str, ShadowComparison]], champion: str) -> dict[str, ShadowComparison]:
    """Sum the gateways' comparisons with this champion, by shadow version."""
    total: dict[str, ShadowComparison] = {}
    for report in reports:
        for version, each in report.items():
            if each.against == champion:
                total[version] = total[version] + each if version in total else each
    return total


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
