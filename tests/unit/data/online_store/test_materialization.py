"""Materialization: the latest row of each entity reaches the store, whatever the order and however often."""

import asyncio
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import ConfigError, DataError
from data.online_store.entity_tally import EntityTotals
from data.online_store.left_out import Reason
from data.online_store.materialization import check_source, online_columns, packer, write
from data.online_store.row_codec import OnlineRow, RowCodec
from data.online_store.sqlite import SqliteStore
from data.schema.use_case import parse_use_case
from data.sources.parquet import open_source
from data.transform.event_time import DAY_US

_HEAD = 'name = "orders"\nlabel = "y"\nmaterialized = { every = "1d" }\n'
_TOML = (
    _HEAD
    + """event_time = "at"
entity = { column = "user", ttl = "30d" }
[features]
spent = { type = "number", source = "online" }
count = { type = "integer", source = "either" }
shop = { type = "category", source = "online" }
amount = { type = "number" }
"""
)
_USE_CASE = parse_use_case(_TOML, "orders.toml")
_NOW_US = 1_767_225_600_000_000
_CODEC = RowCodec(_USE_CASE.schema_)


def _write(folder, group=2, **changes):
    columns = {
        "user": ["a", "b", "a", None, "c", "d"],
        "at": pa.array([_NOW_US - us for us in (50, 40, 30, 20, -2 * DAY_US, 10)], pa.timestamp("us")),
        "spent": [1.0, 2.0, 3.0, 4.0, 5.0, None],
        "count": [1, 2, 0, 4, 5, 6],
        "shop": ["x", "y", "ü", "z", "z", None],
    }
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns | changes), folder / "a.parquet", row_group_size=group)
    return open_source(folder)


def _materialize(source, store, use_case=_USE_CASE):
    done = write(_packed(source, use_case), store, lambda _: None)
    assert done.rows == source.rows == done.entities.entities + done.superseded + done.left_out.count
    return done


def _packed(source, use_case=_USE_CASE):
    return each_block_here(parquet_pieces(source, online_columns(use_case)), packer(source, use_case, _NOW_US))


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
    assert done.entities == EntityTotals(written=3)
    assert (done.superseded, done.left_out[Reason.WITHOUT_ENTITY].names) == (1, ("a.parquet row 3",))
    assert _stored(store, "a", "b", "d", "nobody") == [
        OnlineRow(_NOW_US - 30, (3.0, 0, "ü")),
        OnlineRow(_NOW_US - 40, (2.0, 2, "y")),
        OnlineRow(_NOW_US - 10, (None, 6, None)),
        None,
    ]


def test_rows_left_out_are_counted_and_named(tmp_path, store):
    """Rows without entity or time, from the future, or past the ttl are left out, counted by reason and named."""
    times = [_NOW_US - 50, None, _NOW_US - 30, _NOW_US - 20, _NOW_US + 2 * DAY_US, _NOW_US - 40 * DAY_US]
    source = _write(tmp_path / "t", user=["a", "b", " ", None, "c", "d"], at=pa.array(times, pa.timestamp("us")))
    done = _materialize(source, store)
    assert {reason: (rows.count, rows.names) for reason, rows in done.left_out.by_reason.items() if rows.count} == {
        Reason.WITHOUT_ENTITY: (2, ("a.parquet row 2", "a.parquet row 3")),
        Reason.WITHOUT_TIME: (1, ("a.parquet row 1",)),
        Reason.FUTURE: (1, ("a.parquet row 4",)),
        Reason.EXPIRED: (1, ("a.parquet row 5",)),
    }
    assert done.entities == EntityTotals(written=1)
    assert _stored(store, "b", "c", "d", " ", "") == [None] * 5


