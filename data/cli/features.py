"""`rayscore features`: a table with the features that each of its rows would have been served with."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from data.cli.options import add_use_case, use_case_of
from data.cli.terminal import counted, err, note_all, progress, say
from data.errors import ConfigError, DataError
from data.feature_views.feature_mark import holds_features
from data.feature_views.point_in_time import PointInTime, point_in_time, source_columns, table_columns
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
        "become what the store would have held by then. What search, score and skew would compute, once."
    )
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("path", type=Path, metavar="IN", help="Parquet file or folder")
    add("out", type=Path, metavar="OUT", help="Parquet file to write")
    add_use_case(parser)
    add("--history", type=Path, metavar="PATH", help="earlier rows of the same table: they count, and get no features")
    add(
        "--events",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the events of a source that has a table of its own; once for each",
    )


def run(args: argparse.Namespace) -> int:
    """Write the table and return the exit code.

    Raises:
        ConfigError: the use case declares no such features, or the options do not fit its sources.
        DataError: a table cannot be read or lacks a column, is too large, or has its features already.
    """
    use_case = use_case_of(args)
    paths = event_paths(args.events, use_case)
    table = open_source(absolute(args.path))
    check_table(table, use_case)
    history = _history(args.history, use_case)
    others = {name: open_source(path) for name, path in paths.items()}
    sources = [table, *([history] if history else []), *others.values()]
    check_out(args.out, sources)
    check_size(sources)
    with progress("features", table.rows) as advance:
        found = point_in_time(
            _read(table),
            use_case,
            _read(history, table_columns(use_case)) if history else None,
            {name: _read(source, source_columns(use_case.events[name])) for name, source in others.items()},
        )
        write_table(found.table, args.out)
        advance(table.rows)
    report(args.out, found, use_case)
    note_all(line for source in sources for line in source.report)
    return 0


def event_paths(given: Iterable[str], use_case: UseCase) -> dict[str, Path]:
    """Return by source where its events are: one path for each source that has a table of its own.

    Raises:
        ConfigError: an option does not name such a source and a path, or one is named twice or not at all.
    """
    own = [name for name, source in use_case.events.items() if source.own]
    others = [name for name in use_case.events if name not in own]
    found: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign or not path:
            raise ConfigError(f"--events {text}: expected NAME=PATH, as in --events reports=reports.parquet")
        if name in own:
            raise ConfigError(f"--events {text}: the events of '{name}' are the rows of IN; earlier ones are --history")
        if name not in others:
            known = f"with a table of their own: {', '.join(others)}" if others else "none has a table of its own"
            raise ConfigError(f"--events {text}: no source '{name}'; {known}")
        if name in found:
            raise ConfigError(f"--events {text}: '{name}' is named twice; make one folder of its files")
        found[name] = absolute(Path(path))
    read = {feature.source for feature in use_case.windows}
    missing = next((name for name in others if name in read and name not in found), None)
    if missing is not None:
        raise ConfigError(f"the events of source '{missing}' are not given: add --events {missing}=PATH")
    return found


def check_table(table: ParquetSource, use_case: UseCase) -> None:
    """Check that a table can get its features.

    Raises:
        ConfigError: the use case declares none.
        DataError: the table has them, or lacks a column.
    """
    batch_view = use_case.schema_.online and use_case.materialized is not None
    if not (use_case.windows or use_case.schema_.expressions or batch_view):
        raise ConfigError(
            f"use case '{use_case.name}' has no features to add: no windows, no expressions, and no online features "
            "with materialized"
        )
    name = named(table.path)
    if holds_features(table.schema, use_case, name):
        raise DataError(f"{name}: has its features already; use it as it is")
    table.require(table_columns(use_case))


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


def _history(path: Path | None, use_case: UseCase) -> ParquetSource | None:
    if path is None:
        return None
    if not table_columns(use_case):
        raise ConfigError(f"--history {path}: no source of '{use_case.name}' has the table's own rows as events")
    history = open_source(absolute(path))
    if holds_features(history.schema, use_case, named(history.path)) and use_case.schema_.online:
        raise DataError(
            f"{named(history.path)}: its online features are those of the store; name the table without them"
        )
    history.require(table_columns(use_case))
    return history


def _read(source: ParquetSource, columns: list[str] | None = None) -> pa.Table:
    return read_source(source, columns)
