"""Which entities have tiles and how large these are; and the job of making some."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from data.event_store.tile_spans import Span
from data.feature_views.online.tiles import TilePlan

LEVELS = 3


class TileRules(NamedTuple):
    """Which entities have tiles, and how large these are."""

    hot: int = 512
    """An entity with more events than this in a slice gets tiles."""
    events: int = 128
    """Events in a tile of level 0: at least so many, less than twice as many, but that an instant is never divided."""
    fan_out: int = 16
    """Tiles in one of the level above, less than twice as many."""
    settle_us: int = 1_000_000
    """An event younger than this, in microseconds, is in no tile yet: others may come before it."""

    def wanted(self, events: int, tiles: int, spans: int) -> bool:
        """Return whether more tiles would save work, from what was read for so many spans of time, 1 without tiles."""
        if spans == 1:
            return events > self.hot
        # At the ends of a span a tile of each level is read by its parts; behind the last tile are some events, too.
        return events > self.events * (spans + 2) or tiles > 4 * self.fan_out * LEVELS * spans


PlaceT = TypeVar("PlaceT")


class TileJob(NamedTuple, Generic[PlaceT]):
    """A span of time of one entity that is to have tiles."""

    place: PlaceT
    """The entity, as the store names it, and the declarations of its tiles."""
    plan: TilePlan
    span: Span
