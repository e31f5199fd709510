"""One event as it is stored: its key, its times, its entities and its values, and the bytes they are written as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from data.errors import DamagedRow
from data.schema.events.event_source import EventSource

_INTEGER, _TEXT = b"\x01", b"\x02"
_SHIFT = 2**63
_ARRAY_32 = b"\xdd"


class Event(NamedTuple):
    """One event of a source."""

    key: bytes
    """As `event_key` writes it."""
    time_us: int
    """Microseconds since 1970 UTC."""
    known_us: int
    """Since when its values are known; not before its time."""
    entities: tuple[str | None, ...]
    """The key of each of the source's entities, in their order; None where the event names none."""
    payload: bytes
    """Its values, as `EventCodec` packs them."""


class OwnEvent(NamedTuple):
    """The event that a row itself is, of one source."""

    source: str
    event: Event
    record: bool
    """Whether it is stored; if not it counts only in windows of the row itself that take it (`with_current`)."""


def event_key(value: int | str) -> bytes:
    """Return an event's key as bytes whose order is that of the keys: whole numbers by size, then text by UTF-8.

    Raises:
        ValueError: a number beyond 64 bits, or text that is not UTF-8 (half a surrogate pair).
    """
    if isinstance(value, str):
        return _TEXT + value.encode()
    if not -_SHIFT <= value < _SHIFT:
        raise ValueError(f"{value} is beyond 64 bits")
    return _INTEGER + (value + _SHIFT).to_bytes(8, "big")


def shown_key(key: bytes) -> int | str:
    """Return the key that `event_key` wrote."""
    return int.from_bytes(key[1:], "big") - _SHIFT if key[:1] == _INTEGER else key[1:].decode()


class EventCodec:
    """Packs and unpacks the values of one source's events.

    Numbers are whole numbers of their declared decimal places (`data.transform.fixed_point`), booleans 0 and 1, text is
    text, and None is a missing value.
    """

    def __init__(self, source: EventSource) -> None:
        columns = [*source.values, *(name for name in source.entity_columns if name not in source.values)]
        self.names: tuple[str, ...] = tuple(columns)
        """The values in the order in which they are packed: those declared, then the columns of entities."""

    def pack(self, values: Sequence[int | str | None]) -> bytes:
        """Pack values, in the order of `names`."""
        packed = msgpack.packb(list(values))
        # msgpack's stubs also allow None, which only the streaming mode returns.
        return b"" if packed is None else packed

    def unpack(self, payload: bytes) -> list[int | str | None]:
        """Unpack values; raises DamagedRow when the bytes are not those of this source's events."""
        try:
            values = msgpack.unpackb(payload)
        except (ValueError, msgpack.UnpackException) as exc:
            raise DamagedRow(f"an event's values cannot be read: {exc}") from exc
        if not isinstance(values, list) or len(values) != len(self.names):
            raise DamagedRow("an event's values are those of another source")
        return values

    def columns(self, payloads: Sequence[bytes]) -> list[tuple[int | str | None, ...]]:
        """Unpack the values of many events, by column in the order of `names`; raises DamagedRow as `unpack` does."""
        if not payloads:
            return [()] * len(self.names)
        try:
            # One array of them all, so that one call unpacks them.
            rows = msgpack.unpackb(_ARRAY_32 + len(payloads).to_bytes(4, "big") + b"".join(payloads))
            columns = list(zip(*rows, strict=True))
        except (ValueError, TypeError, msgpack.UnpackException):
            columns = []
        if len(columns) != len(self.names):
            # One of them is damaged: one at a time they say what is wrong.
            return list(zip(*map(self.unpack, payloads), strict=True))
        return columns
