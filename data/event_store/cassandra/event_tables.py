"""The tables of the event store in a Cassandra cluster, and what makes the statements of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from data.event_store.cassandra import event_rows, hot_list, late_marks, tile_rows
from data.event_store.cassandra.event_rows import EventRows
from data.event_store.cassandra.hot_list import HotList
from data.event_store.cassandra.late_marks import MarkRows
from data.event_store.cassandra.tile_rows import TileRows
from data.schema.events.event_source import EventSource

if TYPE_CHECKING:
    from cassandra.cluster import Session

TABLES = (event_rows, hot_list, late_marks, tile_rows)
"""The modules of the tables, in the order in which they are emptied.

The events first, so that no tile is made of one that goes. The list of hot entities before the marks: a maker registers
an entity among these and then puts it on the list, so that whatever registration is left has its entry there.
"""


class EventTables(NamedTuple):
    """What makes the statements of each table, in the order of `TABLES`."""

    events: EventRows
    hot: HotList
    marks: MarkRows
    tiles: TileRows


def event_tables(
    session: Session,
    names: Sequence[str],
    use_case: str,
    sources: Mapping[str, EventSource],
    keep_us: int | None,
    clock: Callable[[], int],
) -> EventTables:
    """Prepare the statements of the tables of a use case.

    Args:
        session: a connected driver session.
        names: the tables in the order of `TABLES`, with their keyspace.
        use_case: name of the use case.
        sources: its sources of events by name.
        keep_us: how long an event stays, in microseconds; None for ever.
        clock: returns the time in microseconds since 1970 UTC.
    """
    events, hot, marks, tiles = names
    return EventTables(
        EventRows(session, events, use_case, sources, keep_us),
        HotList(session, hot, keep_us, clock),
        MarkRows(session, marks, keep_us, clock),
        TileRows(session, tiles, keep_us, clock),
    )
