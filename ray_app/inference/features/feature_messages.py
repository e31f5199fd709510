"""What gateway and feature-fetch replica send each other, as bytes: both ends of the encoding in one place.

A call is a list of keys to read, or a map of one operation's arguments; one for scratch stores is wrapped into a map of
its own. Floats keep all of their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from data.errors import StoreUnavailable
from data.event_store import EventOutcome, OwnEvent, RowQuery
from data.feature_views.events.event import Event
from ray_app.inference.stages import FetchedRows
from ray_app.prediction import RowWindows

KEYS, QUERIES, SOURCE, EVENTS = "keys", "queries", "source", "events"
"""Arguments: keys and queries of `fetch_rows`; source and events of `record`."""
SCRATCH = "scratch"
"""In the map of a call for the scratch stores: the call."""


def pack(value: object) -> bytes:
    """Pack plain values, and records of plain values as lists."""
    packed = msgpack.packb(value)
    # msgpack's stubs also allow None, which only the streaming mode returns.
    return b"" if packed is None else packed


def unpack(packed: bytes) -> Any:
    """Unpack what `pack` made."""
    return msgpack.unpackb(packed)


def queries_of(unpacked: Sequence[Any]) -> list[RowQuery]:
    """Return queries that were packed."""
    return [
        RowQuery(
            key, time_us, tuple(entities), tuple(OwnEvent(source, _event(of), record) for source, of, record in own)
        )
        for key, time_us, entities, own in unpacked
    ]


def events_of(unpacked: Sequence[Any]) -> list[Event]:
    """Return events that were packed."""
    return [_event(each) for each in unpacked]


def outcomes_of(unpacked: Sequence[int]) -> list[EventOutcome]:
    """Return outcomes that were packed."""
    return [EventOutcome(each) for each in unpacked]


def pack_fetched(fetched: FetchedRows) -> bytes:
    """Pack an answer to `fetch_rows`; a store's failure is part of it, in its own words."""
    return pack([_result(fetched.stored), _result(fetched.windows)])


def unpack_fetched(packed: bytes) -> FetchedRows:
    """Unpack an answer to `fetch_rows`."""
    (problem, stored), (failure, windows) = unpack(packed)
    return FetchedRows(
        stored if problem is None else StoreUnavailable(problem),
        [_windows(each) for each in windows] if failure is None else StoreUnavailable(failure),
    )


def _result(result: Sequence[Any] | StoreUnavailable) -> list[Any]:
    return [str(result), []] if isinstance(result, StoreUnavailable) else [None, list(result)]


def _event(unpacked: Sequence[Any]) -> Event:
    key, time_us, known_us, entities, payload = unpacked
    return Event(key, time_us, known_us, tuple(entities), payload)


def _windows(unpacked: Sequence[Any]) -> RowWindows:
    time_us, values, counts, newest_us, outcomes, damaged = unpacked
    return RowWindows(time_us, values, counts, newest_us, outcomes_of(outcomes), damaged)
