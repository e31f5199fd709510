"""The last minutes of each source of events, over all replicas that record and read, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from data.event_store import EventOutcome
from data.event_store.event_stats import EventCounts, added
from ray_app.monitoring.increases import Increases

EVENT_COUNTS = "event_counts"
"""Name under which replicas report the cumulative counts of their sources."""
STEP_S = 5.0
STEPS = 60
"""Together five minutes."""


class RecentEvents:
    """The last five minutes in steps of five seconds. Belongs to one event loop.

    Args:
        sources: names of the sources that windows read; none for a model without windows.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._newest: dict[str, int | None] = dict.fromkeys(sources)
        self._increases = Increases[EventCounts]()
        self._began: float | None = None
        self._open: dict[str, EventCounts] = {}
        self._steps: deque[tuple[float, dict[str, EventCounts]]] = deque(maxlen=STEPS)

    def record(self, reports: Mapping[str, Mapping[str, EventCounts]], now: float) -> None:
        """Take the cumulative counts of replicas; call it about once a second.

        Args:
            reports: counts by source, by replica.
            now: monotonic seconds.
        """
        self._open = added([self._open, *self._increases.of(reports)])
        self._note_newest(added(list(reports.values())))
        if self._began is None:
            self._began = now if reports else None
        elif now - self._began >= STEP_S:
            self._steps.append((now - self._began, self._open))
            self._open, self._began = {}, now

    def plain(self) -> list[dict[str, Any]]:
        """As plain JSON: of each source its rate and shares in the last minutes, null where nothing came."""
        seconds = sum(lasted for lasted, _ in self._steps)
        counts = added([counted for _, counted in self._steps])
        return [_plain(source, counts.get(source, EventCounts()), seconds, us) for source, us in self._newest.items()]

    def _note_newest(self, counts: Mapping[str, EventCounts]) -> None:
        for source in self._newest.keys() & counts.keys():
            found = [us for us in (self._newest[source], counts[source].newest_us) if us is not None]
            self._newest[source] = max(found, default=None)


def _plain(source: str, counts: EventCounts, seconds: float, newest_us: int | None) -> dict[str, Any]:
    return {
        "name": source,
        "seconds": round(seconds, 1),
        "events": counts.total,
        "per_s": round(counts.total / seconds, 2) if seconds else 0.0,
        "late_share": _share(counts.late, counts),
        "repeated_share": _share(counts.outcomes[EventOutcome.REPEATED], counts),
        "conflicts": counts.outcomes[EventOutcome.CONFLICT],
        "newest_at": None if newest_us is None else newest_us / 1e6,
    }


def _share(count: int, counts: EventCounts) -> float | None:
    return round(count / counts.total, 4) if counts.total else None
