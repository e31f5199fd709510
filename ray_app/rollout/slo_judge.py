"""Judges whether a version does worse than the champion at the same time, with one finding for each objective.

A share may be above its limit where the champion's is too: errors and slow answers are tested against the limit and
against the champion, and both tests must reject. Scores and decisions are compared with the champion alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ray_app.rollout.sequential_test import Boundary, SequentialTest, log_mean
from ray_app.rollout.version_stats import VersionStats
from tune.registry.rollout_spec import Slo

_REFUSED_MARGIN = 0.01
"""A version may refuse this much more of its rows than the champion, as a share."""
_OBJECTIVES = 5
"""Alpha is divided by it (Bonferroni), so that it holds for all objectives together."""


class SloFinding(NamedTuple):
    """The state of one objective: its figures in words, and the evidence against the version.

    `evidence` is from 0, none, to 1: the version is rejected at the objective's share of alpha.
    """

    name: str
    text: str
    evidence: float


class SloJudge:
    """Gathers evidence block by block; reading it often does not weaken it.

    Args:
        slo: the objectives.
        alpha: most probability that a version which keeps to all of them is ever rejected.
        alone: the champion has no traffic any more, so only the limits are tested.
    """

    def __init__(self, slo: Slo, alpha: float, alone: bool) -> None:
        self._slo = slo
        self._log_needed = math.log(_OBJECTIVES / alpha)
        self._alone = alone
        slow = 1 - slo.percentile / 100
        self._errors = SequentialTest(Boundary(slo.errors, 0)), SequentialTest(Boundary(0, 1))
        self._slow = SequentialTest(Boundary(slow, 0)), SequentialTest(Boundary(0, 1))
        self._refused = SequentialTest(Boundary(_REFUSED_MARGIN, 1))
        width = len(VersionStats().scores) - 1
        drift = Boundary(slo.drift or 0.0, 1)
        self._above, self._below = SequentialTest(drift, width), SequentialTest(drift, width)
        ratio = Boundary(0, slo.decisions or 1.0)
        self._more, self._fewer = SequentialTest(ratio), SequentialTest(ratio)
        self.champion = VersionStats()
        """The champion's statistics so far; `version` likewise."""
        self.version = VersionStats()

    def update(self, champion: VersionStats, version: VersionStats) -> None:
        """Add a block: both versions' statistics of one period, whose end must not depend on what they are."""
        self.champion, self.version = self.champion + champion, self.version + version
        _update_both(self._errors, _errors(version), _errors(champion))
        if self._slo.latency_s is not None:
            _update_both(self._slow, self._late(version), self._late(champion))
        self._refused.update(*_pair(_refused(version), _refused(champion)))
        self._see_scores(champion, version)

    def findings(self) -> list[SloFinding]:
        """Return a finding for each objective that the rollout judges."""
        return list(self._found())

    def _see_scores(self, champion: VersionStats, version: VersionStats) -> None:
        if not version.scored or not champion.scored:
            return
        below1, below0 = (np.cumsum(each.scores)[:-1] for each in (version, champion))
        n1, n0 = (np.full(len(below1), each.scored) for each in (version, champion))
        self._below.update(below1, n1, below0, n0)
        self._above.update(n1 - below1, n1, n0 - below0, n0)
        one, other = (version.marked, version.scored), (champion.marked, champion.scored)
        self._more.update(*_pair(one, other))
        self._fewer.update(*_pair(other, one))

    def _found(self) -> Iterator[SloFinding]:
        slo, one, other = self._slo, self.version, self.champion
        yield self._finding("errors", self._shares(_errors(one), _errors(other), slo.errors), self._both(self._errors))
        if slo.latency_s is not None:
            text = f"over {slo.latency_s * 1000:g} ms: "
            limit = 1 - slo.percentile / 100
            late = self._late(one), self._late(other)
            yield self._finding("latency", text + self._shares(*late, limit), self._both(self._slow))
        if self._alone:
            return
        text = self._shares(_refused(one), _refused(other), None)
        yield self._finding("refused", text, float(self._refused.log_e[0]))
        if slo.drift is not None:
            apart = f"KS distance {distance(one.scores, other.scores):.3f} from the champion's"
            text = f"{apart}, {one.scored:,} and {other.scored:,} rows"
            logs = np.concatenate([self._above.log_e, self._below.log_e])
            yield self._finding("score drift", f"{text}, limit {slo.drift:g}", log_mean(logs))
        marks = one.marks or other.marks
        if slo.decisions is not None and marks:
            text = self._shares((one.marked, one.scored), (other.marked, other.scored), None)
            logs = np.concatenate([self._more.log_e, self._fewer.log_e])
            yield self._finding("decisions", f"{marks}: {text}, limit {slo.decisions:g}x", log_mean(logs))

    def _finding(self, name: str, text: str, log_e: float) -> SloFinding:
        return SloFinding(name, text, min(max(log_e / self._log_needed, 0.0), 1.0))

    def _both(self, pair: tuple[SequentialTest, SequentialTest]) -> float:
        limit, compared = (float(each.log_e[0]) for each in pair)
        return limit if self._alone else min(limit, compared)

    def _late(self, stats: VersionStats) -> tuple[int, int]:
        return stats.slower_than(self._slo.latency_s or math.inf), stats.answered

    def _shares(self, one: tuple[int, int], other: tuple[int, int], limit: float | None) -> str:
        text = percent(*one)
        if not self._alone:
            text += f" against the champion's {percent(*other)}"
        return text if limit is None else f"{text}, limit {limit * 100:.3g} %"


def percent(count: int, of: int) -> str:
    """Format a share in percent, with its numbers."""
    return f"{100 * count / of:.3g} % ({count:,} of {of:,})" if of else "nothing (0 of 0)"


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two histograms: the largest difference of their cumulative shares at an edge."""
    if not one.sum() or not other.sum():
        return 0.0
    return float(np.abs(np.cumsum(one) / one.sum() - np.cumsum(other) / other.sum()).max())


def _errors(stats: VersionStats) -> tuple[int, int]:
    # Refused requests do not count: when an array of rows is split, the larger part has a refused row more often.
    return stats.errors, stats.tried


def _refused(stats: VersionStats) -> tuple[int, int]:
    # Rows, not requests: an array is split by entity, and the larger part more often has a row to refuse.
    return stats.refused_rows, stats.rows


def _update_both(pair: tuple[SequentialTest, SequentialTest], one: tuple[int, int], other: tuple[int, int]) -> None:
    for evidence in pair:
        evidence.update(*_pair(one, other))


def _pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    k1, n1, k0, n0 = (np.array([value], float) for value in (*one, *other))
    return k1, n1, k0, n0
