"""The increase of cumulative statistics that replicas report, from one call to the next.

A replica that is gone or restarts makes no step in the figures, and neither does a restarted Control, whose first
reports hold all that was counted before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar


class Cumulative(Protocol):
    """Statistics that grow."""

    def since(self, before: Any, /) -> Any:
        """The statistics since `before`; all of them when the replica has restarted."""
        ...


Stats = TypeVar("Stats", bound=Cumulative)


class Increases(Generic[Stats]):
    """Keeps each replica's last report. What a replica counted before its first one is left out."""

    def __init__(self) -> None:
        self._before: Mapping[str, Mapping[str, Stats]] = {}

    def of(self, reports: Mapping[str, Mapping[str, Stats]]) -> list[dict[str, Stats]]:
        """Return the increase of each replica that has reported anew, by the names in its report.

        Args:
            reports: cumulative statistics by name, by replica.
        """
        before, self._before = self._before, dict(reports)
        return [
            {name: stats.since(known[name]) if name in known else stats for name, stats in report.items()}
            for replica, report in reports.items()
            if (known := before.get(replica)) is not None and report is not known
        ]
