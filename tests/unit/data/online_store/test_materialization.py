"""Materialization: the latest row of each entity reaches the store, whatever the order and however often."""

import asyncio
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import ConfigError, DataError
from data.online_store.materialization import DAY_US, check_source, online_columns, pack_rows, write
from data.online_store.row_codec import OnlineRow, RowCodec
from data.online_store.sqlite import SqliteStore
from data.schema.use_case import parse_use_case
from data.sources.parquet import open_source

_HEAD = 'name = "orders"\nlabel = "y"\n'
_USE_CASE = parse_use_case(
    _HEAD
    + """event_time = "at"
entity = { column = "user", ttl = "30d" }
[features]
spent = { type = "number", source = "online" }
count = { type = "integer", source = "either" }
shop = { type = "category", source = "online" }
amount = { type = "number" }
""",
    "orders.toml",
)
_NOW_US = 1_767_225_600_000_000
_CODEC = RowCodec(_USE_CASE.schema_)


def _write(folder, **changes):
    columns = {
        "user": ["a", "b", "a", None, "c", "d"],
        "at": pa.array([_NOW_US - us for us in (50, 40, 30, 20, -2 * DAY_US, 10)], pa.timestamp("us")),
        "spent": [1.0, 2.0, 3.0, 4.0, 5.0, None],
        "count": [1, 2, 0, 4, 5, 6],
        "shop": ["x", "y", "ü", "z", "z", None],
    }
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns | changes), folder / "a.parquet", row_group_size=2)
    return open_source(folder)


def _materialize(source, store, oldest_us=None, shuffle=0):
    blocks = _blocks(source)
    random.Random(shuffle).shuffle(blocks)
    return write((pack_rows(block, _USE_CASE, _NOW_US) for block in blocks), store, oldest_us, lambda _: None)


def _blocks(source):
    return list(each_block_here(parquet_pieces(source, online_columns(_USE_CASE)), lambda block: block))


def _stored(store, *entities):
    payloads = asyncio.run(store.get_many(entities))
    return [None if payload is None else _CODEC.unpack(payload) for payload in payloads]


@pytest.fixture
def store(tmp_path):
    """An empty SQLite store for the view."""
    opened = SqliteStore(tmp_path / "online.db", _USE_CASE.view, create=True)
    yield opened
    opened.close()


def test_latest_row_of_each_entity_is_stored(tmp_path, store):
    """Of an entity's rows the latest is stored with its raw values, nulls included."""
    done = _materialize(_write(tmp_path / "t"), store)
    assert (done.rows, done.written) == (6, 3)
    assert _stored(store, "a", "b", "d", "nobody") == [
        OnlineRow(_NOW_US - 30, (3.0, 0, "ü")),
        OnlineRow(_NOW_US - 40, (2.0, 2, "y")),
        OnlineRow(_NOW_US - 10, (None, 6, None)),
        None,
    ]


def test_rows_left_out_are_counted(tmp_path, store):
    """Rows without entity or time, from the future, or past the ttl are left out and counted by reason."""
    times = [_NOW_US - 50, None, _NOW_US - 30, _NOW_US - 20, _NOW_US + 2 * DAY_US, _NOW_US - 40 * DAY_US]
    source = _write(tmp_path / "t", at=pa.array(times, pa.timestamp("us")))
    done = _materialize(source, store, oldest_us=_NOW_US - 30 * DAY_US)
    assert (done.without_entity, done.without_time, done.future, done.expired, done.written) == (1, 1, 1, 1, 1)
    assert _stored(store, "c", "d") == [None, None]


@pytest.mark.parametrize("seed", range(5))
def test_order_and_repetition_change_nothing(tmp_path, store, seed):
    """Chunks in any order, written twice, and older data written afterwards give the same store."""
    rng = random.Random(seed)
    users, times = [f"u{rng.randrange(20)}" for _ in range(200)], [rng.randrange(30) for _ in range(200)]
    source = _write(
        tmp_path / "t",
        user=users,
        at=pa.array(times, pa.timestamp("us")),
        spent=[rng.random() for _ in users],
        count=[rng.randrange(5) for _ in users],
        shop=[rng.choice("xyz") for _ in users],
    )
    _materialize(source, store, shuffle=seed)
    first = _stored(store, *sorted(set(users)))
    _materialize(source, store, shuffle=seed + 99)
    assert _stored(store, *sorted(set(users))) == first
    assert [row.event_us for row in first] == [
        max(t for u, t in zip(users, times, strict=True) if u == user) for user in sorted(set(users))
    ]
    other = SqliteStore(tmp_path / "other.db", _USE_CASE.view, create=True)
    _materialize(source, other, shuffle=seed + 7)
    assert _stored(other, *sorted(set(users))) == first
    other.close()


def test_integer_entities_are_stored_as_text(tmp_path, store):
    """An entity column of integers is stored under the decimal text that a request sends."""
    _materialize(_write(tmp_path / "t", user=pa.array([1, 2, 1, None, 3, 4], pa.int32())), store)
    (row,) = _stored(store, "1")
    assert row == OnlineRow(_NOW_US - 30, (3.0, 0, "ü"))


def test_value_that_does_not_fit_names_file_and_column(tmp_path):
    """A fraction in an integer feature is refused with file and column."""
    source = _write(tmp_path / "t", count=[1.5] * 6)
    with pytest.raises(DataError, match=r"a\.parquet: column 'count' holds 1\.5"):
        pack_rows(_blocks(source)[0], _USE_CASE, _NOW_US)


def test_missing_column_is_refused(tmp_path):
    """A table without an online feature's column is refused before anything is written."""
    source = _write(tmp_path / "t")
    case = parse_use_case(
        _HEAD + 'event_time = "at"\nentity = {column = "user"}\n[features]\nz = {type="number", source="online"}', "o"
    )
    with pytest.raises(DataError, match="column 'z' is missing"):
        check_source(source, case)


def test_use_case_without_online_features_is_refused(tmp_path):
    """A use case that stores nothing says what it lacks."""
    case = parse_use_case(_HEAD + '[features]\nspent = { type = "number" }', "orders.toml")
    with pytest.raises(ConfigError, match="nothing to materialize"):
        check_source(_write(tmp_path / "t"), case)
