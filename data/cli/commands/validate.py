"""`python -m data validate`: a table against a use case, in figures, in a report, and the bad rows apart.

`rayscore validate` (`tune.cli.validate`) is the same command, and holds the table against a registered model too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from data.cli.options import add_events, add_source, events_of, use_case_of
from data.cli.terminal import EXIT_REFUSED, note, note_all, progress, say
from data.distributed.pieces import parquet_pieces
from data.distributed.runner import runner
from data.feature_views.events.event_tables import (
    EventFiles,
    EventTables,
    open_events,
    read_events,
    said_of,
    sources_beside,
)
from data.feature_views.events.table_mark import holds_stored, marked
from data.schema.use_case import UseCase
from data.sources.atomic_output import atomic_file, write_table
from data.sources.filesystems import absolute, named
from data.sources.parquet import ParquetSource, open_source, read_source
from data.validation import report, validation
from data.validation.bad_rows import bad_row_numbers, bad_rows
from data.validation.column_types import check_source
from data.validation.event_checks import beside_event_problems
from data.validation.event_columns import check_event_files
from data.validation.model_coverage import TrainedModel
from data.validation.stored_values import MOST_ROWS, StoredValues, stored_columns, stored_values

_EXAMPLE = "example: rayscore validate transactions.parquet --report report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Check a table against a use case. Exit code 0: clean, 1: problems found, 2: could not run."
    parser.epilog = _EXAMPLE
    add_source(parser)
    add_events(parser)
    parser.add_argument(
        "--report", type=Path, help="report to write, .html or .md; the bad rows go beside it as Parquet"
    )


def run(args: argparse.Namespace) -> int:
    """Check the table, print what was found, and return the exit code; raises as `validate`."""
    return validate(args, lambda use_case: None)


def validate(args: argparse.Namespace, find_model: Callable[[UseCase], TrainedModel | None]) -> int:
    """Check the table, print what was found, and return the exit code.

    Args:
        args: the options of `add_arguments`.
        find_model: finds the version to hold the table against; called once the table and its columns are found good.

    Raises:
        ConfigError: the use case or the report's name is wrong.
        DataError: the table cannot be read, lacks a column, or has stored values of other declarations.
        ModelError: as `find_model` raises.
    """
    use_case = use_case_of(args)
    source = open_source(absolute(args.path))
    check_source(source, use_case)
    events = _open_events(args, source, use_case)
    if args.report:
        report.check_name(args.report)
    model = find_model(use_case)
    done = _checked(source, use_case, model)
    tables = read_events(events, use_case)
    done.whole += _problems_of(events, tables, use_case)
    done.stored = _stored(source, tables.history, use_case)
    say(report.summary(done))
    if args.report:
        _write_report(args.report, source, done)
    note_all([*source.report, *said_of(events)])
    return 0 if done.clean else EXIT_REFUSED


def _checked(source: ParquetSource, use_case: UseCase, model: TrainedModel | None) -> validation.Validation:
    check = validation.checker(use_case, time.time_ns() // 1000, model)
    parts: list[validation.BlockFindings] = []
    pieces = parquet_pieces(source, use_case.columns)
    with runner(pieces) as run_steps, progress("validate", source.rows) as advance:
        for part in run_steps(pieces, check):
            parts.append(part)
            advance(part.rows)
    return validation.merge(source, use_case, parts, model)


def _open_events(args: argparse.Namespace, source: ParquetSource, use_case: UseCase) -> EventFiles:
    """Open the events beside the table; those of a source that is not named are not looked at, which is said."""
    paths = events_of(args)
    held = marked(source.schema, use_case)
    absent = [name for name in sources_beside(use_case, held) if name not in paths.others]
    note_all(f"events.{name} is not checked: name it by --events {name}=PATH" for name in absent)
    events = open_events(paths, use_case, held, partly=True)
    check_event_files(events, use_case)
    return events


def _stored(source: ParquetSource, history: pa.Table | None, use_case: UseCase) -> StoredValues | None:
    """Hold the rows' own values against what the store would have had, where the table has both."""
    if not use_case.joins_stored or holds_stored(source.schema, use_case, named(source.path)):
        return None
    rows = source.rows + (history.num_rows if history is not None else 0)
    if rows > MOST_ROWS:
        note(f"what the online store would have held is not looked at: {rows:,} rows are more than {MOST_ROWS:,}")
        return None
    return stored_values(read_source(source, stored_columns(use_case)), use_case, history)


def _problems_of(events: EventFiles, tables: EventTables, use_case: UseCase) -> list[str]:
    now_us = time.time_ns() // 1000
    return [
        f"{named(events.others[name].path)}: {text}"
        for name, table in tables.others.items()
        for text in beside_event_problems(table, name, use_case.events[name], now_us)
    ]


def _blind(done: validation.Validation) -> bool:
    return done.coverage is not None and len(done.coverage.blind) > 0


def _write_report(target: Path, source: ParquetSource, done: validation.Validation) -> None:
    with atomic_file(target) as partial:
        partial.write_text(report.render(done, target), "utf-8")
    say(f"report: {target}")
    bad, found = target.with_name(f"{target.stem}.bad_rows.parquet"), len(bad_row_numbers(done))
    if found:
        table = bad_rows(source, done)
        write_table(table, bad)
        capped = f", the first of {found:,}" if table.num_rows < found else ""
        kinds = "bad rows, and rows with something new to the model" if _blind(done) else "bad rows"
        say(f"{kinds}: {bad} ({table.num_rows:,} rows{capped})")
    else:
        bad.unlink(missing_ok=True)
