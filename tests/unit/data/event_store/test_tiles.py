"""Tiles of the SQLite event store: what is read from them equals what is read from the events, to the last bit."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import DamagedRow
from data.event_store import OwnEvent, RowEvents, RowQuery
from data.event_store.sqlite.event_file import EventFile
from data.event_store.sqlite.event_table import EventTable, FiledSource
from data.event_store.sqlite.followed_table import FollowedTable
from data.event_store.sqlite.store import SqliteEvents
from data.event_store.sqlite.tile_maker import TileMaker
from data.event_store.sqlite.tile_table import Place, TileTable
from data.event_store.tile_making import TileJob, TileRules, TileWork
from data.event_store.tile_spans import Span, tile_groups
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.kernel.event_arrays import Events, Moments, Values
from data.feature_views.kernel.windows import windows
from data.feature_views.online.online_windows import WindowPlan
from data.schema.events.event_source import EventSource
from data.schema.features.expression import parse_condition
from data.schema.features.window_feature import Aggregate, WindowFeature
from tests.support.environment.waiting import wait_for

_VALUES = {"amount": {"decimals": 2}, "kind": {"type": "integer"}}
SOURCES = {
    "plain": EventSource.model_validate({"entities": ["card"], "values": _VALUES, "record": True}),
    "delayed": EventSource.model_validate({"entities": ["card"], "values": _VALUES, "delay": "2s"}),
    "known": EventSource.model_validate(
        {"entities": ["card"], "values": _VALUES, "key": "id", "time": "at", "known_at": "known"}
    ),
}
SECOND = 1_000_000
CODEC = EventCodec(SOURCES["plain"])
FILED = {name: FiledSource(f"tiles.{name}@{source.fingerprint}", len(CODEC.names)) for name, source in SOURCES.items()}
SMALL = TileRules(hot=4, events=2, fan_out=2, settle_us=0)
NEVER = TileRules(hot=10**9, events=10**9, fan_out=10**9)


def _features() -> list[WindowFeature]:
    found = []
    for source, aggregate in itertools.product(SOURCES, Aggregate):
        of = ("kind" if aggregate is Aggregate.DISTINCT else "amount") if aggregate.reads_value else None
        shapes = [(30, 0, None, False), (9, 0, "kind > 1", True), (7, 3, "amount <= 10", False)]
        for window, delay, where, with_current in shapes:
            condition = parse_condition(where) if where else None
            name = f"{source} {aggregate.value} {window}"
            spans = (window * SECOND, max(delay * SECOND, SOURCES[source].delay_us))
            found.append(WindowFeature(name, aggregate, *spans, source, "card", of, condition, with_current))
    return found


PLAN = WindowPlan(_features(), SOURCES)
UNTILED = tuple(each._replace(tiles=None) for each in PLAN.slices)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "events.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteEvents]:
    """An empty store that reads tiles and makes none by itself."""
    with closing(SqliteEvents(file, "tiles", SOURCES, create=True, rules=NEVER)) as made:
        yield made


def made(key: str, card: str, time_us: int, known_us: int, amount: int | None = 100, kind: int = 0) -> Event:
    """An event of a card."""
    return Event(event_key(key), time_us, max(known_us, time_us), (card,), CODEC.pack([amount, kind, card]))


def read(store: SqliteEvents, row: RowQuery, *, tiled: bool = True) -> RowEvents:
    """Read what a row's windows need, with or without tiles."""
    return asyncio.run(store.fetch(PLAN.slices if tiled else UNTILED, [row]))[0]


def computed(row: RowQuery, found: RowEvents) -> list[str]:
    """Every window of a row, to the bit, with its number of events."""
    values = PLAN.compute(found.events, found.time_us, row.key, row.own, found.tiles)
    return [f"{each.value!r} of {each.events}" for each in values]


def folded(file: Path, card: str, first_us: int, end_us: int, rules: TileRules = SMALL) -> TileWork:
    """Make the tiles of a card in a span of time, for every source."""
    work = TileWork()
    with closing(FollowedTable(EventFile(file, 10.0), FILED, 10.0)) as following:
        for each in PLAN.slices:
            assert each.tiles is not None
            place = following.get().place(each.source, 0, card, each.tiles.fingerprint)
            job = TileJob(place, each.tiles, Span(first_us, end_us))
            TileMaker(following, rules, work, lambda _: None).make(job)
    return work


counter = itertools.count()
BASE = 1_700_000_000 * SECOND


