"""One type for a column of several files: what widens without loss is read, the rest refused with file and column."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.sources.parquet import read_table


def table_of(folder: Path, *columns: pa.Array) -> pa.Table:
    """Read a table of one column from files that hold one of the arrays each."""
    for number, column in enumerate(columns):
        pq.write_table(pa.table({"x": column}), folder / f"{number}.parquet")
    return read_table(folder)


_MONEY = pa.decimal128(5, 2)
_LONG = pa.decimal128(38, 30)
_WORDS = pa.array(["b", None]).dictionary_encode()
_SMALL_WORDS = pa.array(["b"], pa.dictionary(pa.int8(), pa.string()))


@pytest.mark.parametrize(
    ("columns", "kind", "values"),
    [
        ([pa.nulls(2), pa.array([1])], pa.int64(), [None, None, 1]),
        ([pa.array(["a"]), pa.nulls(1)], pa.string(), ["a", None]),
        ([pa.array([1], pa.int8()), pa.array([2], pa.int64())], pa.int64(), [1, 2]),
        ([pa.array([200], pa.uint8()), pa.array([-1], pa.int8())], pa.int16(), [200, -1]),
        ([pa.array([5], pa.uint64()), pa.array([-5], pa.int64())], pa.int64(), [5, -5]),
        ([pa.array([1], pa.int32()), pa.array([0.5])], pa.float64(), [1.0, 0.5]),
        ([pa.array([2**53]), pa.array([0.5])], pa.float64(), [2.0**53, 0.5]),
        ([pa.array([0.1], pa.float32()), pa.array([0.1])], pa.float64(), [float(np.float32(0.1)), 0.1]),
        ([pa.array(np.array([0.5], np.float16))], pa.float32(), [0.5]),
        (
            [pa.array([7, -(2**63)]), pa.array(["1.25"]).cast(_MONEY)],
            pa.decimal128(22, 2),
            [7, -(2**63), Decimal("1.25")],
        ),
        ([pa.array(["1.25"]).cast(_MONEY), pa.array([7], pa.int8())], _MONEY, [Decimal("1.25"), 7]),
        ([pa.array([2**64 - 1], pa.uint64()), pa.array([Decimal(0)], _LONG)], pa.decimal256(50, 30), [2**64 - 1, 0]),
        ([pa.array([["a"]], pa.list_(pa.string_view())), pa.array([["b"]])], pa.list_(pa.string()), [["a"], ["b"]]),
        ([pa.array(["a"]), pa.array([], pa.int64())], pa.string(), ["a"]),
        ([pa.array([], pa.bool_()), pa.array([0.5])], pa.float64(), [0.5]),
        ([pa.array(["a"]), pa.array(["b"], pa.large_string())], pa.large_string(), ["a", "b"]),
        ([pa.array(["a"]), _WORDS], pa.string(), ["a", "b", None]),
        ([pa.array(["a"]).dictionary_encode(), _SMALL_WORDS], pa.string(), ["a", "b"]),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_types_widen_without_loss(columns: list[pa.Array], kind: pa.DataType, values: list[Any], tmp_path: Path):
    """A null type fits all, integers and floats widen, a dictionary joins plain text: every value as it was."""
    table = table_of(tmp_path, *columns)
    assert table.schema.field("x").type == kind
    assert table["x"].to_pylist() == values


def test_instants_of_several_zones_are_one_column(tmp_path: Path):
    """Times with a zone are instants: they meet in UTC, in the finer unit."""
    one, other = pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("us", "UTC")
    table = table_of(tmp_path, pa.array([1_000], one), pa.array([2_000_001], other))
    assert table["x"].cast(pa.int64()).to_pylist() == [1_000_000, 2_000_001]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1]), pa.array(["1"])),
        (pa.array([True]), pa.array([1])),
        (pa.array(["a"]), pa.array([b"a"])),
        (pa.array([0], pa.timestamp("us")), pa.array([0], pa.timestamp("us", "UTC"))),
        (pa.array([[1]]), pa.array([1])),
    ],
)
def test_types_that_share_none_are_refused(one: pa.Array, other: pa.Array, tmp_path: Path):
    """Where no type holds both, the file, the column and both types are named."""
    with pytest.raises(DataError, match=r"1\.parquet: column 'x' holds .*, but .* in 0\.parquet, and no type holds"):
        table_of(tmp_path, one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([2**53 + 1]), pa.array([0.5])),
        (pa.array([2**63], pa.uint64()), pa.array([-1])),
        (pa.array([123456789012345678]).cast(pa.decimal128(20, 0)), pa.array([0.5])),
    ],
)
def test_value_that_would_change_is_refused(one: pa.Array, other: pa.Array, tmp_path: Path):
    """The wider type may not hold one value: then the file that has it is named, and nothing is rounded."""
    with pytest.raises(DataError, match=r"0\.parquet: column 'x' holds .*, which does not fit the (double|int64)"):
        table_of(tmp_path, one, other)


_VALUES = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=3)),
    (pa.decimal128(22, 4), st.decimals(-(10**17), 10**17, places=4)),
    (pa.null(), st.none()),
]


def _column(pair: tuple[pa.DataType, st.SearchStrategy[Any]]) -> st.SearchStrategy[pa.Array]:
    kind, values = pair
    return st.lists(st.one_of(st.none(), values), min_size=1, max_size=3).map(lambda drawn: pa.array(drawn, kind))


@given(st.lists(st.sampled_from(_VALUES).flatmap(_column), min_size=1, max_size=3))
def test_any_files_are_read_to_the_last_value_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, columns: list[pa.Array]
):
    """Columns of any types in any number of files: every value equals what was written, or it is refused."""
    folder = tmp_path_factory.mktemp("t")
    try:
        table = table_of(folder, *columns)
    except DataError as exc:
        assert "column 'x'" in str(exc)
        assert ".parquet" in str(exc)
        return
    written = [value for column in columns for value in column.to_pylist()]
    for value, expected in zip(table["x"].to_pylist(), written, strict=True):
        # A decimal beside floats is read as the float that is nearest, which prints back the same.
        assert value == (type(value)(expected) if value is not None else expected)


def test_views_within_lists_and_structs_are_read(tmp_path: Path):
    """Strings that Polars writes as views can be taken and filtered, wherever they stand."""
    kind = pa.struct([("words", pa.list_(pa.string_view())), ("half", pa.float16())])
    column = pa.array([{"words": ["a", None], "half": np.float16(0.5)}, None], kind)
    table = table_of(tmp_path, column)
    assert table["x"].type == pa.struct([("words", pa.list_(pa.string())), ("half", pa.float32())])
    assert table.take([1, 0])["x"].to_pylist() == [None, {"words": ["a", None], "half": 0.5}]


def test_files_of_one_name_are_told_apart(tmp_path: Path):
    """Where both files have the same name, as in partitions, the other is named with its folder."""
    for number, value in enumerate([1, "a"]):
        (tmp_path / f"{number}").mkdir()
        pq.write_table(pa.table({"x": [value]}), tmp_path / f"{number}" / "part.parquet")
    with pytest.raises(
        DataError, match=r"1/part\.parquet: column 'x' holds string, but int64 in .*0/part\.parquet, and"
    ):
        read_table(tmp_path)
