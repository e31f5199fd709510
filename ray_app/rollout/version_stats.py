"""Statistics of each version in a gateway: requests, failures, latencies, scores. They add up over gateways.

An answer costs one append; requests are sorted into the histograms a few hundred at a time.

Versions are compared by the output of the champion: it says what the score of an answer is, the edges of the histograms
and which labels are marked. Each version decides by its own threshold, but its edges may be others, as quantiles of
numbers are, and histograms by different edges do not compare. When a champion with another such measure comes into
force, a gateway begins to count anew, as one that restarts does; a rollout ends then anyhow, since it was held against
the former champion.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from data.schema.output import Output
from data.schema.outputs.base_output import SCORE_EDGES
from ray_app.inference.observers import Answered, Failed

VERSION_STATS = "version_stats"
"""Name under which gateways report these statistics."""

LATENCY_EDGES_S = np.array([m / 10**k for k in (5, 4, 3, 2, 1) for m in range(10, 100)])
"""Upper edges of the latency histogram: every number of two digits from 0.1 ms to 9.9 s, so that a limit is an edge."""

_BATCH_REQUESTS = 256
_MOST_VERSIONS = 20
_ENTITIES_REMEMBERED = 25_000
"""Of a version, in each of two generations: about 5 MB where a version has answered for so many."""


def no_latencies() -> np.ndarray:
    """An empty latency histogram, by LATENCY_EDGES_S and one more."""
    return np.zeros(len(LATENCY_EDGES_S) + 1, np.int64)


def no_scores() -> np.ndarray:
    """An empty score histogram, by the edges of any output and one more."""
    return np.zeros(SCORE_EDGES + 1, np.int64)


@dataclass(eq=False)
class VersionStats:
    """Cumulative counts of one version.

    Args:
        answered: requests of which it answered rows.
        errors: requests of which rows failed with status 500 and above.
        refused: requests of which rows were refused (any other status).
        latencies: of the answered requests, by LATENCY_EDGES_S and one more for those above.
        scores: by the edges of the champion's output and one more; one answer an entity, so that one which asks often
            counts no more. With more than 25,000 entities, one that is not heard of while so many others are may count
            again.
        marked: of these, how many were marked (`Output.marked`).
        rows: rows that it was to answer, whatever their outcome.
        refused_rows: of these, those that were refused.
        seconds: sum of the latencies.
        marks: what it means to be marked (`Output.marks`), no count; empty where no row ever is, or nothing was scored.
    """

    answered: int = 0
    errors: int = 0
    refused: int = 0
    latencies: np.ndarray = field(default_factory=no_latencies)
    scores: np.ndarray = field(default_factory=no_scores)
    marked: int = 0
    rows: int = 0
    refused_rows: int = 0
    seconds: float = 0.0
    marks: str = ""

    @property
    def requests(self) -> int:
        """All requests, whatever their outcome; one with refused and answered rows counts twice."""
        return self.answered + self.errors + self.refused

    @property
    def tried(self) -> int:
        """Requests that were not refused: each was answered, or failed."""
        return self.answered + self.errors

    @property
    def scored(self) -> int:
        """Answers in the score histogram."""
        return int(self.scores.sum())

    def slower_than(self, limit_s: float) -> int:
        """Answered requests that took longer than a limit of two digits; see LATENCY_EDGES_S."""
        return int(self.latencies[bisect_left(LATENCY_EDGES_S, limit_s) + 1 :].sum())

    def plain(self) -> dict[str, Any]:
        """As plain JSON, with quantiles in place of the latency histogram."""
        return {
            "answered": self.answered,
            "errors": self.errors,
            "refused": self.refused,
            "p50_ms": quantile_ms(self.latencies, 0.5),
            "p99_ms": quantile_ms(self.latencies, 0.99),
        }

    def __add__(self, other: VersionStats) -> VersionStats:
        return VersionStats(*(one + more for one, more in self._pairs(other)), marks=self.marks or other.marks)

    def since(self, before: VersionStats) -> VersionStats:
        """The counts since `before`; all of them where one is lower than before, because the gateway restarted."""
        if any(np.any(now < then) for now, then in self._pairs(before)):
            return self
        return VersionStats(*(now - then for now, then in self._pairs(before)), marks=self.marks)

    def _pairs(self, other: VersionStats) -> list[tuple[Any, Any]]:
        return [(getattr(self, name), getattr(other, name)) for name in _COUNTS]


_COUNTS = tuple(each.name for each in fields(VersionStats) if each.name != "marks")


def quantile_ms(latencies: np.ndarray, share: float) -> float | None:
    """Latency in ms within which this share of the requests was answered, to two digits; None without requests."""
    if not latencies.any():
        return None
    at = int(np.searchsorted(np.cumsum(latencies), share * latencies.sum()))
    return round(float(LATENCY_EDGES_S[min(at, len(LATENCY_EDGES_S) - 1)]) * 1000, 3)


def merged(reports: Iterable[Mapping[str, VersionStats]]) -> dict[str, VersionStats]:
    """The sum of several gateways' statistics, by version."""
    total: dict[str, VersionStats] = {}
    for report in reports:
        for version, stats in report.items():
            total[version] = total[version] + stats if version in total else stats
    return total


