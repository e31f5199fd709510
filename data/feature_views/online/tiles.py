"""Tiles: closed spans of time of one entity, each with the partial aggregates of its events.

A window over very many events is computed from the tiles that lie wholly in it and from the events around them. It is
exact to the bit, because

- a tile is a pure function of the events in [start, end), and is made of whole instants: no two spans share one;
- partial aggregates are whole numbers, or text, so that it does not matter how the events are divided;
- a tile is read only for windows that it is wholly inside or wholly outside of: `TilePlan.cuts` are the times, counted
  from the row's own, that no tile may have inside it;
- a tile with an event that is not known yet at the row's time is not read, but the events in it.

Tiles are divided by time and sized by the number of events in them: a division by number alone would move every tile
after a late event, one by fixed times would be too coarse for one entity and too fine for another. Which division there
is does not matter to what is computed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from data.feature_views.events.event import EventCodec
from data.feature_views.online.event_line import EventChoice, EventLine
from data.feature_views.online.partial_aggregates import PARTIAL_OF, Held, Partial, finished, fold, merge
from data.feature_views.online.stored_events import StoredEvent, StoredEvents
from data.schema.events.event_source import EventSource
from data.schema.features.expression import Condition
from data.schema.features.window_feature import WindowFeature

_FORMAT = 1
_ARRAY_32 = b"\xdd"
_BIG_NUMBER = 1


class Tile(NamedTuple):
    """The events of one entity with a time in [start_us, end_us), folded."""

    start_us: int
    end_us: int
    last_us: int | None
    """Time of the latest event in it; None when it has none."""
    payload: bytes
    """As `TilePlan` packs it: for each of its choices the partial aggregates, or None when it chooses none of them."""


class TilePlan:
    """What the tiles of one entity of a source hold, for the window features that count its events.

    Args:
        features: the window features of this source and entity, at least one.
        source: the source of events.
    """

    def __init__(self, features: Sequence[WindowFeature], source: EventSource) -> None:
        self._codec = EventCodec(source)
        partials: dict[tuple[Condition | None, int | None], set[Partial]] = {}
        choices: dict[tuple[Condition | None, int | None], EventChoice] = {}
        for feature in features:
            choice = EventChoice(feature, source, self._codec.names)
            choices[choice.wanted] = choice
            partials.setdefault(choice.wanted, {Partial.COUNT}).add(PARTIAL_OF[feature.aggregate])
        wanted = sorted(partials, key=repr)
        self._choices = [choices[each] for each in wanted]
        self._partials = [sorted(partials[each]) for each in wanted]
        self._at = {each: at for at, each in enumerate(wanted)}
        said = repr(
            (_FORMAT, [(each, [*map(int, partials)]) for each, partials in zip(wanted, self._partials, strict=True)])
        )
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]
        """Of what a tile holds: one that was made by other declarations is not read. Durations are no part of it."""
        self.cuts: tuple[int, ...] = tuple(sorted({cut for each in features for cut in window_cuts(each, source)}))
        """Times from the row's time, in microseconds, at which a window begins or ends."""

    def fold(self, events: Sequence[StoredEvent]) -> bytes:
        """Return the payload of a tile from its events, ascending in time and key.

        Raises:
            DamagedRow: the values of an event cannot be unpacked.
        """
        line = EventLine(StoredEvents.of(events), self._codec)
        parts = []
        for choice, partials in zip(self._choices, self._partials, strict=True):
            held = held_between(line, choice, 0, len(events), float("inf"))
            parts.append(held and [fold(partial, held) for partial in partials])
        return _packed(parts)

    def merge(self, payloads: Sequence[bytes]) -> bytes:
        """Return the payload of a tile from those of the tiles that it is made of."""
        merged = []
        for at, partials in enumerate(self._partials):
            columns = _columns(payloads, at)
            merged.append([merge(*each) for each in zip(partials, columns, strict=True)] if columns else None)
        return _packed(merged)

    def place(self, choice: EventChoice, partial: Partial) -> tuple[int, int]:
        """Return the places of a choice in a tile and of a partial aggregate in the choice."""
        at = self._at[choice.wanted]
        return at, self._partials[at].index(partial)


