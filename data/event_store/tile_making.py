"""The making of tiles: which entities get them and how large, the job of making some, and the work that it was."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass
class TileWork:
    """Counts since the store was opened. They only grow, each of them in one thread; any thread may read them."""

    tiles_read: int = 0
    """Tiles read in place of events."""
    tiles_folded: int = 0
    """Tiles made, from events or from smaller tiles."""
    events_folded: int = 0
    """Events that were folded into tiles; one that is folded again counts again."""
    fold_seconds: float = 0.0
    """Time spent on making tiles, in seconds, waiting for the file included."""
