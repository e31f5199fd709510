"""The last minutes of each version: requests, failures and latencies of every few seconds, in bounded memory.

It takes the cumulative statistics of gateways, and counts each gateway's increase since its previous report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from ray_app.monitoring.increases import Increases
from ray_app.rollout.version_stats import VersionStats, merged, quantile_ms

STEP_S = 5.0
STEPS = 180
"""Together a quarter of an hour."""
_RECENT = 12
"""Steps whose full histograms are kept: a minute."""

_Reports = Mapping[str, Mapping[str, VersionStats]]


class HistoryPoint(NamedTuple):
    """Counts and latencies of one version in one step; latencies are None where it answered nothing."""

    requests: int
    errors: int
    refused: int
    p50_ms: float | None
    p99_ms: float | None


class HistoryStep(NamedTuple):
    """One stretch of time that ended at `at`, in seconds since 1970, and lasted `seconds`."""

    at: float
    seconds: float
    points: dict[str, HistoryPoint]


class RecentHistory:
    """The last quarter of an hour in steps of five seconds. Belongs to one event loop.

    Args:
        step_s: length of a step; one that is closed late is longer, and says so.
        steps: how many are kept.
    """

    def __init__(self, step_s: float = STEP_S, steps: int = STEPS) -> None:
        self._step_s = step_s
        self._began: float | None = None
        self._increases = Increases[VersionStats]()
        self._open: dict[str, VersionStats] = {}
        self._recent: deque[tuple[float, dict[str, VersionStats]]] = deque(maxlen=_RECENT)
        self._steps: deque[HistoryStep] = deque(maxlen=steps)

    def record(self, reports: _Reports, now: float, wall: float) -> None:
        """Take the cumulative statistics of gateways; call it about once a second.

        What a replica counted before its first report here is left out.

        Args:
            reports: statistics by version, by replica.
            now: monotonic seconds.
            wall: seconds since 1970.
        """
        for new in self._increases.of(reports):
            self._open = merged([self._open, {v: stats for v, stats in new.items() if stats.requests}])
        if self._began is None:
            self._began = now if reports else None
        elif now - self._began >= self._step_s:
            self._close(now - self._began, wall)
            self._began = now

    def last_minute(self) -> tuple[float, dict[str, VersionStats]]:
        """The statistics of the last minute at most, by version, after the number of seconds that they cover."""
        return sum(seconds for seconds, _ in self._recent), merged(counted for _, counted in self._recent)

    def plain(self) -> dict[str, Any]:
        """As plain JSON: one list a figure, with a value for each step; a version that did nothing has 0 and null."""
        versions = sorted({version for step in self._steps for version in step.points}, key=int)
        return {
            "step_s": self._step_s,
            "steps": self._steps.maxlen,
            "at": [round(step.at, 1) for step in self._steps],
            "seconds": [round(step.seconds, 2) for step in self._steps],
            "versions": {version: self._columns(version) for version in versions},
        }

    def _columns(self, version: str) -> dict[str, list[Any]]:
        nothing = HistoryPoint(0, 0, 0, None, None)
        points = [step.points.get(version, nothing) for step in self._steps]
        return dict(zip(HistoryPoint._fields, map(list, zip(*points, strict=True)), strict=True))

    def _close(self, seconds: float, wall: float) -> None:
        counted, self._open = self._open, {}
        self._recent.append((seconds, counted))
        self._steps.append(HistoryStep(wall, seconds, {version: _point(stats) for version, stats in counted.items()}))


def _point(stats: VersionStats) -> HistoryPoint:
    p50, p99 = (quantile_ms(stats.latencies, share) for share in (0.5, 0.99))
    return HistoryPoint(stats.requests, stats.errors, stats.refused, p50, p99)
