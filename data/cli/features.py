"""`rayscore features`: a table with the features that each of its rows would have been served with."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from data.cli.options import add_events, add_use_case, events_of, use_case_of
from data.cli.terminal import counted, err, note_all, progress, say
from data.errors import ConfigError, DataError
from data.feature_views.event_tables import history_columns, open_events, read_events
from data.feature_views.point_in_time import PointInTime, point_in_time
from data.feature_views.table_mark import holds_stored, marked
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_table
from data.sources.filesystems import absolute, named, url
from data.sources.parquet import ParquetSource, open_source, read_source

_EXAMPLE = (
    "example: rayscore features july.parquet july_features.parquet --use-case cards.toml --history june.parquet "
    "--events reports=reports.parquet"
)
MOST_ROWS = 20_000_000
"""Rows of all tables together that one run takes, since all of them are in memory at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Add to each row the window features and expressions of the use case, as of the row's time; online features "
        "become what the store would have held by then. What search and score would compute, once."
    )
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("path", type=Path, metavar="IN", help="Parquet file or folder")
    add("out", type=Path, metavar="OUT", help="Parquet file to write")
    add_use_case(parser)
    add_events(parser)


def run(args: argparse.Namespace) -> int:
    """Write the table and return the exit code.

    Raises:
        ConfigError: the use case declares no such features, or the options do not fit its sources.
        DataError: a table cannot be read or lacks a column, is too large, or has its features already.
    """
    use_case = use_case_of(args)
    table = open_source(absolute(args.path))
    check_table(table, use_case)
    files = open_events(events_of(args), use_case)
    sources = [table, *files.sources]
    check_out(args.out, sources)
    check_size(sources)
    with progress("features", table.rows) as advance:
        events = read_events(files, use_case)
        found = point_in_time(read_source(table), use_case, events.history, events.others)
        write_table(found.table, args.out)
        advance(table.rows)
    report(args.out, found, use_case)
    note_all(line for source in sources for line in source.report)
    return 0


def check_table(table: ParquetSource, use_case: UseCase) -> None:
    """Check that a table can get its features.

    Raises:
        ConfigError: the use case declares none.
        DataError: the table has them, or lacks a column.
    """
    if not (use_case.windows or use_case.schema_.expressions or use_case.joins_stored):
        raise ConfigError(
            f"use case '{use_case.name}' has no features to add: no windows, no expressions, and no online features "
            "with materialized"
        )
    name = named(table.path)
    if marked(table.schema, use_case) or holds_stored(table.schema, use_case, name):
        raise DataError(f"{name}: has its features already; use it as it is")
    table.require(history_columns(use_case))


def check_out(out: Path, sources: Iterable[ParquetSource]) -> None:
    """Raise DataError when the output is no file of this machine, or would be among the files that are read."""
    if url(out) or out.is_dir():
        what = "is behind a URL" if url(out) else "is a folder"
        raise DataError(f"{named(out)}: {what}; name a file on this machine, such as features.parquet")
    path = absolute(out)
    for source in sources:
        if source.path in (path, path.parent) or path in source.files:
            raise DataError(f"{out}: is, or lies in, {named(source.path)}, which is read; name another file")


def check_size(sources: Iterable[ParquetSource]) -> None:
    """Raise DataError when tables have more rows together than fit into memory for sure."""
    rows = {named(source.path): source.rows for source in sources}
    if sum(rows.values()) > MOST_ROWS:
        each = ", ".join(f"{name} {count:,}" for name, count in rows.items())
        raise DataError(
            f"{sum(rows.values()):,} rows are more than the {MOST_ROWS:,} that are computed at once ({each}); divide "
            "the table by time, and give each part the rows of its longest window before it as --history"
        )


def report(out: Path, found: PointInTime, use_case: UseCase) -> None:
    """Print what was added on stdout, and on stderr which rows are no event."""
    say(f"{out}: {found.table.num_rows:,} rows")
    for name, kind in _added(found.table, use_case).items():
        missing = found.table.column(name).null_count
        say(f"  {name}: {kind}{f', {missing:,} missing' if missing else ''}")
    for source, reasons in found.left_out.items():
        _left_out(source, reasons)


def _left_out(source: str, reasons: Counter[str]) -> None:
    for reason, count in reasons.items():
        rows = counted(count, "row is no event", "rows are no events")
        err.print(f"left out: {rows} of '{source}': {reason}", markup=False, style="yellow")


def _added(table: pa.Table, use_case: UseCase) -> Mapping[str, pa.DataType]:
    held = use_case.schema_.online if use_case.materialized is not None else ()
    names = {feature.name for feature in (*use_case.schema_.windows, *use_case.schema_.expressions, *held)}
    return {field.name: field.type for field in table.schema if field.name in names}
