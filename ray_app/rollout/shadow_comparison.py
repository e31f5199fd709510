"""Comparison of a shadow with its champion on the same rows: counts of one gateway, which add up, and a verdict."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from data.schema.output import Output
from ray_app.rollout.slo_judge import distance, percent
from ray_app.rollout.version_stats import LATENCY_EDGES_S, no_latencies, no_scores, quantile_ms

SHADOWS = "shadows"
"""Name under which gateways report their comparisons."""

_SAMPLE = 500
_ENOUGH_ROWS = 1000
_SHIFT, _LARGE_SHIFT = 0.1, 0.25
"""Below the first a population stability index counts as stable, above the second as another population.

Siddiqi, Credit Risk Scorecards, 2006.
"""


class ScoredRow(NamedTuple):
    """What one version made of a row: the model's numbers, the code of the label, None without one, and its time."""

    scores: Sequence[float]
    code: int | None
    latency_s: float


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
    changed: float | None
    """Share of the rows whose label differs; None where no labels are answered, and before the first row."""
    text: str

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON, with null for a NaN."""
        return {**self._asdict(), "ranks": self.ranks if math.isfinite(self.ranks) else None}


@dataclass(eq=False)
class ShadowComparison:
    """Cumulative counts of one shadow against one champion, by whose output both are measured.

    `dropped` rows found the queue full, `failed` ones got no score; `changed` have another label by the shadow,
    `raised` of them are marked by the shadow alone and `lowered` by the champion alone. `marks` says what that means;
    it is empty where no labels are answered. Latencies: of the champion's requests, and of the shadow's scoring.
    """

    against: str
    dropped: int = 0
    failed: int = 0
    changed: int = 0
    raised: int = 0
    lowered: int = 0
    champion_scores: np.ndarray = field(default_factory=no_scores)
    shadow_scores: np.ndarray = field(default_factory=no_scores)
    champion_latencies: np.ndarray = field(default_factory=no_latencies)
    shadow_latencies: np.ndarray = field(default_factory=no_latencies)
    sample: list[ScorePair] = field(default_factory=list)
    marks: str = ""

    @property
    def rows(self) -> int:
        """Number of rows that both scored."""
        return int(self.shadow_scores.sum())

    def add(self, output: Output, champion: ScoredRow, shadow: ScoredRow) -> None:
        """Count one row that both scored; `output` is the champion's."""
        scores = output.score(champion.scores), output.score(shadow.scores)
        latencies_s = champion.latency_s, shadow.latency_s
        for score, latency_s, histogram, latencies in zip(
            scores,
            latencies_s,
            (self.champion_scores, self.shadow_scores),
            (self.champion_latencies, self.shadow_latencies),
            strict=True,
        ):
            histogram[np.searchsorted(output.edges, score)] += 1
            latencies[np.searchsorted(LATENCY_EDGES_S, latency_s)] += 1
        marked = output.marked(champion.code), output.marked(shadow.code)
        self.changed += champion.code != shadow.code
        self.raised += marked[1] > marked[0]
        self.lowered += marked[1] < marked[0]
        self.marks = output.marks
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
            self.changed + other.changed,
            self.raised + other.raised,
            self.lowered + other.lowered,
            self.champion_scores + other.champion_scores,
            self.shadow_scores + other.shadow_scores,
            self.champion_latencies + other.champion_latencies,
            self.shadow_latencies + other.shadow_latencies,
            heapq.nlargest(_SAMPLE, [*self.sample, *other.sample]),
            self.marks or other.marks,
        )

    def verdict(self, version: str) -> ShadowVerdict:
        """Return the verdict on the shadow, in figures and in words."""
        psi, ks = (
            stability(self.champion_scores, self.shadow_scores),
            distance(self.champion_scores, self.shadow_scores),
        )
        ranks = rank_agreement([pair.champion for pair in self.sample], [pair.shadow for pair in self.sample])
        changed = self.changed / self.rows if self.marks else None
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
        apart = f"{self.raised:,} {self.marks} by the shadow alone and {self.lowered:,} by the champion alone"
        decisions = f"decisions changed for {percent(self.changed, self.rows)}, {apart}; " if self.marks else ""
        return (
            f"{beside}, {self.rows:,} rows compared{few}: scores are {alike} (PSI {psi:.3f}, KS {ks:.3f}), ranks agree "
            f"by {ranks:.3f}; {decisions}champion's requests {times}; {lost}"
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
