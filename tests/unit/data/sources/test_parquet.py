"""Reading and writing Parquet: what is refused, and that outputs are whole or absent."""

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.sources.atomic_output import atomic_file, atomic_folder, write_table
from data.sources.parquet import ChunkReader, iter_batches, open_source, read_table, row_count
from data.sources.row_origin import origin_of
from data.transform.event_time import NO_TIME, event_us

_DAY_US = 1_735_689_600_000_000  # 2025-01-01T00:00:00Z


def _write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_missing_path_is_named(tmp_path):
    """A path that is not there is refused with its name."""
    with pytest.raises(DataError, match=r"gone\.parquet: no such file or folder"):
        open_source(tmp_path / "gone.parquet")


def test_folder_without_parquet_is_refused(tmp_path):
    """An empty folder says that it holds no Parquet file."""
    with pytest.raises(DataError, match=r"holds no Parquet file"):
        open_source(tmp_path)


def test_empty_file_is_refused(tmp_path):
    """A file of 0 bytes says so."""
    (tmp_path / "a.parquet").touch()
    with pytest.raises(DataError, match=r"a\.parquet: the file is empty \(0 bytes\)"):
        open_source(tmp_path)


@pytest.mark.parametrize("kept", [10, 200])
def test_truncated_file_is_refused(tmp_path, kept):
    """A file that lost its end is called truncated."""
    _write(tmp_path / "a.parquet", x=list(range(1000)))
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.parquet: truncated or not a Parquet file"):
        open_source(tmp_path)


def test_damaged_page_is_refused(tmp_path):
    """A file whose footer is fine but whose pages are not is refused when it is read."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).integers(0, 1 << 60, 5000)}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet"):
        read_table(path)
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(ChunkReader(open_source(path).schema)(open_source(path).chunks[0]))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": ["1.5"], "y": ["a"]}, "column 'x' holds string, but int64 in a.parquet, and no type holds both"),
        ({"x": [1]}, "column 'y' is missing, but a.parquet has it"),
        ({"x": [1], "y": ["a"], "z": [1]}, "column 'z' is not in a.parquet"),
    ],
)
def test_mixed_schemas_name_file_and_column(tmp_path, columns, words):
    """A folder whose files differ says which file differs in which column."""
    _write(tmp_path / "a.parquet", x=[1], y=["a"])
    _write(tmp_path / "b.parquet", **columns)
    with pytest.raises(DataError, match=rf"b\.parquet: {words}"):
        open_source(tmp_path)


def test_column_twice_is_refused(tmp_path):
    """A name that two columns have is refused with file and column, whichever columns are asked for."""
    table = pa.table([[1.5], [1], [2], [0]], names=["x", "z", "z", "y"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: two columns are named 'z'; rename one of them"):
        read_table(tmp_path, ["x"])


def test_zero_rows_are_refused(tmp_path):
    """A table with columns but no rows is no input."""
    _write(tmp_path / "a.parquet", x=pa.array([], pa.int64()))
    with pytest.raises(DataError, match="no rows"):
        row_count(tmp_path)


def test_missing_column_lists_those_there(tmp_path):
    """A missing column is named beside those that exist."""
    _write(tmp_path / "a.parquet", x=[1], y=[2])
    with pytest.raises(DataError, match="column 'z' is missing; the table has: x, y"):
        read_table(tmp_path, ["z"])


def test_folder_is_read_in_name_order_without_hidden_files(tmp_path):
    """Rows come in the order of file names; hidden and temporary files are left out."""
    _write(tmp_path / "b.parquet", x=[3, 4])
    _write(tmp_path / "a.parquet", x=[1, 2])
    _write(tmp_path / ".c.parquet", x=[9])
    _write(tmp_path / "_tmp" / "d.parquet", x=[9])
    assert read_table(tmp_path)["x"].to_pylist() == [1, 2, 3, 4]
    assert read_table(tmp_path, ["x"], limit=3)["x"].to_pylist() == [1, 2, 3]
    assert [batch.num_rows for batch in iter_batches(tmp_path, ["x"], 1)] == [1] * 4


def test_chunks_cover_every_row_once(tmp_path):
    """Chunks divide all rows, and their first rows count over the files."""
    for name, count in (("a", 300_000), ("b", 10), ("c", 260_000)):
        pq.write_table(pa.table({"x": np.arange(count)}), tmp_path / f"{name}.parquet", row_group_size=100_000)
    source = open_source(tmp_path)
    assert sum(chunk.rows for chunk in source.chunks) == source.rows == 560_010
    read = ChunkReader(source.schema)
    blocks = [block for chunk in source.chunks for block in read(chunk)]
    firsts = [source.table_row(origin_of(block)) for block in blocks]
    assert firsts == [sum(block.num_rows for block in blocks[:i]) for i in range(len(firsts))]
    assert sum(block.num_rows for block in blocks) == 560_010


def test_failed_write_leaves_the_earlier_file(tmp_path):
    """When writing fails half-way, the file from before is untouched and nothing else is left."""
    target = tmp_path / "a.parquet"
    write_table(pa.table({"x": [1]}), target)
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert read_table(target)["x"].to_pylist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def test_single_file_behind_a_url_is_refused(tmp_path, monkeypatch):
    """A URL, which a command may hand on as a path, never becomes a folder of the working directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"s3://bucket/out\.parquet: a single file is written on this machine"):
        write_table(pa.table({"x": [1]}), "s3://bucket/out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_failed_folder_leaves_the_earlier_one(tmp_path):
    """When a folder's making fails half-way, the one from before stays as it was."""
    target = tmp_path / "t"
    with atomic_folder(target) as folder:
        _write(folder / "a.parquet", x=[1])
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as folder:
        _write(folder / "b.parquet", x=[2])
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.rglob("*")] == ["t", "a.parquet"]


