"""Summaries of the files of a prediction log, mostly without reading rows: to count a log and find its last rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.errors import DataError
from data.prediction_log.files import PARQUET, STREAM, LogFile, feature_names, log_files, read_file

_SUMMARY_COLUMNS = ("replica", "sequence", "answered_at")


class Span(NamedTuple):
    """The rows of one replica in a file: their number, and the first and last `sequence`."""

    rows: int
    first: int
    last: int


class FileSummary(NamedTuple):
    """One file: its rows in total and by replica, and the time of the latest answer; the rest as in `LogFile`."""

    path: Path
    features: tuple[str, ...]
    whole: bool
    rows: int
    latest: datetime | None
    spans: dict[str, Span]


def summaries(folder: Path | str) -> list[FileSummary]:
    """Summaries of a log's files, in the order of `log_files`; a file that is removed meanwhile is left out.

    Raises:
        DataError: no such folder, or a Parquet file is broken.
    """
    present = (_if_present(file, summarize) for file in log_files(folder))
    return [each for each in present if each is not None]


def summarize(file: Path) -> FileSummary:
    """Summarize one file: Parquet by its footer, a stream, which has none, by reading it.

    Raises:
        DataError: as `data.prediction_log.files.read_file`.
    """
    if file.suffix == STREAM:
        read = read_file(file)
        return _of_table(file, read.table, read.features, read.whole)
    try:
        parquet = pq.ParquetFile(file)
        features = feature_names(file, parquet.schema_arrow)
        return _of_footer(file, features, parquet.metadata) or _of_table(
            file, parquet.read(columns=list(_SUMMARY_COLUMNS)), features, True
        )
    except (OSError, pa.ArrowException) as exc:
        raise DataError(f"{file}: not readable as Parquet: {exc}") from exc


def read_each(files: Iterable[FileSummary]) -> Iterator[LogFile]:
    """Read files one after the other; a file that was removed meanwhile is left out.

    Raises:
        DataError: as `data.prediction_log.files.read_file`.
    """
    present = (_if_present(each.path, read_file) for each in files)
    return (file for file in present if file is not None)


def last_rows(
    files: Sequence[FileSummary], count: int, select: Callable[[pa.Table], pa.Table]
) -> tuple[list[dict[str, Any]], int]:
    """The latest rows, oldest first, each with its `feature_names` and `labels`; and how many files were read for them.

    Files are read from the latest on, until none that is left can have a later row; at most one is in memory.

    Args:
        files: from `summaries`.
        count: most rows to return.
        select: filters the rows of a file.

    Raises:
        DataError: as `data.prediction_log.files.read_file`.
    """
    dated = sorted(((each.latest, each) for each in files if each.latest is not None), key=lambda pair: pair[0])
    rows: list[dict[str, Any]] = []
    read = 0
    while dated and not (len(rows) >= count and rows[0]["answered_at"] >= dated[-1][0]):
        _, summary = dated.pop()
        read += 1
        for file in read_each([summary]):
            table = select(file.table)
            latest = table.sort_by("answered_at").slice(max(table.num_rows - count, 0)).to_pylist()
            rows += [{**row, "feature_names": file.features, "labels": file.labels} for row in latest]
        rows = sorted(rows, key=lambda row: row["answered_at"])[-count:]
    return rows, read


def lost_rows(files: Iterable[FileSummary]) -> int:
    """Number of rows that are missing, by the gaps in each replica's `sequence` between its first and last row."""
    totals: dict[str, Span] = {}
    for each in files:
        for replica, span in each.spans.items():
            totals[replica] = _joined(totals.get(replica, span._replace(rows=0)), span)
    return sum(span.last - span.first + 1 - span.rows for span in totals.values())


def _joined(one: Span, other: Span) -> Span:
    return Span(one.rows + other.rows, min(one.first, other.first), max(one.last, other.last))


def _if_present(file: Path, read: Callable[[Path], Any]) -> Any:
    """Read a file; when it is gone, the Parquet file that it became; None when that is gone too."""
    try:
        return read(file)
    except DataError:
        if file.exists() or file.is_symlink():
            raise
    # Meanwhile a writer has converted the stream to Parquet, or retention has removed the file.
    finished = file.with_suffix(PARQUET)
    return read(finished) if finished != file and finished.exists() else None


def _of_table(file: Path, table: pa.Table, features: tuple[str, ...], whole: bool) -> FileSummary:
    grouped = table.group_by("replica").aggregate([("sequence", "count"), ("sequence", "min"), ("sequence", "max")])
    spans = {
        row["replica"]: Span(row["sequence_count"], row["sequence_min"], row["sequence_max"])
        for row in grouped.to_pylist()
    }
    latest = pc.call_function("max", [table.column("answered_at")]).as_py()
    return FileSummary(file, features, whole, table.num_rows, latest, spans)


def _of_footer(file: Path, features: tuple[str, ...], footer: pq.FileMetaData) -> FileSummary | None:
    """None where the footer lacks the statistics, or a row group has several replicas: another tool rewrote it."""
    latest: list[datetime] = []
    spans: dict[str, Span] = {}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        by_name = {group.column(at).path_in_schema: group.column(at).statistics for at in range(group.num_columns)}
        statistics = [each for each in map(by_name.get, _SUMMARY_COLUMNS) if each is not None and each.has_min_max]
        if len(statistics) < len(_SUMMARY_COLUMNS):
            return None
        replica, sequence, answered = statistics
        if replica.min != replica.max:
            return None
        span = Span(group.num_rows, sequence.min, sequence.max)
        spans[replica.min] = _joined(spans[replica.min], span) if replica.min in spans else span
        latest.append(answered.max)
    return FileSummary(file, features, True, footer.num_rows, max(latest, default=None), spans)
