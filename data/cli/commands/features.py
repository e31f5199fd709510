"""`rayscore features`: a table with the features that each of its rows would have been served with."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from data.cli.options import add_events, add_use_case, events_of, use_case_of
from data.cli.terminal import counted, err, note_all, progress, say
from data.distributed.runner import runner
from data.errors import ConfigError, DataError
from data.feature_views.events.event_tables import EventFiles, event_columns, history_columns, open_events, read_events
from data.feature_views.events.table_mark import holds_stored, marked
from data.feature_views.point_in_time import point_in_time
from data.feature_views.spread.plan import SpreadPlan
from data.feature_views.spread.written_table import WrittenTable, missing_values, read_pieces, write_spread
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_table
from data.sources.filesystems import absolute, named, url
from data.sources.locked_folder import scratch_folder
from data.sources.parquet import ParquetSource, open_source, read_source

_EXAMPLE = (
    "example: rayscore features july.parquet july_features.parquet --use-case cards.toml --history june.parquet "
    "--events reports=reports.parquet"
)
MOST_VALUES = 100_000_000
"""Values (rows times columns) of all tables together that are computed in memory, in some 2 GiB; more are spread."""


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
        DataError: a table cannot be read or lacks a column, or has its features already.
    """
    use_case = use_case_of(args)
    table = open_source(absolute(args.path))
    check_table(table, use_case)
    files = open_events(events_of(args), use_case)
    sources = [table, *files.sources]
    check_out(args.out, sources)
    write = _spread if values_of(table, files, use_case) > MOST_VALUES else _in_memory
    report(args.out, write(table, files, use_case, absolute(args.out)), use_case)
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
            f"use case '{use_case.name}' has no features to add: no windows, no expressions, and no online features"
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


def values_of(table: ParquetSource, files: EventFiles, use_case: UseCase) -> int:
    """Return how many values all tables have together, with the features that are made."""
    made = len(use_case.windows) + len(use_case.schema_.expressions)
    values = table.rows * (len(table.schema.names) + made)
    if files.history is not None:
        values += files.history.rows * len(history_columns(use_case))
    return values + sum(each.rows * len(event_columns(use_case.events[name])) for name, each in files.others.items())


def _in_memory(table: ParquetSource, files: EventFiles, use_case: UseCase, out: Path) -> WrittenTable:
    with progress("features", table.rows) as advance:
        events = read_events(files, use_case)
        found = point_in_time(read_source(table), use_case, events.history, events.others)
        write_table(found.table, out)
        advance(table.rows)
    return WrittenTable(found.table.num_rows, found.table.schema, missing_values(found.table), found.left_out)


def _spread(table: ParquetSource, files: EventFiles, use_case: UseCase, out: Path) -> WrittenTable:
    with scratch_folder(out) as folder:
        plan = SpreadPlan(use_case, table, files, folder)
        with runner(read_pieces(table, files)) as run_steps:
            return write_spread(plan, out, run_steps, progress)


def report(out: Path, written: WrittenTable, use_case: UseCase) -> None:
    """Print what was added on stdout, and on stderr which rows are no event."""
    say(f"{out}: {written.rows:,} rows")
    for name, kind in _added(written.schema, use_case).items():
        missing = written.missing[name]
        say(f"  {name}: {kind}{f', {missing:,} missing' if missing else ''}")
    for source, reasons in written.left_out.items():
        _left_out(source, reasons)


def _left_out(source: str, reasons: Counter[str]) -> None:
    for reason, count in reasons.items():
        rows = counted(count, "row is no event", "rows are no events")
        err.print(f"left out: {rows} of '{source}': {reason}", markup=False, style="yellow")


def _added(schema: pa.Schema, use_case: UseCase) -> Mapping[str, pa.DataType]:
    held = use_case.schema_.online if use_case.materialized is not None else ()
    names = {feature.name for feature in (*use_case.schema_.windows, *use_case.schema_.expressions, *held)}
    return {field.name: field.type for field in schema if field.name in names}
