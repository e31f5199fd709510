"""Events and rows of the event stores' conformance suite: cards that are swiped at shops, and reports of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from data.event_store import EventStore, OwnEvent, RowEvents, RowQuery
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.online.online_windows import Slice
from data.feature_views.online.stored_events import StoredEvent
from data.schema.events.event_source import EventSource

SECOND = 1_000_000
HOUR = 3600 * SECOND
CARDS = {
    "swipes": EventSource.model_validate(
        {"entities": ["card", "shop"], "values": {"amount": {"decimals": 2}}, "record": True}
    ),
    "reports": EventSource.model_validate(
        {"entities": ["card"], "values": ["fraud"], "key": "id", "time": "at", "known_at": "known"}
    ),
}
CARD, SHOP = Slice("swipes", "card", HOUR), Slice("swipes", "shop", HOUR)
REPORTS = Slice("reports", "card", HOUR)
CODEC = EventCodec(CARDS["swipes"])
NOW = time.time_ns() // 1000 - HOUR

Open = Callable[..., EventStore]


def swipe(key: int | str, time_us: int, card: str | None = "c", shop: str | None = None, amount: int = 100) -> Event:
    """An event of a card at a shop."""
    return Event(event_key(key), time_us, time_us, (card, shop), CODEC.pack([amount, card, shop]))


def report(key: int, time_us: int, known_us: int, card: str = "c", fraud: int = 0) -> Event:
    """An event whose content is known later than it happened."""
    packed = EventCodec(CARDS["reports"]).pack([fraud, card])
    return Event(event_key(key), time_us, known_us, (card,), packed)


def row(key: int | str, time_us: int | None, *entities: str | None, own: Sequence[OwnEvent] = ()) -> RowQuery:
    """A row that is scored."""
    return RowQuery(event_key(key), time_us, entities or ("c",), tuple(own))


def swiped(key: int | str, card: str = "c", time_us: int | None = None) -> RowQuery:
    """A row that is scored and recorded, by default at the time when the store takes it."""
    return row(key, time_us, card, own=[OwnEvent("swipes", swipe(key, time_us or 0, card), True)])


def fetch(store: EventStore, *rows: RowQuery, slices: Sequence[Slice] = (CARD,)) -> list[RowEvents]:
    """Record and read with an event loop of its own."""
    return asyncio.run(store.fetch(slices, rows, 10.0))


def stored(*events: Event) -> list[StoredEvent]:
    """Events as a store returns them."""
    return [StoredEvent(each.time_us, each.key, each.known_us, each.payload) for each in events]


def seen(store: EventStore, time_us: int, *entities: str | None, slices: Sequence[Slice] = (CARD,)) -> list[list]:
    """The events of entities up to a time."""
    return [list(events) for events in fetch(store, row("?", time_us, *entities), slices=slices)[0].events]