def test_folder_is_replaced_in_whole_and_left_overs_are_cleared(tmp_path):
    """A second run replaces the folder, and removes what a killed run had left."""
    target = tmp_path / "t"
    _write(target / "old.parquet", x=[1])
    _write(tmp_path / ".t.partial" / "killed.parquet", x=[2])
    with atomic_folder(target) as folder:
        _write(folder / "new.parquet", x=[3])
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["new.parquet", "t"]


def test_folder_with_other_things_is_not_replaced(tmp_path):
    """A folder that holds something else than Parquet is never replaced."""
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match=r"thesis\.txt"), atomic_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2025, 1, 1), None], pa.timestamp("s")),
        pa.array([datetime(2025, 1, 1), None], pa.timestamp("ms")),
        pa.array([datetime(2025, 1, 1), None], pa.timestamp("us", "Europe/Berlin")),
        pa.array([datetime(2025, 1, 1), None], pa.timestamp("ns")),
        pa.array([date(2025, 1, 1), None], pa.date32()),
        pa.array([date(2025, 1, 1), None], pa.date64()),
        pa.array(["2025-01-01", None]),
        pa.array(["2025-01-01 00:00:00.000", None], pa.large_string()),
        pa.array(["2025-01-01T01:00:00+01:00", None]),
        pa.array(["2025-01-01T00:00:00.000000000Z", None]),
        pa.array([_DAY_US // 1_000_000, None]),
        pa.array([_DAY_US // 1000, None]),
        pa.array([_DAY_US, None]),
        pa.array([_DAY_US * 1000, None]),
    ],
    ids=lambda column: str(column.type),
)
def test_event_times_become_microseconds(column):
    """Every way to write an instant gives the same microseconds since 1970; null is NO_TIME."""
    assert event_us(pa.chunked_array([column]), "t").tolist() == [_DAY_US, NO_TIME]


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_event_time_is_no_time(blank):
    """'' and white space among times written as text are as null is."""
    column = pa.chunked_array([pa.array(["2025-01-01", blank, None])])
    assert event_us(column, "t").tolist() == [_DAY_US, NO_TIME, NO_TIME]


def test_small_integers_are_seconds():
    """A column that counts seconds from 0 in 32 bits serves as event time."""
    times = event_us(pa.chunked_array([pa.array([0, 1, 172_792], pa.int32())]), "Time")
    assert times.tolist() == [0, 1_000_000, 172_792_000_000]


@pytest.mark.parametrize("column", [pa.array([1.5]), pa.array(["soon"]), pa.array([True])])
def test_what_is_no_time_is_refused(column):
    """A column that cannot be an event time is refused with its name."""
    with pytest.raises(DataError, match="column 'when'"):
        event_us(pa.chunked_array([column]), "when")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n", "text, not Parquet; 'rayscore convert' makes Parquet of CSV"),
        (b"PARE" * 9, "encrypted Parquet"),
        (b"ARROW1\0\0", "an Arrow .Feather. file"),
        (b"ORC\x01", "ORC, not Parquet"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b\x08", "gzip, not Parquet"),
    ],
)
def test_other_kinds_of_files_are_told(tmp_path, content, words):
    """A file of another kind is named as what it is, and not as a damaged Parquet file."""
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.parquet: {words}"):
        open_source(tmp_path / "x.parquet")
