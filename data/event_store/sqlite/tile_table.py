"""The tables of tiles in a SQLite event store: for each hot entity one line of tiles a level, the coarsest level first.

Level 0 is folded from events, every other from tiles of the level below. The tiles of a line never overlap. Whoever
adds or removes an entity's event removes the tiles over its time in the same transaction, in whichever process: so a
tile that is there has all its events, and what is missing is read from the level below, in the end from the events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from data.event_store.tile_making import LEVELS
from data.event_store.tile_spans import FoldedTile, Span, gaps
from data.feature_views.online.tiles import Tile

CREATE = (
    # A number is never given out again: whoever holds one of a line that was dropped finds no tiles, not another's.
    """CREATE TABLE IF NOT EXISTS tile_lines (
  number INTEGER PRIMARY KEY AUTOINCREMENT, source INTEGER NOT NULL, entity INTEGER NOT NULL, entity_key TEXT NOT NULL,
  made_by TEXT NOT NULL, level INTEGER NOT NULL,
  UNIQUE (source, entity, entity_key, made_by, level)
)""",
    """CREATE TABLE IF NOT EXISTS tiles (
  line INTEGER NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL, last_us INTEGER, known_us INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (line, start_us)
) WITHOUT ROWID""",
)
_LATEST = "SELECT seq FROM sqlite_sequence WHERE name = 'tile_lines'"
_NEW_LINES = "SELECT source, entity, entity_key FROM tile_lines WHERE number > ?"
_UNFOLD = """DELETE FROM tiles WHERE end_us > ?4 AND (line, start_us) IN (
  SELECT number, (SELECT max(start_us) FROM tiles WHERE line = number AND start_us <= ?4)
  FROM tile_lines WHERE source = ?1 AND entity = ?2 AND entity_key = ?3
)"""
_EXIST = "SELECT 1 FROM sqlite_master WHERE name = 'tile_lines'"
_FIND = """SELECT number FROM tile_lines
WHERE source = ? AND entity = ? AND entity_key = ? AND made_by = ? ORDER BY level DESC"""
_OTHERS = "SELECT number FROM tile_lines WHERE source = ? AND entity = ? AND entity_key = ? AND made_by != ?"
_ADD_LINE = "INSERT INTO tile_lines (source, entity, entity_key, made_by, level) VALUES (?, ?, ?, ?, ?)"
_INSIDE = """SELECT start_us, end_us, last_us, payload FROM tiles
WHERE line = ? AND start_us >= ? AND start_us < ? AND end_us <= ? AND known_us <= ? ORDER BY start_us"""
_PARTS = """SELECT start_us, end_us, last_us, known_us, payload FROM tiles
WHERE line = ? AND start_us >= ? AND end_us <= ? AND start_us < ? ORDER BY start_us"""
_SPANS = """SELECT start_us, end_us FROM tiles
WHERE line = ?1 AND start_us < ?3 AND end_us > ?2
AND start_us >= coalesce((SELECT max(start_us) FROM tiles WHERE line = ?1 AND start_us <= ?2), ?2) ORDER BY start_us"""
_EMPTY = """DELETE FROM tiles WHERE line IN (
  SELECT line.number FROM tile_lines AS line JOIN event_sources AS source ON source.number = line.source
  WHERE substr(source.name, 1, ?) = ?
)"""
_PUT = "INSERT INTO tiles VALUES (?, ?, ?, ?, ?, ?)"


class Place(NamedTuple):
    """An entity of a source, by the numbers that the file has for them, and the declarations of its tiles."""

    source: int
    entity: int
    entity_key: str
    made_by: str
    """Fingerprint of the `TilePlan`."""


class TileTable:
    """The tiles in the tables of one connection. Whoever calls it has the transaction.

    Args:
        connection: an open connection. A file that was made before there were tiles has none, and gets none, until it
            is opened with `create`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._exist = connection.execute(_EXIST).fetchone() is not None
        self._hot: set[tuple[int, int, str]] = set()
        self._latest = 0

    def look(self) -> None:
        """See which entities are hot: to be called in each transaction that writes, and before reading without one.

        The number of the last line says whether there are new ones, without a look for each event and each read.
        """
        self._exist = self._exist or self._connection.execute(_EXIST).fetchone() is not None
        latest = self._connection.execute(_LATEST).fetchone() if self._exist else None
        if latest is not None and latest[0] != self._latest:
            self._hot.update(self._connection.execute(_NEW_LINES, (self._latest,)))
            self._latest = latest[0]

    def lines(self, place: Place) -> list[int]:
        """Return the lines of an entity, the coarsest first; nothing when it was not hot at the last `look`."""
        if place[:3] not in self._hot:
            return []
        return [number for (number,) in self._connection.execute(_FIND, place)]

    def make_lines(self, place: Place) -> list[int]:
        """Return the lines of an entity, made when it has none; those of other declarations are dropped then."""
        if not (lines := self.lines(place)) and self._exist:
            for (other,) in self._connection.execute(_OTHERS, place).fetchall():
                self._connection.execute("DELETE FROM tiles WHERE line = ?", (other,))
                self._connection.execute("DELETE FROM tile_lines WHERE number = ?", (other,))
            self._connection.executemany(_ADD_LINE, [(*place, level) for level in range(LEVELS)])
            self.look()
            lines = self.lines(place)
        return lines

    def unfold(self, events: Sequence[Sequence[Any]]) -> None:
        """Remove the tiles over events that the transaction adds or removes.

        Args:
            events: source, entity, key of the entity and time of each, whatever follows.
        """
        if self._hot:
            hot = [event[:4] for event in events if (*event[:3],) in self._hot]
            self._connection.executemany(_UNFOLD, hot)

    def cover(self, lines: Sequence[int], spans: Sequence[Span], known_us: int) -> tuple[list[Tile], list[Span]]:
        """Return the tiles inside of spans that are known at a time, and what they leave of the spans, both in order.

        Args:
            lines: those of one entity, the coarsest first.
            spans: spans in order; no tile that is returned reaches over an end of one.
            known_us: a tile with an event known later is not used.
        """
        tiles: list[Tile] = []
        for line in lines:
            left: list[Span] = []
            for span in spans:
                inside = [*map(Tile._make, self._connection.execute(_INSIDE, (line, *span, span.end_us, known_us)))]
                tiles += inside
                left += gaps(span, inside)
            spans = left
        tiles.sort()
        return tiles, list(spans)

    def spans(self, line: int, span: Span) -> list[Span]:
        """Return the spans of a line's tiles that lie in a span or reach into it."""
        return [Span(*row) for row in self._connection.execute(_SPANS, (line, *span))]

    def parts(self, line: int, span: Span) -> list[FoldedTile]:
        """Return the tiles of a line inside of a span."""
        return [FoldedTile(*row) for row in self._connection.execute(_PARTS, (line, *span, span.end_us))]

    def empty(self, prefix: str) -> None:
        """Remove the tiles of all sources whose name in the file begins so."""
        if self._exist:
            self._connection.execute(_EMPTY, (len(prefix), prefix))

    def put(self, line: int, tile: FoldedTile) -> None:
        """Store a tile, where the line has none."""
        self._connection.execute(_PUT, (line, *tile))