def test_row_is_named_by_its_place_in_its_file(tmp_path, store):
    """In a folder a row left out is named by the file inside it and the row number there."""
    (tmp_path / "t").mkdir()
    _write(tmp_path / "t")
    _write(tmp_path / "t" / "day2", user=["a", "", "b", "\t", "", "\u3000"])
    done = _materialize(open_source(tmp_path / "t"), store)
    assert done.left_out[Reason.WITHOUT_ENTITY].count == 5
    assert done.left_out[Reason.WITHOUT_ENTITY].names == (
        "a.parquet row 3",
        "day2/a.parquet row 1",
        "day2/a.parquet row 3",
    )


def test_keys_that_are_no_integers_are_counted_and_named(tmp_path, store):
    """Of an integer entity those rows are left out whose key is not an integer as it is written."""
    case = parse_use_case(_TOML.replace('column = "user"', 'column = "user", type = "integer"'), "orders.toml")
    done = _materialize(_write(tmp_path / "t", user=["17", "018", "+5", "1e3", " 17", None]), store, use_case=case)
    assert done.left_out[Reason.WRONG_ENTITY].count == 4
    assert done.left_out[Reason.WRONG_ENTITY].names == tuple(f"a.parquet row {row}" for row in (1, 2, 3))
    assert done.left_out[Reason.WITHOUT_ENTITY].count == 1
    assert _stored(store, "17", "18", "018", "5", "1000")[1:] == [None] * 4


def test_correction_in_a_later_run_wins(tmp_path, store):
    """Rows with the event times of stored ones replace them, whatever their values; the same again change nothing."""
    for spent in ([9.0] * 6, [10.0] * 6, [2.0] * 6):
        done = _materialize(_write(tmp_path / "t", spent=spent), store)
        assert done.entities == EntityTotals(written=3)
        assert [row.values[0] for row in _stored(store, "a", "b", "d")] == spent[:3]
    assert _materialize(_write(tmp_path / "t", spent=spent), store).entities == EntityTotals(unchanged=3)
    earlier = pa.array([_NOW_US - 100] * 6, pa.timestamp("us"))
    done = _materialize(_write(tmp_path / "t", at=earlier, user=list("aabddd"), shop=["x"] * 6), store)
    assert (done.entities.older, done.superseded) == (3, 3)


@pytest.mark.parametrize("group", [1, 2, 6])
def test_last_of_rows_with_one_event_time_is_stored(tmp_path, store, group):
    """Of an entity's rows of one moment the last in the table is stored and the others counted, however it is cut."""
    source = _write(
        tmp_path / "t",
        group=group,
        user=["a", "b", "a", "a", "a", "b"],
        at=pa.array([_NOW_US - 5] * 6, pa.timestamp("us")),
        spent=[2.0, 7.0, 1.0, 1.0, 2.0, 7.0],
        count=[0] * 6,
        shop=["x"] * 6,
    )
    done = _materialize(source, store)
    assert [row.values[0] for row in _stored(store, "a", "b")] == [2.0, 7.0]
    assert (done.entities.written, done.superseded, done.entities.conflicting) == (2, 4, 2)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_repetition_change_nothing(tmp_path, store, seed):
    """Chunks packed in any order, and written twice, give the same store, and nothing is written the second time."""
    rng = random.Random(seed)
    users, times = [f"u{rng.randrange(20)}" for _ in range(200)], [_NOW_US - rng.randrange(30) for _ in range(200)]
    source = _write(
        tmp_path / "t",
        user=users,
        at=pa.array(times, pa.timestamp("us")),
        spent=[rng.random() for _ in users],
        count=[rng.randrange(5) for _ in users],
        shop=[rng.choice("xyz") for _ in users],
    )
    _materialize(source, store)
    first = _stored(store, *sorted(set(users)))
    again = _materialize(source, store)
    assert again.entities.unchanged + again.entities.written == len(set(users))
    assert _stored(store, *sorted(set(users))) == first
    assert [row.event_us for row in first] == [
        max(t for u, t in zip(users, times, strict=True) if u == user) for user in sorted(set(users))
    ]
    other = SqliteStore(tmp_path / "other.db", _USE_CASE.view, create=True)
    _materialize(source, other)
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
        list(_packed(source))


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
