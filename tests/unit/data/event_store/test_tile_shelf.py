"""The tiles of a hot entity in memory, and the marks that say which of them count."""

from __future__ import annotations

import itertools

import pytest

from data.event_store.cassandra.hot_entities import HotEntities, HotEntity
from data.event_store.cassandra.late_marks import DAY_US, EntityPlace, Marks
from data.event_store.cassandra.tile_rows import HotPlace
from data.event_store.cassandra.tile_shelf import KeyedTile, TileShelf, key_hashes
from data.event_store.tile_spans import FoldedTile, Span, inside
from data.feature_views.online.stored_events import StoredEvent
from data.feature_views.online.tiles import TilePlan
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import Aggregate, WindowFeature

SOURCE = EventSource.model_validate({"entities": ["shop"], "values": ["amount"]})
PLAN = TilePlan(
    [WindowFeature("n", Aggregate.COUNT, 100, 0, "swipes", "shop", None, None, False)],
    SOURCE,
)
CELL_US = DAY_US // 288


def tile(start_us: int, *keys: str, known_us: int = 0) -> KeyedTile:
    """A tile of ten microseconds with events of some keys."""
    events = [StoredEvent(start_us + at, key.encode(), 0, b"\x92\xc0\xa1s") for at, key in enumerate(keys)]
    folded = FoldedTile(start_us, start_us + 10, start_us + len(keys) - 1, known_us, PLAN.fold(events))
    return KeyedTile(folded, key_hashes(each.key for each in events), b"")


def shelf(count: int, before: TileShelf | None = None, **others: KeyedTile) -> TileShelf:
    """A shelf of adjoining tiles, two of which make one."""
    tiles = [others.get(f"t{at}", tile(10 * at, f"{at}a", f"{at}b")) for at in range(count)]
    return TileShelf(tiles, PLAN, 2, before)


def sizes(covered: tuple[list, list[Span]]) -> tuple[list[int], list[Span]]:
    """How long each tile is, and what is left."""
    return [each.end_us - each.start_us for each in covered[0]], covered[1]


def test_the_largest_tiles_inside_are_taken():
    """Four in one where they fit, then two, then one; what lies at the ends is left."""
    assert sizes(shelf(9).cover([Span(5, 88)], 0, [])) == ([10, 20, 40], [Span(5, 10), Span(80, 88)])


@pytest.mark.parametrize(
    ("avoid", "expected"),
    [
        ([Span(11, 12)], ([10, 20, 40], [Span(10, 20)])),
        ([Span(10, 20), Span(70, 75)], ([10, 20, 20, 10], [Span(10, 20), Span(70, 80)])),
    ],
)
def test_no_tile_touches_what_is_avoided(avoid: list[Span], expected: tuple[list[int], list[Span]]):
    """Smaller ones beside it are taken in place of a large one."""
    lengths, left = sizes(shelf(8).cover([Span(0, 80)], 0, avoid))
    assert lengths == expected[0]
    assert all(any(inside(span, [each]) for each in left) for span in avoid)
    assert sum(lengths) + sum(end - start for start, end in left) == 80


def test_a_tile_that_is_not_known_yet_is_left():
    """Its neighbours are taken by themselves."""
    late = shelf(4, t2=tile(20, "x", known_us=99))
    assert sizes(late.cover([Span(0, 40)], 50, [])) == ([20, 10], [Span(20, 30)])
    assert sizes(late.cover([Span(0, 40)], 99, [])) == ([40], [])


def test_tiles_that_share_a_key_are_disputed():
    """Within the shelf by themselves, with events beside it when these are looked at."""
    assert shelf(4).disputed == []
    assert shelf(6, t1=tile(10, "k"), t4=tile(40, "k", "m")).disputed == [Span(10, 20), Span(40, 50)]
    held = shelf(3)
    rows = [(25, b"2b"), (30, b"1a"), (31, b"new")]
    assert held.unseen(rows, []) == [b"1a", b"new"]
    assert held.unseen(rows, [Span(20, 30)]) == [b"2b", b"1a", b"new"]
    assert held.with_keys([b"1a", b"new"]) == [Span(10, 20)]
    assert held.with_keys([]) == shelf(0).with_keys([b"1a"]) == []


def test_larger_tiles_are_taken_over():
    """Where all parts are the same the larger tile is the same object; where one is another it is made again."""
    first = shelf(8)
    again = shelf(9, first, t5=tile(50, "5a"))
    pairs = itertools.product(first.cover([Span(0, 80)], 0, [])[0], again.cover([Span(0, 80)], 0, [])[0])
    assert [(one.start_us, one.end_us) for one, two in pairs if one.payload is two.payload] == [(0, 40)]
    assert sizes(again.cover([Span(0, 90)], 0, [])) == ([40, 40, 10], [])


def test_a_mark_changes_the_digest_of_the_tiles_over_it():
    """Of one cell, of a whole day and of another registration; of no tile beside it."""
    registered = [(0, -(2**40), 0, "w", 7)]
    none, one = Marks(registered), Marks([*registered, (0, 2, 0, "w", 9), (1, 2, 3, "w", 9)])
    over, beside = Span(2 * DAY_US, 2 * DAY_US + 4 * CELL_US), Span(2 * DAY_US, 2 * DAY_US + 3 * CELL_US)
    assert one.digest(over) != none.digest(over) != Marks().digest(over)
    assert one.digest(beside) == none.digest(beside)
    assert (one.youngest_us(over), one.youngest_us(beside)) == (9, 0)
    whole = Marks([*registered, (0, 2, 0, "w", 9), (1, 2, 288, "w", 9)])
    assert whole.digest(beside) != none.digest(beside)
    assert none.changed(2, one) == [Span(2 * DAY_US + 3 * CELL_US, 2 * DAY_US + 4 * CELL_US)]
    assert whole.changed(2, one) == [
        Span(2 * DAY_US, 3 * DAY_US),
        Span(2 * DAY_US + 3 * CELL_US, 2 * DAY_US + 4 * CELL_US),
    ]


def test_what_is_seen_of_marks_is_looked_at_once():
    """A day whose marks have changed is to be looked at until it was, and then when it changes again."""
    entity = HotEntity(shelf(4), Marks([(0, 1, 0, "a", 5), (1, 1, 0, "a", 5)]), 0)
    same, other = Marks([(0, 1, 0, "a", 5)]), Marks([(0, 1, 0, "a", 5), (0, 1, 0, "b", 4)])
    assert entity.changed_days(same) == []
    assert entity.changed_days(other) == [1]
    entity.note([1], other, Marks([(1, 1, 0, "a", 5), (1, 1, 2, "b", 4)]))
    assert entity.changed_days(other) == []
    assert entity.avoid == [Span(DAY_US + 2 * CELL_US, DAY_US + 3 * CELL_US)]
    assert entity.changed_days(same) == [1]


def test_the_entities_read_last_are_kept(monkeypatch: pytest.MonkeyPatch):
    """As many as fit into the memory that there is for them; one by itself always."""
    held = HotEntities()
    places = [HotPlace(EntityPlace("swipes", "shop", f"{at}"), "p") for at in range(3)]
    one = HotEntity(shelf(4), Marks(), 0)
    monkeypatch.setattr("data.event_store.cassandra.hot_entities._MOST_BYTES", 2 * one.shelf.bytes)
    for place in places[:2]:
        held.put(place, one)
    assert held.get(places[0]) is one
    held.put(places[2], one)
    assert [held.get(place) is one for place in places] == [True, False, True]
    held.drop(places[0])
    assert held.get(places[0]) is None
