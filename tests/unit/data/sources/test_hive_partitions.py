"""Hive partitions: values in the names of folders are columns like any other."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import DataError
from data.schema.features.feature import FeatureType
from data.schema.use_case import parse_use_case
from data.sources.draft.use_case_draft import draft
from data.sources.parquet import open_source, read_table
from data.sources.row_origin import RESERVED
from data.validation.column_types import check_source
from data.validation.validation import checker, merge


def put(folder: Path, **columns: object) -> None:
    """Write a Parquet file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "0.parquet")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "20", "-3"], [-3, 1, 20]),
        (["1", "01"], ["01", "1"]),
        (["north", "__HIVE_DEFAULT_PARTITION__"], [None, "north"]),
        (["__HIVE_DEFAULT_PARTITION__", "7"], [None, 7]),
        (["a%20b", "%C3%BC%2F"], ["a b", "ü/"]),
        (["1.5", "2"], ["1.5", "2"]),
        (["99999999999999999999", "1"], ["1", "99999999999999999999"]),
        ([""], [""]),
    ],
)
def test_values_of_folders_are_a_column(values: list[str], expected: list[object], tmp_path: Path):
    """Whole numbers that print back the same are integers, everything else text as it is written, a null is a null."""
    for value in values:
        put(tmp_path / f"part={value}", x=[0])
    table = read_table(tmp_path)
    assert table.column_names == ["x", "part"]
    assert sorted(table["part"].to_pylist(), key=lambda value: (value is not None, value)) == expected


def test_rows_keep_their_values_in_any_selection(tmp_path: Path):
    """Columns of folders are read alone, before and after those of the file, each row with its own folder's."""
    put(tmp_path / "a=1" / "b=x", v=[1, 2])
    put(tmp_path / "a=2" / "b=y", v=[3])
    assert read_table(tmp_path, ["b"]).to_pydict() == {"b": ["x", "x", "y"]}
    assert read_table(tmp_path, ["b", "v", "a"]).to_pydict() == {"b": ["x", "x", "y"], "v": [1, 2, 3], "a": [1, 1, 2]}


def test_columns_of_folders_are_drafted_and_validated(tmp_path: Path):
    """A draft has the values of folders as features, dates derived from, and the table is clean by it."""
    for number, (region, day) in enumerate(product(("01", "north", "south"), ("2024-01-01", "2024-01-02"))):
        x = [number + row / 8 for row in range(8)]
        put(tmp_path / f"region={region}" / f"day={day}", x=x, y=[0, 1, 1, 0, 1, 0, 0, 1])
    use_case = parse_use_case(draft(tmp_path, "y"), "draft")
    assert {name: each.type for name, each in use_case.features.items()} == {
        "x": FeatureType.NUMBER,
        "region": FeatureType.CATEGORY,
        "day_weekday": FeatureType.INTEGER,
    }
    source = open_source(tmp_path)
    check_source(source, use_case)
    pieces = parquet_pieces(source, use_case.columns)
    assert merge(source, use_case, list(each_block_here(pieces, checker(use_case, 0)))).clean


def test_column_in_file_and_folder_must_agree(tmp_path: Path):
    """Some writers leave the column in the file: fine where it says the same, else refused with file and column."""
    put(tmp_path / "same" / "day=3", day=[3, 3])
    assert read_table(tmp_path / "same").to_pydict() == {"day": [3, 3]}
    put(tmp_path / "other" / "day=3", day=[3, 4])
    with pytest.raises(DataError, match=r"day=3/0\.parquet: column 'day' holds something else than the 3"):
        read_table(tmp_path / "other")


@pytest.mark.parametrize("other", ["b=1", "plain", "a=1/b=2"])
def test_folders_of_another_layout_are_refused(other: str, tmp_path: Path):
    """A file whose folders state other columns has no value for some: it is named, and nothing is left out."""
    put(tmp_path / "a=1", x=[1])
    put(tmp_path / other, x=[1])
    with pytest.raises(DataError, match="its folders state the columns"):
        read_table(tmp_path)


def test_column_stated_twice_is_refused(tmp_path: Path):
    """Two folders of one path that state the same column are a contradiction."""
    put(tmp_path / "a=1" / "a=2", x=[1])
    with pytest.raises(DataError, match="two of its folders state the column 'a'"):
        read_table(tmp_path)


# A name that ends in a dot or is too long is no folder's name everywhere.
_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@given(st.lists(st.tuples(st.integers(-5, 10**17), st.one_of(st.none(), _TEXT)), min_size=1, max_size=6))
def test_what_arrow_partitions_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str | None]]
):
    """Any table that Arrow writes with Hive's folders comes back, to the last row and value."""
    folder = tmp_path_factory.mktemp("t")
    numbers, texts = [n for n, _ in rows], pa.array([s for _, s in rows], pa.string())
    table = pa.table({"n": numbers, "s": texts, "x": range(len(rows))})
    layout = ds.partitioning(table.schema.remove(2), flavor="hive")
    ds.write_dataset(table, folder, format="parquet", partitioning=layout)
    read = read_table(folder)
    assert set(read.column_names).isdisjoint(RESERVED)
    by_row = sorted(zip(*(read[name].to_pylist() for name in ("x", "n", "s")), strict=True))
    # A column of digits alone is one of numbers.
    assert [(x, n, None if s is None else str(s)) for x, n, s in by_row] == [(x, n, s) for x, (n, s) in enumerate(rows)]


def test_column_of_the_folders_may_stand_in_some_files_only(tmp_path: Path):
    """What the folder states is known for every row, whether its file has the column or not."""
    put(tmp_path / "day=1", x=[1])
    put(tmp_path / "day=2", x=[2], day=[2])
    put(tmp_path / "day=3", x=[3])
    assert read_table(tmp_path).to_pydict() == {"x": [1, 2, 3], "day": [1, 2, 3]}


def test_folder_in_another_encoding_is_refused(tmp_path: Path):
    """Percent-encoded Latin-1 is no text: two such values would become one."""
    put(tmp_path / "city=K%F6ln", x=[1])
    with pytest.raises(DataError, match=r"'K%F6ln' in the name of its folder is not UTF-8, percent-encoded; rename it"):
        read_table(tmp_path)
