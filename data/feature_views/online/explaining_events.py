"""Which events of an entity explain what windows over it were seen to be: those that were missing, or counted early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from data.feature_views.events.event import OwnEvent
from data.feature_views.online.online_windows import WindowPlan
from data.feature_views.online.stored_events import StoredEvent
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import WindowFeature

_MOST_READ = 500_000
"""About how many events are read again, without each run in turn, and once more for those up to the last place; a
million costs a second or two."""
_LONGEST_RUN = 500
_MOST_EARLY = 500
"""Most events that are added in turn."""


class SeenWindows:
    """The windows of one row over one entity of one source, as they were seen.

    No store says when it got an event. So the row's windows are computed again without some of the events, or with one
    more, until every window is what was seen.

    Args:
        windows: the window features, all of the same source and entity.
        sources: the use case's sources of events.
        time_us: the row's time.
        key: the row's key, as `event_key` writes it.
        is_seen: whether a value of a window, by its name, is the one that was seen; NaN = missing.
        own: the events that the row itself is.
    """

    def __init__(
        self,
        windows: Sequence[WindowFeature],
        sources: Mapping[str, EventSource],
        time_us: int,
        key: bytes,
        is_seen: Callable[[str, float | str], bool],
        own: Sequence[OwnEvent] = (),
    ) -> None:
        self._plan = WindowPlan(windows, sources)
        self._delay_us = sources[windows[0].source].delay_us
        self._time_us, self._key, self._own = time_us, key, own
        self._is_seen = is_seen

    @property
    def reach_us(self) -> int:
        """An event so much older than the row, or more, is in none of the windows."""
        return self._plan.slices[0].reach_us

    def missing_runs(self, events: Sequence[StoredEvent]) -> list[Sequence[StoredEvent]]:
        """Return in order the shortest runs of events, consecutive in time, without which the windows are as seen.

        Args:
            events: the entity's events that the row should have counted, ascending in time and key.

        Raises:
            DamagedRow: the values of an event cannot be unpacked.
        """
        found: list[Sequence[StoredEvent]] = []
        events = [*events]
        for first, end in _runs(len(events)):
            if found and end - first > len(found[0]):
                break
            if self._explains([*events[:first], *events[end:]]):
                found.append(events[first:end])
        return found[::-1]

    def counted_early(self, events: Sequence[StoredEvent], later: Iterable[StoredEvent]) -> list[StoredEvent]:
        """Return the events with each of which, as if it had been known just before the row, the windows are as seen.

        Args:
            events: the entity's events that the row should have counted, ascending in time and key.
            later: its events that the row should not have counted yet.

        Raises:
            DamagedRow: the values of an event cannot be unpacked.
        """
        tried = islice(later, _MOST_EARLY)
        return [each for each in tried if self._explains(sorted([*events, self._before_row(each)]))]

    def _explains(self, events: Sequence[StoredEvent]) -> bool:
        values = self._plan.compute([events], self._time_us, self._key, self._own)
        return all(
            self._is_seen(window.name, each.value) for window, each in zip(self._plan.features, values, strict=True)
        )

    def _before_row(self, event: StoredEvent) -> StoredEvent:
        before_us = min(event.time_us, self._time_us - 1 - self._delay_us)
        return event._replace(time_us=before_us, known_us=self._time_us)


def _runs(length: int) -> Iterator[tuple[int, int]]:
    """Yield the ends of runs of places: shortest first, of the same length the newest first.

    After the most that are read there follow the runs up to the last place alone: what had not arrived yet.
    """
    left = most = _MOST_READ // max(length, 1)
    for size in range(1, min(length, _LONGEST_RUN) + 1):
        firsts = range(length - size, -1, -1)[: max(left, 1)]
        yield from ((first, first + size) for first in firsts)
        left -= len(firsts)
        if left < -most:
            return
