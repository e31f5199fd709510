"""Reading a prediction log from its end: no more files than the rows need, and honest counts all the same."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.__main__ import main
from data.errors import DataError
from data.prediction_log.file_summary import last_rows, lost_rows, read_each, summaries
from data.prediction_log.files import PARQUET, STREAM, log_schema

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
SCHEMA = log_schema(("amount", "hour"))
ROWS = 50


def rows_of(replica: str, first: int, begun: datetime, count: int = ROWS, entity: str = "e") -> pa.Table:
    """Rows of one replica, a second apart, numbered from `first` on."""
    numbers = range(count)
    columns: dict[str, Any] = {
        "replica": [replica] * count,
        "sequence": [first + n for n in numbers],
        "answered_at": [begun + timedelta(seconds=n) for n in numbers],
        "request_id": [f"{replica}-{first + n}" for n in numbers],
        "entity": [entity] * count,
        "version": ["3"] * count,
        "epoch": [1] * count,
        "probability": [0.5] * count,
        "label": [0] * count,
        "scores": [None] * count,
        "latency_ms": [1.0] * count,
        "degraded": [False] * count,
        "online_age_s": [None] * count,
        "vector": [[1.0, 2.0]] * count,
        "sources": ["rd"] * count,
        "sent": [json.dumps({"amount": 1.0})] * count,
        "online": [None] * count,
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, SCHEMA)


def write(folder: Path, table: pa.Table, name: str) -> Path:
    """One finished file of a log."""
    path = folder / "date=2026-03-01" / f"{name}{PARQUET}"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    return path


def ruin(path: Path) -> None:
    """Spoil a file's pages and keep its footer: whoever reads a row of it fails."""
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4 : len(content) - footer] = b"\xff" * (len(content) - footer - 4)
    path.write_bytes(content)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Twenty files of one replica, of which only the latest two can still be read."""
    for n in range(20):
        path = write(tmp_path, rows_of("g1", 1 + n * ROWS, START + timedelta(minutes=10 * n)), f"g1-{n:02}")
        if n < 18:
            ruin(path)
    return tmp_path


def test_the_last_rows_need_the_latest_files_alone(log: Path, capsys: pytest.CaptureFixture[str]):
    """Ten rows, and sixty, are shown without a look at a row of the older files; all rows are counted all the same."""
    assert main(["log", str(log)]) == 0
    shown = capsys.readouterr()
    assert [f"g1-{n}" in shown.out for n in (990, 991, 1000)] == [False, True, True]
    assert "1,000 rows in 20 files" in shown.err
    assert "missing" not in shown.err
    assert main(["log", str(log), "--last", "60", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(941, 1001))
    with pytest.raises(DataError, match=r"g1-17\.parquet"):
        main(["log", str(log), "--last", "101"])


def test_a_filter_stops_as_soon_as_it_has_its_rows(log: Path, capsys: pytest.CaptureFixture[str]):
    """With a filter the files are read from the latest on, and it is said how many of them were."""
    write(log, rows_of("g2", 1, START + timedelta(days=1), 5, "wanted"), "g2-20")
    assert main(["log", str(log), "--last", "5", "--entity", "wanted"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("wanted") == 5
    assert "5 such rows, from the latest 1 of 21 files" in shown.err


def test_files_that_overlap_in_time_are_read_as_far_as_they_may_matter(tmp_path: Path):
    """A file with later rows goes first whatever its name, and one whose rows may lie between is read too."""
    write(tmp_path, rows_of("g1", 1, START, 50), "g1-1")
    write(tmp_path, rows_of("g2", 1, START + timedelta(seconds=35.5), 5), "g2-2")
    old = write(tmp_path, rows_of("g3", 1, START - timedelta(days=1), 5), "g3-9")
    ruin(old)
    rows, read = last_rows(summaries(tmp_path), 20, lambda table: table)
    assert (len(rows), read) == (20, 2)
    assert sum(row["replica"] == "g2" for row in rows) == 5
    assert [row["answered_at"] for row in rows] == sorted(row["answered_at"] for row in rows)


def test_gaps_are_found_from_footers_and_in_what_other_tools_wrote(tmp_path: Path):
    """Missing numbers of each replica are counted, also in files of several replicas and without statistics."""
    write(tmp_path, rows_of("g1", 1, START, 10), "g1-1")
    write(tmp_path, rows_of("g1", 14, START, 10), "g1-2")
    merged = pa.concat_tables([rows_of("g2", 1, START, 5), rows_of("g2", 8, START, 5), rows_of("g1", 24, START, 1)])
    write(tmp_path, merged, "moved")
    bare = tmp_path / f"bare{PARQUET}"
    pq.write_table(rows_of("g4", 7, START, 3), bare, write_statistics=False)
    found = summaries(tmp_path)
    assert sum(each.rows for each in found) == 34
    assert lost_rows(found) == 3 + 2


def test_a_stream_that_is_cut_short_counts_with_what_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A stream without its end is read up to there, counted, and told of."""
    table = rows_of("g1", 1, START, 40)
    path = tmp_path / f"g1-1{STREAM}"
    with path.open("wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        for at in (0, 20):
            writer.write_table(table.slice(at, 20))
    path.write_bytes(path.read_bytes()[:-200])
    assert main(["log", str(tmp_path), "--last", "3"]) == 0
    shown = capsys.readouterr()
    assert "20 rows in 1 files" in shown.err
    assert "1 still open or cut short" in shown.err
    assert "g1-20" in shown.out


def test_files_that_go_while_the_log_is_read(tmp_path: Path):
    """A file that is removed after it was listed is left out; a stream that became Parquet is read as that."""
    gone = write(tmp_path, rows_of("g1", 1, START, 5), "g1-1")
    stream = tmp_path / f"g2-2{STREAM}"
    with stream.open("wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        writer.write_table(rows_of("g2", 1, START, 5))
    listed = summaries(tmp_path)
    gone.unlink()
    pq.write_table(rows_of("g2", 1, START, 5), stream.with_suffix(PARQUET))
    stream.unlink()
    assert {row["replica"] for row in last_rows(listed, 10, lambda table: table)[0]} == {"g2"}
    assert [file.table.num_rows for file in read_each(listed)] == [5]


def test_a_broken_footer_is_named(tmp_path: Path):
    """A Parquet file that is none is an error that names it, as before."""
    path = write(tmp_path, rows_of("g1", 1, START), "g1-1")
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match=r"g1-1\.parquet: not readable as Parquet"):
        summaries(tmp_path)


def test_one_table_is_written_file_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`--out` writes all rows that are chosen, and no file where there is none."""
    log = tmp_path / "log"
    for n in range(3):
        write(log, rows_of("g1", 1 + n * ROWS, START + timedelta(minutes=n), entity=f"e{n}"), f"g1-{n}")
    target = tmp_path / "wide.parquet"
    assert main(["log", str(log), "--entity", "none", "--out", str(target)]) == 1
    assert not target.exists()
    assert main(["log", str(log), "--out", str(target)]) == 0
    written = pq.ParquetFile(target)
    assert (written.metadata.num_rows, written.metadata.num_row_groups) == (150, 3)
    table = written.read()
    assert table.column("sequence").to_pylist() == list(range(1, 151))
    assert set(table.column("source_hour").to_pylist()) == {"default"}
    assert set(table.column("feature_hour").to_pylist()) == {2.0}
    assert main(["log", str(log), "--entity", "e1", "--out", str(target)]) == 0
    assert pq.ParquetFile(target).metadata.num_rows == ROWS
    assert "50 rows written" in capsys.readouterr().err