class _EntityScores:
    """The statistics of one version, and the entities whose scores are in them, so that each counts once.

    They are forgotten in two generations: an entity counts again only after `_ENTITIES_REMEMBERED` others at least,
    and twice as many are kept at most. To forget all of them at once would let a card that pays every minute count
    again just after it was counted. Kept are 64-bit hashes: two entities that share one are one in 10^10 at this size,
    and an entity may be text of any length.
    """

    __slots__ = ("newer", "older", "stats")

    def __init__(self) -> None:
        self.stats = VersionStats()
        self.newer: set[int] = set()
        self.older: set[int] = set()

    def add(self, rows: Sequence[Answered], latencies: Sequence[float], output: Output) -> None:
        fresh = [row for row in rows if self._fresh(row.prediction.row.entity)]
        stats = self.stats
        stats.answered += len(latencies)
        stats.rows += len(rows)
        stats.latencies += _counted(LATENCY_EDGES_S, latencies)
        stats.seconds += sum(latencies)
        stats.scores += _counted(output.edges, [output.score(row.prediction.scores) for row in fresh])
        stats.marked += sum(output.marked(row.code) for row in fresh)
        stats.marks = output.marks

    def _fresh(self, entity: str | None) -> bool:
        if entity is None:
            return True
        key = hash(entity)
        known = key in self.newer or key in self.older
        if key not in self.newer:
            # Also when it is in the older set: an entity that keeps asking stays known.
            if len(self.newer) >= _ENTITIES_REMEMBERED:
                self.older, self.newer = self.newer, set()
            self.newer.add(key)
        return not known


class VersionStatsTable:
    """The statistics of one gateway by version: an `Observer`. The 20 versions seen last are kept.

    Requests that name a version are left out: they are not split by the rules, so versions would not compare.

    Args:
        champion: returns the output of the champion in force.
    """

    def __init__(self, champion: Callable[[], Output]) -> None:
        self._champion = champion
        self._output = champion()
        self._by_version: dict[str, _EntityScores] = {}
        self._requests: list[Sequence[Answered]] = []

    def answered(self, rows: Sequence[Answered]) -> None:
        """Count the rows of one request."""
        if rows[0].named:
            return
        self._requests.append(rows)
        if len(self._requests) >= _BATCH_REQUESTS:
            self._flush()

    def failed(self, failure: Failed) -> None:
        """Count a request of which rows failed."""
        if failure.named:
            return
        stats = self._scores_of(failure.version).stats
        stats.rows += failure.rows
        if failure.status >= 500:
            stats.errors += 1
        else:
            stats.refused += 1
            stats.refused_rows += failure.rows

    def report(self) -> dict[str, VersionStats]:
        """The counts so far, as copies."""
        self._flush()
        return {version: scores.stats + VersionStats() for version, scores in self._by_version.items()}

    def _flush(self) -> None:
        self._follow(self._champion())
        requests, self._requests = self._requests, []
        rows: dict[str, list[Answered]] = {}
        latencies: dict[str, list[float]] = {}
        for request in requests:
            for row in request:
                rows.setdefault(row.version, []).append(row)
            for version in {row.version for row in request} if len(request) > 1 else (request[0].version,):
                latencies.setdefault(version, []).append(request[0].latency_s)
        for version, answered in rows.items():
            self._scores_of(version).add(answered, latencies[version], self._output)

    def _follow(self, output: Output) -> None:
        """Count by the output of the champion in force; anew, where it measures otherwise than the one before."""
        if (output.edges, output.marks) != (self._output.edges, self._output.marks):
            self._by_version.clear()
        self._output = output

    def _scores_of(self, version: str) -> _EntityScores:
        scores = self._by_version.pop(version, None) or _EntityScores()
        while len(self._by_version) >= _MOST_VERSIONS:
            del self._by_version[next(iter(self._by_version))]
        # Inserted again as the last: the first of the dict is the version that was not seen for longest.
        self._by_version[version] = scores
        return scores


def _counted(edges: Sequence[float] | np.ndarray, values: Sequence[float]) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
