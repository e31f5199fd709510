"""Writing events so that no tile is read that lacks one: late events of hot entities are marked before and after.

Tiles end SETTLE_US before the clock of their maker. An event whose time is younger than LIVE_US when its write is
answered is in none, even if the two clocks disagree by 30 seconds, and costs nothing beside its own rows.

The mark before the event is for a writer that is killed: no tile is made while that mark is young. The mark after it is
what counts: it is there when the event is answered, and no tile that was made before has seen it. An event that was
never answered may, if the cluster takes it in much later, be missing in a tile until it is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data.event_store.cassandra.hot_list import GRACE_S, HotList
from data.event_store.cassandra.late_marks import EntityPlace, MarkRows
from data.feature_views.events.event import Event

if TYPE_CHECKING:
    from cassandra.query import Statement

SETTLE_US = 60 * 1_000_000
LIVE_US = 30 * 1_000_000
_FRESH_S = GRACE_S / 2.5

Steps = Generator[Sequence["Statement"], list[Any], None]
"""Statements to be sent, step after step; each step is sent what the one before has found."""


class LateWrites:
    """Makes the steps of a write.

    Args:
        hot: the list of hot entities.
        marks: makes statements for marks.
        names: what each source is called in the tables, by name.
        entities: names of the entities of each source.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(
        self,
        hot: HotList,
        marks: MarkRows,
        names: Mapping[str, str],
        entities: Mapping[str, Sequence[str]],
        clock: Callable[[], int],
    ) -> None:
        self._hot = hot
        self._marks = marks
        self._names = names
        self._entities = entities
        self._clock = clock

    def steps(self, events: Sequence[tuple[str, Event]], writes: Sequence[Statement]) -> Steps:
        """Yield the statements that write events, with the marks that they need.

        Args:
            events: each with its source.
            writes: the statements that store them.
        """
        yield from self._mark(events, _FRESH_S)
        yield writes
        # Now, when they are answered, more of them may be late; and more entities may be hot.
        yield from self._mark(events, GRACE_S)

    def _mark(self, events: Iterable[tuple[str, Event]], most_s: float) -> Steps:
        live_us = self._clock() - LIVE_US
        late = [(source, event) for source, event in events if event.time_us < live_us]
        for source in {self._names[source] for source, _ in late}:
            if self._hot.age_s(source) > most_s:
                asked = time.monotonic(), self._clock()
                found = yield [self._hot.read(source)]
                self._hot.take(source, found, *asked)
        times: dict[EntityPlace, set[int]] = {}
        for source, event in late:
            for entity, key in zip(self._entities[source], event.entities, strict=True):
                if key is not None and (place := EntityPlace(self._names[source], entity, key)) in self._hot:
                    times.setdefault(place, set()).add(event.time_us)
        if times:
            yield self._marks.writes(times)


def next_step(steps: Steps, found: list[Any] | None) -> Sequence[Statement] | None:
    """Return the next statements of a write, None when it is done; `found` is None before the first."""
    try:
        return next(steps) if found is None else steps.send(found)
    except StopIteration:
        return None


async def send_steps(
    steps: Steps, ask: Callable[[Sequence[Statement], float], Awaitable[list[Any]]], deadline: float
) -> None:
    """Send the steps of a write, one after the other.

    Args:
        steps: the steps.
        ask: sends statements and returns their answers in order, within so many seconds.
        deadline: until when all of them together may take, by `time.monotonic`.
    """
    found: list[Any] | None = None
    while (step := next_step(steps, found)) is not None:
        found = [row for rows in await ask(step, deadline - time.monotonic()) for row in rows or ()]
