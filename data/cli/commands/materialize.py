"""`rayscore materialize`: the latest row of every entity of a table into the online store."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

from data.cli.options import add_source, use_case_of
from data.cli.terminal import counted, err, note_all, progress, say
from data.distributed.pieces import parquet_pieces
from data.distributed.runner import runner
from data.online_store import materialization, open_store
from data.online_store.left_out import LeftOut, Reason
from data.online_store.materialization import Materialized
from data.schema.entity import Entity
from data.schema.use_case import UseCase
from data.settings import load_settings
from data.sources.filesystems import absolute, named
from data.sources.parquet import open_source
from data.transform.entity_key import spelling

_EXAMPLE = "example: rayscore materialize transactions.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Write the latest row of every entity to the online store. May be killed and repeated at any time."
    )
    parser.epilog = _EXAMPLE
    add_source(parser)


def run(args: argparse.Namespace) -> int:
    """Fill the store, print what became of every row, and return the exit code.

    Raises:
        ConfigError: the use case has no online features, or no such use case is there.
        DataError: the table cannot be read, or lacks a column.
        StoreUnavailable: the store does not take the rows.
    """
    use_case, settings, now = use_case_of(args), load_settings(), time.time_ns() // 1000
    source = open_source(absolute(args.path))
    materialization.check_source(source, use_case)
    ttl = use_case.entity.ttl_seconds if use_case.entity else None
    pieces = parquet_pieces(source, materialization.online_columns(use_case))
    with (
        closing(open_store(settings, use_case.view, ttl, create=True)) as store,
        runner(pieces) as run_steps,
        progress("materialize", source.rows) as advance,
    ):
        parts = run_steps(pieces, materialization.packer(source, use_case, now), in_order=True)
        done = materialization.write(parts, store, advance)
    report(args.path, done, use_case, settings.store)
    note_all(source.report)
    return 0


def report(path: Path, done: Materialized, use_case: UseCase, store: str) -> None:
    """Print what became of every row: what is in the store on stdout, what was left out on stderr."""
    totals = done.entities
    say(
        f"{named(path)}: {_rows(done.rows)} read, {counted(totals.entities, 'entity', 'entities')}: "
        f"{totals.written:,} written to {store}, {totals.unchanged:,} unchanged, {totals.older:,} older than stored"
    )
    if done.superseded:
        conflicting = f", {totals.conflicting:,} of them at the same event time with other values"
        note = conflicting if totals.conflicting else ""
        say(f"superseded: {_rows(done.superseded)} by a later row of their entity{note}")
    _left_out(done.left_out, use_case)


def _left_out(left_out: LeftOut, use_case: UseCase) -> None:
    entity = use_case.entity or Entity(column="")
    reasons = {
        Reason.WITHOUT_ENTITY: f"without entity: '{entity.column}' is blank",
        Reason.WRONG_ENTITY: f"whose '{entity.column}' is no key of type {entity.type}: expected {spelling(entity)}",
        Reason.WITHOUT_TIME: "without event time",
        Reason.FUTURE: "with an event time more than a day in the future, which would hide every later row",
        Reason.EXPIRED: f"older than the entity's ttl of {entity.ttl}",
    }
    for reason, words in reasons.items():
        rows = left_out[reason]
        if rows.count:
            named = f" ({', '.join(rows.names)}{', ...' if rows.count > len(rows.names) else ''})" if rows.names else ""
            err.print(f"left out: {_rows(rows.count)} {words}{named}", markup=False, style="yellow")


def _rows(count: int) -> str:
    return counted(count, "row", "rows")
