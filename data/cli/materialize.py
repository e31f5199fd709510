"""`rayscore materialize`: the latest row of every entity of a table into the online store."""

from __future__ import annotations

import argparse
import time
from contextlib import closing

from data.cli.options import add_source, use_case_of
from data.cli.terminal import err, note_all, progress, say
from data.distributed.pieces import parquet_pieces
from data.distributed.ray_data import runner
from data.online_store import materialization, open_store
from data.schema.use_case import UseCase
from data.settings import load_settings
from data.sources.filesystems import absolute
from data.sources.parquet import open_source

_EXAMPLE = "example: rayscore materialize transactions.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Write the latest row of every entity to the online store. May be killed and repeated at any time."
    )
    parser.epilog = _EXAMPLE
    add_source(parser)


def run(args: argparse.Namespace) -> int:
    """Fill the store, print what was left out, and return the exit code.

    Raises:
        ConfigError: the use case has no online features, or no such use case is there.
        DataError: the table cannot be read, or lacks a column.
        StoreUnavailable: the store does not take the rows.
    """
    use_case, settings, now = use_case_of(args), load_settings(), time.time_ns() // 1000
    source = open_source(absolute(args.path))
    materialization.check_source(source, use_case)
    ttl = use_case.entity.ttl_seconds if use_case.entity else None
    oldest = None if ttl is None else now - ttl * 1_000_000
    pieces = parquet_pieces(source, materialization.online_columns(use_case))
    with (
        closing(open_store(settings, use_case.view, ttl, create=True)) as store,
        runner(pieces) as run_steps,
        progress("materialize", source.rows) as advance,
    ):
        parts = run_steps(pieces, materialization.packer(use_case, now), in_order=True)
        done = materialization.write(parts, store, oldest, advance)
    say(f"{args.path}: {done.rows:,} rows read, {done.written:,} latest rows written to {settings.store}")
    _left_out(done, use_case)
    note_all(source.report)
    return 0


def _left_out(done: materialization.Materialized, use_case: UseCase) -> None:
    ttl = use_case.entity.ttl if use_case.entity else None
    reasons = (
        (done.without_entity, "have no entity"),
        (done.without_time, "have no event time"),
        (done.future, "have an event time more than a day in the future, which would hide every later row"),
        (done.expired, f"are older than the entity's ttl of {ttl}"),
    )
    for count, reason in reasons:
        if count:
            err.print(f"left out: {count:,} rows {reason}", markup=False, style="yellow")
