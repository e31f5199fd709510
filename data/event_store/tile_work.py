"""The work of the tiles of a store in this process, counted."""

from __future__ import annotations

from dataclasses import dataclass


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