def window_cuts(feature: WindowFeature, source: EventSource) -> tuple[int, int]:
    """Return the first instant of a window and the first after it whose events count whatever their keys.

    Both are counted from the row's time in microseconds; the second is not after it.
    """
    delay_us = max(feature.delay_us, source.delay_us)
    return 1 - feature.reach_us, 1 - delay_us if delay_us else 0


def held_between(line: EventLine, choice: EventChoice, first: int, end: int, time_us: float) -> Held | None:
    """Return the chosen events between two places of a line, None when there is none."""
    chosen = line.chosen(choice, time_us)
    first, end = chosen.between(first, end)
    if first == end:
        return None
    times = line.times[chosen.place(first)], line.times[chosen.place(end - 1)]
    return Held(end - first, *times, chosen.values[first:end])


class TileLine:
    """The tiles of one entity in the order of time, unpacked when they are first looked at."""

    def __init__(self, tiles: Sequence[Tile], plan: TilePlan) -> None:
        self._tiles = tiles
        self._plan = plan
        self._unpacked: list[list[Any]] | None = None
        self._columns: dict[int, tuple[list[int], list[tuple[Any, ...]]]] = {}

    def between(
        self, choice: EventChoice, partial: Partial, span: tuple[int, int], beside: Held | None
    ) -> tuple[Any, int]:
        """Return what an aggregate is made of, and the number of events, from tiles and the events beside them.

        Args:
            choice: what the window feature reads.
            partial: what its aggregate needs.
            span: the window without the instants that only events tell, [start, end) in microseconds.
            beside: those in the window that are in no tile.
        """
        at, number = self._plan.place(choice, partial)
        starts, columns = self._chosen(at)
        first, end = bisect_left(starts, span[0]), bisect_left(starts, span[1])
        if first >= end:
            return (finished(partial, fold(partial, beside)), beside.events) if beside else (None, 0)
        parts, count = [*columns[number][first:end]], sum(columns[0][first:end])
        if beside is not None:
            parts.append(fold(partial, beside))
            count += beside.events
        return finished(partial, merge(partial, parts)), count

    def _chosen(self, at: int) -> tuple[list[int], list[tuple[Any, ...]]]:
        """Return start and partial aggregates, by column, of the tiles in which a choice has events."""
        if at not in self._columns:
            if self._unpacked is None:
                self._unpacked = _unpacked([tile.payload for tile in self._tiles])
            parts = [
                (tile.start_us, part[at]) for tile, part in zip(self._tiles, self._unpacked, strict=True) if part[at]
            ]
            self._columns[at] = [start for start, _ in parts], list(zip(*(part for _, part in parts), strict=True))
        return self._columns[at]


def _columns(payloads: Sequence[bytes], at: int) -> list[tuple[Any, ...]]:
    return list(zip(*(parts[at] for parts in _unpacked(payloads) if parts[at]), strict=True))


def _unpacked(payloads: Sequence[bytes]) -> list[list[Any]]:
    # One array of them all, so that one call unpacks them.
    return msgpack.unpackb(_ARRAY_32 + len(payloads).to_bytes(4, "big") + b"".join(payloads), ext_hook=_big_number)


def _packed(parts: list[Any]) -> bytes:
    return msgpack.packb(parts, default=_as_bytes) or b""


def _as_bytes(number: int) -> msgpack.ExtType:
    """Pack a whole number beyond 64 bits, such as a sum of squares."""
    return msgpack.ExtType(_BIG_NUMBER, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _big_number(_: int, packed: bytes) -> int:
    return int.from_bytes(packed, "big", signed=True)