@pytest.fixture(scope="module")
def cache() -> dict[str, Any]:
    """Keeps one open store across the examples of a property."""
    return {}


_TIMES = st.integers(0, 40).map(lambda at: at * SECOND // 2)
_AMOUNTS = st.none() | st.integers(-2000, 2000) | st.sampled_from([2**52, -(2**52)])
_EVENT = st.tuples(st.integers(0, 40), _TIMES, st.integers(0, 9), _AMOUNTS, st.integers(0, 3))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_tiles_change_no_bit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, cache: dict[str, Any]):
    """Whatever is appended, revised, removed and folded in whatever order: windows from tiles, from events and of the
    offline kernel are the same, with ties, late events, delays, `known_at`, conditions and events of the row's own."""
    if not cache:
        cache["file"] = tmp_path_factory.mktemp("tiles") / "events.db"
        cache["store"] = SqliteEvents(cache["file"], "tiles", SOURCES, create=True, rules=NEVER)
    store, file, card = cache["store"], cache["file"], f"card {next(counter)}"
    base = BASE + int(card[5:]) * 1000 * SECOND
    _append(store, card, base, data.draw(st.lists(_EVENT, min_size=10, max_size=30)))
    folded(file, card, base - SECOND, base + 21 * SECOND)
    for step in data.draw(st.lists(st.sampled_from(["append", "fold", "expire", "row"]), min_size=2, max_size=6)):
        moment = base + data.draw(_TIMES)
        if step == "append":
            _append(store, card, base, data.draw(st.lists(_EVENT, min_size=1, max_size=4)))
        elif step == "fold":
            folded(file, card, base + data.draw(_TIMES) - SECOND, moment)
        elif step == "expire":
            _expire(file, base + data.draw(_TIMES) // 2)
        else:
            _check_row(store, card, base, moment, f"{card}/{data.draw(st.integers(0, 41))}")
    for at in range(6, 25, 6):
        _check_row(store, card, base, base + at * SECOND, f"{card}/{data.draw(st.integers(0, 41))}")


def _expire(file: Path, before_us: int) -> None:
    with closing(EventFile(file, 10.0).connect(10.0)) as connection:
        table = EventTable(connection, FILED)
        with table.transaction():
            table.drop("plain", [key for key, old in table.ages("plain", before_us, b"", 10_000) if old], before_us)


def _append(store: SqliteEvents, card: str, base: int, drawn: Sequence[tuple[int, int, int, int | None, int]]) -> None:
    for (key, time_us, late, amount, kind), source in itertools.product(drawn, SOURCES):
        known_us = base + time_us + (late * SECOND if source == "known" else SOURCES[source].delay_us)
        store.append(source, [made(f"{card}/{key}", card, base + time_us, known_us, amount, kind)])


def _check_row(store: SqliteEvents, card: str, base: int, time_us: int, key: str) -> None:
    itself = made(key, card, time_us, time_us, 700, 2)
    for own in ((), (OwnEvent("plain", itself, False),)):
        row = RowQuery(event_key(key), time_us, (card,) * len(PLAN.slices), own)
        untiled = read(store, row, tiled=False)
        assert not untiled.tiles
        expected = computed(row, untiled)
        assert computed(row, read(store, row)) == expected
        if not own:
            assert [each.split(" of ")[0] for each in expected] == _offline(untiled, row.key, time_us)


def _offline(found: RowEvents, key: bytes, time_us: int) -> list[str]:
    """The windows of a row by the offline kernel."""
    values: dict[str, float] = {}
    for wanted, events in zip(PLAN.slices, found.events, strict=True):
        columns = [CODEC.unpack(event.payload) for event in events]
        order = sorted({key, *(event.key for event in events)})
        amounts, kinds = ([row[at] for row in columns] for at in (0, 1))
        held = Events(
            {"card": np.zeros(len(events), np.int64)},
            np.array([event.time_us for event in events], np.int64),
            np.array([order.index(event.key) for event in events], np.int64),
            {
                "amount": Values(
                    np.array([each or 0 for each in amounts], np.int64),
                    np.array([each is None for each in amounts], bool),
                    2,
                ),
                "kind": Values(np.array(kinds, np.int64), np.zeros(len(kinds), bool)),
            },
            np.array([event.known_us for event in events], np.int64) if wanted.source == "known" else None,
            SOURCES[wanted.source].delay_us,
        )
        features = [each for each in PLAN.features if each.source == wanted.source]
        moments = Moments(
            {"card": np.zeros(1, np.int64)}, np.array([time_us], np.int64), np.array([order.index(key)], np.int64)
        )
        values |= {name: float(column[0]) for name, column in windows(held, moments, features).items()}
    return [repr(values[each.name]) for each in PLAN.features]


def _row(card: str, time_us: int, *own: OwnEvent) -> RowQuery:
    return RowQuery(event_key("~"), time_us, (card,) * len(PLAN.slices), own)


def _many(card: str, count: int, base: int = BASE) -> list[Event]:
    return [made(f"{card}/{at}", card, base + at * SECOND // 10, 0, at, at % 5) for at in range(count)]


def _is_small(found: RowEvents) -> bool:
    return sum(map(len, found.events)) < 20 and sum(map(len, found.tiles)) < 60


def test_a_hot_entity_gets_tiles_by_itself(file: Path):
    """A read that finds many events has tiles made in the background; later reads take few events, and see the same."""
    row = _row("c", BASE + 30 * SECOND)
    with closing(SqliteEvents(file, "tiles", SOURCES, create=True, rules=SMALL)) as store:
        store.append("plain", _many("c", 300))
        expected = computed(row, read(store, row, tiled=False))
        assert computed(row, read(store, row)) == expected
        wait_for(lambda: _is_small(read(store, row)), "the tiles of every level to be made")
        assert computed(row, read(store, row)) == expected
        work = store.tile_work
        assert work.events_folded <= 300 < 2 * work.tiles_folded
        assert work.tiles_read
        assert work.fold_seconds > 0


def test_events_of_the_rows_instant_are_in_no_tile(store: SqliteEvents, file: Path):
    """Where the order of keys decides, events are looked at, though a tile has just this instant."""
    instant = [made(f"c/{at}", "c", BASE, 0, at) for at in range(8)]
    store.append("plain", [*instant, *(each._replace(time_us=each.time_us - SECOND) for each in _many("d", 5))])
    folded(file, "c", BASE, BASE + 1)
    row = _row("c", BASE)._replace(key=event_key("c/5"))
    assert computed(row, read(store, row)) == computed(row, read(store, row, tiled=False))
    assert [value.events for value in PLAN.compute(read(store, row).events, BASE, row.key)][:1] == [5]


def test_a_late_event_takes_away_the_tiles_over_it_and_no_others(store: SqliteEvents, file: Path):
    """They are made again from the events that are there then; the tiles beside them stay."""
    store.append("plain", _many("c", 64))
    first = folded(file, "c", BASE - SECOND, BASE + 7 * SECOND)
    assert (first.tiles_folded, first.events_folded) == (56, 64)
    store.append("plain", [made("late", "c", BASE + 3 * SECOND + 5, 0)])
    row = _row("c", BASE + 20 * SECOND)
    assert computed(row, read(store, row)) == computed(row, read(store, row, tiled=False))
    again = folded(file, "c", BASE - SECOND, BASE + 7 * SECOND)
    assert (again.tiles_folded, again.events_folded) == (3, 3)
    assert computed(row, read(store, row)) == computed(row, read(store, row, tiled=False))


def test_tiles_of_other_declarations_are_not_read(store: SqliteEvents, file: Path):
    """A window feature that is added has tiles of its own, and those of before are dropped."""
    store.append("plain", _many("c", 64))
    folded(file, "c", BASE, BASE + 7 * SECOND)
    fewer = WindowPlan([each for each in PLAN.features if each.aggregate is not Aggregate.STD], SOURCES)
    row = _row("c", BASE + 9 * SECOND)
    assert read(store, row).tiles
    assert not asyncio.run(store.fetch(fewer.slices, [row]))[0].tiles
    longer = WindowPlan([each._replace(window_us=each.window_us + SECOND) for each in PLAN.features], SOURCES)
    assert asyncio.run(store.fetch(longer.slices, [row]))[0].tiles
    plain, tiles = fewer.slices[0], PLAN.slices[0].tiles
    assert plain.tiles is not None
    assert tiles is not None
    with closing(EventFile(file, 1.0).connect(1.0)) as connection, connection:
        table = TileTable(connection)
        number = connection.execute("SELECT source FROM tile_lines").fetchone()[0]
        table.make_lines(Place(number, 0, "c", plain.tiles.fingerprint))
        assert not table.lines(Place(number, 0, "c", tiles.fingerprint))
        assert connection.execute("SELECT count(*) FROM tiles").fetchone() == (0,)


def test_a_file_from_before_there_were_tiles(store: SqliteEvents, file: Path):
    """Opened without `create` its hot entities are read event by event; opened with it they get tiles."""
    store.append("plain", _many("c", 64))
    store.close()
    with closing(EventFile(file, 1.0).connect(1.0)) as connection:
        connection.execute("DROP TABLE tile_lines")
    row = _row("c", BASE + 9 * SECOND)
    with closing(SqliteEvents(file, "tiles", SOURCES, rules=NEVER)) as old:
        assert len(read(old, row).events[0]) == 64
        assert folded(file, "c", BASE, BASE + 9 * SECOND).tiles_folded == 0
    with closing(SqliteEvents(file, "tiles", SOURCES, create=True, rules=NEVER)) as new:
        assert folded(file, "c", BASE, BASE + 9 * SECOND).tiles_folded
        assert read(new, row).tiles


def test_a_damaged_event_is_in_no_tile(store: SqliteEvents, file: Path):
    """It is reported by a row that reads it, as without tiles; rows that do not need it are answered."""
    events = _many("c", 64)
    events[20] = events[20]._replace(payload=b"\xc1")
    store.append("plain", events)
    assert folded(file, "c", BASE, BASE + 7 * SECOND).tiles_folded
    with pytest.raises(DamagedRow):
        computed(_row("c", BASE + 9 * SECOND), read(store, _row("c", BASE + 9 * SECOND)))
    later = _row("c", BASE + 33 * SECOND)
    assert computed(later, read(store, later)) == computed(later, read(store, later, tiled=False))


_APPENDER = """
import json, sys
from contextlib import closing
from data.event_store.sqlite.store import SqliteEvents
from data.feature_views.events.event import Event, EventCodec, event_key
from data.schema.events.event_source import EventSource

sources = {name: EventSource.model_validate(each) for name, each in json.loads(sys.argv[2]).items()}
codec, base, second = EventCodec(sources["known"]), int(sys.argv[3]), 1_000_000
with closing(SqliteEvents(sys.argv[1], "tiles", sources)) as store:
    for at in range(150):
        # Everywhere in twenty seconds, so that most fall into a tile; every third is a revision that moves another.
        key, time_us = event_key(at - 2 if at % 3 == 2 else at), base + at * 7919 % 200 * second // 10
        event = Event(key, time_us, base + 20 * second + at, ("c",), codec.pack([at, 0, "c"]))
        store.append("known", [event])
"""


def test_one_process_appends_while_another_folds(store: SqliteEvents, file: Path):
    """Reads see each event once, and the last one everything: no tile misses an event."""
    said = json.dumps({name: each.model_dump(mode="json", exclude_unset=True) for name, each in SOURCES.items()})
    command = [sys.executable, "-c", _APPENDER, str(file), said, str(BASE)]
    row, counts, tiles = _row("c", BASE + 25 * SECOND), [], 0
    at = next(at for at, each in enumerate(PLAN.features) if each.name == "known count 30")
    with subprocess.Popen(command, cwd=Path(__file__).parents[4]) as child:
        while child.poll() is None:
            folded(file, "c", BASE + 10 * SECOND - 1, BASE + 20 * SECOND)
            found = read(store, row)
            tiles += sum(map(len, found.tiles))
            counts.append(PLAN.compute(found.events, found.time_us, row.key, (), found.tiles)[at].events)
    assert child.returncode == 0
    assert tiles
    assert computed(row, read(store, row)) == computed(row, read(store, row, tiled=False))
    assert counts == sorted(counts)
    assert counts[-1] <= 100


@pytest.mark.parametrize(
    ("parts", "made_before", "expected"),
    [
        (range(7), [], [(0, 2), (2, 4), (4, 6)]),
        (range(7), [(6, 7)], [(0, 2), (2, 4), (4, 6)]),
        (range(7), [(5, 7)], [(0, 2), (2, 5)]),
        (range(7), [(0, 2), (3, 5)], [(2, 3), (5, 7)]),
        ([0, 1, 3, 4, 5], [], [(0, 2), (3, 5)]),
        ([0, 2, 3], [(2, 4)], []),
    ],
)
def test_which_tiles_are_made_one(parts: Sequence[int], made_before: list[tuple[int, int]], expected: list):
    """Those that adjoin, two together or three before one that is there; at the end, and before a hole, two only."""
    spans = [Span(at, at + 1) for at in parts]
    assert [*tile_groups(spans, [Span(*each) for each in made_before], 2)] == expected
