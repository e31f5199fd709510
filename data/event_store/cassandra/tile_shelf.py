"""The tiles of one hot entity in the memory of a process: those that were folded, and larger ones made of them.

A cluster without locks cannot keep a key from being written at two times: a row without a time of its own that is sent
again, a revision that moves an event. Of those one counts, which is settled among events (`fold_by_key`) and could not
be among tiles. So a shelf knows the keys of its tiles, as hashes of 64 bits, and a tile that shares one with another
tile, or with an event outside of all tiles, is not read, but its events.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.event_store.tile_making import LEVELS
from data.event_store.tile_spans import FoldedTile, Span, gaps, inside, merged_us, tile_groups
from data.feature_views.online.tiles import Tile, TilePlan

_BYTES_A_TILE = 500
_COPIES_OF_KEYS = 3  # the tiles' own, and for the whole shelf the hashes in order and the tile of each


class KeyedTile(NamedTuple):
    """A tile that was folded from events."""

    folded: FoldedTile
    keys: bytes
    """The hashes of its events' keys, 8 bytes each."""
    digest: bytes
    """Of the marks that its maker saw (`Marks.digest`)."""


class TileShelf:
    """Tiles, none of which overlap; never changed once it is made.

    Args:
        tiles: those folded from events, in the order of time.
        plan: what they hold.
        fan_out: how many tiles make a larger one.
        before: another shelf of the entity, of which the larger tiles are taken where their parts are the same.
    """

    def __init__(
        self, tiles: Sequence[KeyedTile], plan: TilePlan, fan_out: int, before: TileShelf | None = None
    ) -> None:
        self.tiles = tiles
        self._levels = [_Level([tile.folded for tile in tiles], [])]
        for at in range(1, LEVELS):
            made = before._levels[LEVELS - 1 - at] if before is not None else None
            self._levels.insert(0, _merged(self._levels[0].tiles, plan, fan_out, made))
        hashes = np.frombuffer(b"".join(tile.keys for tile in tiles), "<u8")
        owners = np.repeat(np.arange(len(tiles)), [len(tile.keys) // 8 for tile in tiles])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]
        shared = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        self.disputed = self._spans(np.concatenate([self._owners[shared], self._owners[shared + 1]]))
        """Spans of the tiles that share a key with another one, in order."""
        self.bytes = sum(len(tile.folded.payload) + _COPIES_OF_KEYS * len(tile.keys) + _BYTES_A_TILE for tile in tiles)
        """Memory that it takes, roughly."""

    def cover(self, spans: Sequence[Span], known_us: int, avoid: Sequence[Span]) -> tuple[list[Tile], list[Span]]:
        """Return the tiles inside of spans that are known at a time, and what they leave of the spans, both in order.

        Args:
            spans: spans in order; no tile that is returned reaches over an end of one.
            known_us: a tile with an event known later is not used.
            avoid: spans in order that no tile may touch.
        """
        tiles: list[Tile] = []
        left: list[Span] = []
        clear: list[Span] = []
        for span in spans:
            cut = inside(span, avoid)
            left += cut
            clear += gaps(span, cut)
        for level in self._levels:
            rest: list[Span] = []
            for span in clear:
                found = level.inside(span, known_us)
                tiles += found
                rest += gaps(span, found)
            clear = rest
        return sorted(tiles), sorted([*left, *clear])

    def unseen(self, rows: Iterable[Any], avoid: Sequence[Span]) -> list[bytes]:
        """Return the keys of events, as rows of time and key, that lie in no tile, or in one that is avoided."""
        level = self._levels[-1]
        return [key for time_us, key, *_ in rows if not level.holds(time_us) or _holds(avoid, time_us)]

    def with_keys(self, keys: Iterable[bytes]) -> list[Span]:
        """Return the spans of the tiles that have an event of one of some keys, in order."""
        wanted = np.frombuffer(key_hashes(keys), "<u8")
        first, end = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        found = [self._owners[each[0] : each[1]] for each in zip(first, end, strict=True) if each[0] < each[1]]
        return self._spans(np.concatenate(found)) if found else []

    def _spans(self, owners: np.ndarray) -> list[Span]:
        return [Span(*self.tiles[at].folded[:2]) for at in np.unique(owners).tolist()]


class _Level:
    """The tiles of one size, in order."""

    def __init__(self, tiles: list[FoldedTile], parts: list[list[FoldedTile]]) -> None:
        self.tiles = tiles
        self.parts = parts
        """Of each tile those that it was made of."""
        self._starts = [tile.start_us for tile in tiles]

    def inside(self, span: Span, known_us: int) -> list[Tile]:
        at, found = bisect_left(self._starts, span.start_us), []
        for tile in self.tiles[at : bisect_left(self._starts, span.end_us)]:
            if tile.end_us <= span.end_us and tile.known_us <= known_us:
                found.append(Tile(tile.start_us, tile.end_us, tile.last_us, tile.payload))
        return found

    def between(self, span: Span) -> list[FoldedTile]:
        return self.tiles[bisect_left(self._starts, span.start_us) : bisect_left(self._starts, span.end_us)]

    def holds(self, time_us: int) -> bool:
        at = bisect_right(self._starts, time_us) - 1
        return at >= 0 and time_us < self.tiles[at].end_us


def key_hashes(keys: Iterable[bytes]) -> bytes:
    """Return the hashes of events' keys, 8 bytes each."""
    return b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)


def _merged(tiles: list[FoldedTile], plan: TilePlan, fan_out: int, before: _Level | None) -> _Level:
    below = _Level(tiles, [])
    kept: list[tuple[FoldedTile, list[FoldedTile]]] = []
    if before is not None:
        pairs = zip(before.tiles, before.parts, strict=True)
        kept = [(tile, parts) for tile, parts in pairs if below.between(Span(*tile[:2])) == parts]
    made = [Span(*tile[:2]) for tile, _ in kept]
    for span in tile_groups([Span(*tile[:2]) for tile in tiles], made, fan_out):
        parts = below.between(span)
        payload = plan.merge([part.payload for part in parts])
        kept.append((FoldedTile(*span, *merged_us(parts), payload), parts))
    kept.sort(key=lambda each: each[0].start_us)
    return _Level([tile for tile, _ in kept], [parts for _, parts in kept])


def _holds(spans: Iterable[Span], time_us: int) -> bool:
    return any(start_us <= time_us < end_us for start_us, end_us in spans)
