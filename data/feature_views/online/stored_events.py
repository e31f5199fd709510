"""The stored events of one entity in the order of time, by column: as a store reads them and windows compute with them.

A row of a few hundred events would be as many Python objects again for each of its fields; by column it is a tuple for
each field. What is looked at one by one is made then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain, islice
from operator import ge, lt
from typing import Any, NamedTuple, TypeVar, overload

import msgpack

from data.errors import DamagedRow
from data.feature_views.events.event import EventCodec

Columns = Sequence[Sequence[int | str | None]]
"""Values of events by column."""

_ARRAY_32 = b"\xdd"
_DAMAGED = 1
_Item = TypeVar("_Item")
_HEAD = 3
"""Items of a packed event before its values: time, key, known since."""


class StoredEvent(NamedTuple):
    """One event as a store returns it, of one entity of one source."""

    time_us: int
    key: bytes
    known_us: int
    payload: bytes


class StoredEvents(Sequence[StoredEvent]):
    """Events of one entity of one source, ascending in time and key.

    Args:
        times: time of each of n events, in microseconds since 1970 UTC.
        keys: key of each.
        known: since when each is known, in microseconds.
        payloads: values of each, as `EventCodec` packs them; None where `columns` are given.
        columns: the values by column, in the order of `EventCodec.names`.
    """

    __slots__ = ("_payloads", "keys", "known", "times", "unpacked")

    def __init__(
        self,
        times: Sequence[int],
        keys: Sequence[bytes],
        known: Sequence[int],
        payloads: Sequence[bytes] | None = None,
        columns: Columns | None = None,
    ) -> None:
        self.times = times
        self.keys = keys
        self.known = known
        self._payloads = payloads
        self.unpacked = columns
        """The values by column where they have been unpacked, else None."""

    @classmethod
    def of(cls, events: Sequence[StoredEvent]) -> StoredEvents:
        """Return events, in their order, by column."""
        if isinstance(events, StoredEvents):
            return events
        return cls(*zip(*events, strict=True)) if events else NO_EVENTS

    @classmethod
    def joined(cls, parts: Sequence[StoredEvents]) -> StoredEvents:
        """Return the events of parts of one source that follow one another in time."""
        parts = [part for part in parts if part]
        if len(parts) <= 1:
            return parts[0] if parts else NO_EVENTS
        columns = [part.unpacked for part in parts if part.unpacked is not None]
        if len(columns) < len(parts):
            return cls.of([*chain.from_iterable(parts)])
        return cls(
            [*chain.from_iterable(part.times for part in parts)],
            [*chain.from_iterable(part.keys for part in parts)],
            [*chain.from_iterable(part.known for part in parts)],
            columns=[[*chain.from_iterable(column)] for column in zip(*columns, strict=True)],
        )

    def columns(self, codec: EventCodec) -> Columns:
        """Return the values by column, in the order of `codec.names`; raises DamagedRow when some are not values."""
        if not self.times:  # `NO_EVENTS` is of every source: what it has is not to be kept
            return codec.columns(())
        if self.unpacked is None:
            self.unpacked = codec.columns(self._payloads or ())
        return self.unpacked

    def with_event(self, event: StoredEvent, codec: EventCodec) -> StoredEvents:
        """Return these events and another one, whose key none of them has; raises DamagedRow as `columns` does."""
        first = bisect_left(self.times, event.time_us)
        at = bisect_left(self.keys, event.key, first, bisect_left(self.times, event.time_us + 1, first))
        values = zip(self.columns(codec), codec.unpack(event.payload), strict=True)
        return StoredEvents(
            _inserted(self.times, at, event.time_us),
            _inserted(self.keys, at, event.key),
            _inserted(self.known, at, event.known_us),
            columns=[_inserted(column, at, value) for column, value in values],
        )

    @overload
    def __getitem__(self, at: int) -> StoredEvent: ...
    @overload
    def __getitem__(self, at: slice) -> list[StoredEvent]: ...
    def __getitem__(self, at: int | slice) -> StoredEvent | list[StoredEvent]:
        """Return an event, or those of a slice as a list."""
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self.times)))]
        return StoredEvent(self.times[at], self.keys[at], self.known[at], self._payload(at))

    def __len__(self) -> int:
        return len(self.times)

    def __eq__(self, other: object) -> bool:
        return [*self] == [*other] if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        raise TypeError("StoredEvents compares as a list does, and has no hash either")

    def __repr__(self) -> str:
        return f"StoredEvents({[*self]!r})"

    def _payload(self, at: int) -> bytes:
        if self._payloads is not None:
            return self._payloads[at]
        return msgpack.packb([column[at] for column in self.unpacked or ()]) or b""


NO_EVENTS = StoredEvents((), (), (), ())


class EventPacker:
    """Packs the events of one source so that many, one after the other, are unpacked by one call.

    An event is the items of its time, key and `known_us`, and then of each of its values, without a frame of its own.

    Args:
        width: number of values of an event of this source, at least one.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        framed = msgpack.packb([None] * width) or b""
        self._frame = framed[: len(framed) - width]
        self._pack = msgpack.Packer().pack  # `msgpack.packb` makes one for every call

    def pack(self, time_us: int, key: bytes, known_us: int, payload: bytes) -> bytes:
        """Pack an event. A payload that is not one of so many values is kept as it is, and found by its reader."""
        values = payload[len(self._frame) :]
        if not payload.startswith(self._frame) or not self._is_whole(payload):
            damaged = msgpack.ExtType(_DAMAGED, payload)
            values = b"".join(map(self._pack, (damaged, *[None] * (self._width - 1))))
        return self._pack((time_us, key, known_us))[1:] + values

    def unpack(self, count: int, packed: bytes) -> StoredEvents:
        """Unpack so many events, packed one after the other.

        Raises:
            DamagedRow: the bytes are not those of so many events.
        """
        every = _HEAD + self._width
        array = _ARRAY_32 + (count * every).to_bytes(4, "big") + packed
        try:
            try:
                items = msgpack.unpackb(array, use_list=False, ext_hook=_refuse)
            except _DamagedValues:
                return self._with_damaged(msgpack.unpackb(array, use_list=False))
        except (ValueError, TypeError, msgpack.UnpackException) as exc:
            raise DamagedRow(f"the events of an entity cannot be read: {exc}") from exc
        columns = [items[at::every] for at in range(_HEAD, every)]
        return _ordered(StoredEvents(items[::every], items[1::every], items[2::every], columns=columns))

    def _is_whole(self, payload: bytes) -> bool:
        try:
            return len(msgpack.unpackb(payload)) == self._width
        except (ValueError, msgpack.UnpackException):
            return False

    def _with_damaged(self, items: Sequence[Any]) -> StoredEvents:
        every = _HEAD + self._width
        rows = [items[at : at + every] for at in range(0, len(items), every)]
        if any([*map(type, row[:_HEAD])] != [int, bytes, int] for row in rows):
            raise ValueError("not time, key and time known")
        events = [StoredEvent(row[0], row[1], row[2], _payload(row[_HEAD:])) for row in rows]
        return StoredEvents.of(sorted(events))


class _DamagedValues(Exception):
    """A payload among the events is not one of values."""


def _refuse(code: int, data: bytes) -> None:
    raise _DamagedValues


def _payload(values: Sequence[Any]) -> bytes:
    return values[0].data if isinstance(values[0], msgpack.ExtType) else msgpack.packb(values) or b""


def _ordered(events: StoredEvents) -> StoredEvents:
    """Return events in order: that of the table, which SQL does not promise; to look costs next to nothing."""
    if not any(map(ge, events.times, islice(events.times, 1, None))):
        return events
    pairs = [*zip(events.times, events.keys, strict=True)]
    return events if all(map(lt, pairs, islice(pairs, 1, None))) else StoredEvents.of(sorted(events))


def _inserted(field: Sequence[_Item], at: int, item: _Item) -> list[_Item]:
    return [*field[:at], item, *field[at:]]
