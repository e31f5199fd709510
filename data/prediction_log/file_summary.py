"""What a file of a prediction log holds, without reading its rows: enough to count a log and to find its last rows."""

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

_TOLD = ("replica", "sequence", "answered_at")


class Span(NamedTuple):
    """Rows of one replica in a file: how many, and the first and last of their numbers."""

    rows: int
    first: int
    last: int


class FileSummary(NamedTuple):
    """One file: its rows in all and by replica, and when the latest was answered. `whole` and `features` as LogFile."""

    path: Path
    features: tuple[str, ...]
    whole: bool
    rows: int
    latest: datetime | None
    spans: dict[str, Span]


def summaries(folder: Path | str) -> list[FileSummary]:
    """The files of a log in the order of `log_files`; one that retention removes meanwhile is left out.

    Raises:
        DataError: no such folder, or a Parquet file is broken.
    """
    found = (_present(file, summarize) for file in log_files(folder))
    return [each for each in found if each is not None]


def summarize(file: Path) -> FileSummary:
    """Look at one file: Parquet by its footer, a stream, which has none, by reading it.

    Raises:
        DataError: as `data.prediction_log.files.read_file`.
    """
    if file.suffix == STREAM:
        return _of_table(file, *read_file(file))
    try:
        parquet = pq.ParquetFile(file)
        features = feature_names(file, parquet.schema_arrow)
        return _of_footer(file, features, parquet.metadata) or _of_table(
            file, parquet.read(columns=list(_TOLD)), features, True
        )
    except (OSError, pa.ArrowException) as exc:
        raise DataError(f"{file}: not readable as Parquet: {exc}") from exc


def read_each(files: Iterable[FileSummary]) -> Iterator[LogFile]:
    """Read files one after the other; one that retention has removed meanwhile is left out.

    Raises:
        DataError: as `data.prediction_log.files.read_file`.
    """
    found = (_present(each.path, read_file) for each in files)
    return (file for file in found if file is not None)


def last_rows(
    files: Sequence[FileSummary], count: int, chosen: Callable[[pa.Table], pa.Table]
) -> tuple[list[dict[str, Any]], int]:
    """The latest rows, oldest of them first, each with its `feature_names`; and how many files were read for them.

    Files are read from the latest on, until none that is left can have a later row; at most one is in memory.

    Args:
        files: as `summaries` has them.
        count: most rows.
        chosen: leaves of a file's rows those that are wanted.

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
            table = chosen(file.table)
            latest = table.sort_by("answered_at").slice(max(table.num_rows - count, 0)).to_pylist()
            rows += [{**row, "feature_names": file.features} for row in latest]
        rows = sorted(rows, key=lambda row: row["answered_at"])[-count:]
    return rows, read


def lost_rows(files: Iterable[FileSummary]) -> int:
    """Rows that were to be logged and are not there, by the gaps in each replica's count."""
    whole: dict[str, Span] = {}
    for each in files:
        for replica, span in each.spans.items():
            whole[replica] = _joined(whole.get(replica, span._replace(rows=0)), span)
    return sum(span.last - span.first + 1 - span.rows for span in whole.values())


def _joined(one: Span, other: Span) -> Span:
    return Span(one.rows + other.rows, min(one.first, other.first), max(one.last, other.last))


def _present(file: Path, look: Callable[[Path], Any]) -> Any:
    """Look at a file; at what became of it when it is gone, None when that is gone too."""
    try:
        return look(file)
    except DataError:
        if file.exists() or file.is_symlink():
            raise
    # A writer has made Parquet of the stream, or removed the file because of its age.
    finished = file.with_suffix(PARQUET)
    return look(finished) if finished != file and finished.exists() else None


def _of_table(file: Path, table: pa.Table, features: tuple[str, ...], whole: bool) -> FileSummary:
    grouped = table.group_by("replica").aggregate([("sequence", "count"), ("sequence", "min"), ("sequence", "max")])
    spans = {
        row["replica"]: Span(row["sequence_count"], row["sequence_min"], row["sequence_max"])
        for row in grouped.to_pylist()
    }
    latest = pc.call_function("max", [table.column("answered_at")]).as_py()
    return FileSummary(file, features, whole, table.num_rows, latest, spans)


def _of_footer(file: Path, features: tuple[str, ...], footer: pq.FileMetaData) -> FileSummary | None:
    """None where the footer does not tell: a tool has written it anew, or put files of several replicas together."""
    latest: list[datetime] = []
    spans: dict[str, Span] = {}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        by_name = {group.column(at).path_in_schema: group.column(at).statistics for at in range(group.num_columns)}
        told = [each for each in map(by_name.get, _TOLD) if each is not None and each.has_min_max]
        if len(told) < len(_TOLD):
            return None
        replica, sequence, answered = told
        if replica.min != replica.max:
            return None
        span = Span(group.num_rows, sequence.min, sequence.max)
        spans[replica.min] = _joined(spans[replica.min], span) if replica.min in spans else span
        latest.append(answered.max)
    return FileSummary(file, features, True, footer.num_rows, max(latest, default=None), spans)
