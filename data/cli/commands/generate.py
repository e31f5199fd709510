"""`rayscore generate`: seeded card transactions, as one Parquet file or spread over a folder of them."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.cli.options import positive
from data.cli.terminal import progress, say
from data.distributed.parquet_folder import write_folder
from data.distributed.pieces import Pieces
from data.distributed.runner import runner
from data.errors import ConfigError, DataError
from data.sources import synthetic_transactions
from data.sources.atomic_output import atomic_file
from data.sources.filesystems import absolute
from data.sources.synthetic_transactions import (
    ORIGIN,
    SCHEMA,
    GenerationPlan,
    frauds,
    shards,
    tables,
    tables_with_origin,
)

_ROWS_PER_FILE = 500_000
_END = "2026-01-01"
"""Day after the last generated one, unless told otherwise: fixed, so that a seed means the same rows on any day."""
_EXAMPLE = "example: rayscore generate var/transactions --rows 100000 --end today"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Write seeded card transactions as Parquet. The same options give the same rows, on any number of CPUs."
    )
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("out", type=Path, help="folder to write, or one file that ends in .parquet")
    add("--rows", type=positive, default=100_000, help="transactions (default %(default)s)")
    add("--seed", type=int, default=0, help="seed (default %(default)s)")
    add("--entities", type=positive, help="cards (default: one transaction a card every other day)")
    add(
        "--files",
        type=positive,
        help="files, at most one per 65,536 rows, more beyond 128 MiB (default: 500,000 rows each)",
    )
    add("--days", type=positive, help="days covered (default 90, more beyond 45 million rows)")
    add("--end", default=_END, help="day after the last, or 'today' (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the table and return the exit code.

    Raises:
        ConfigError: `--end` is no date.
        DataError: the table cannot be written so.
    """
    days = args.days or synthetic_transactions.default_days(args.rows)
    entities = args.entities or synthetic_transactions.default_entities(args.rows, days)
    plan = GenerationPlan(args.rows, args.seed, entities, days, _end_us(args.end))
    single = args.out.suffix == ".parquet"
    found = _file(args.out, plan, args.files or 1) if single else _folder(args.out, plan, args.files)
    share = 100 * found / plan.rows
    say(f"{args.out}: {plan.rows:,} transactions of {plan.entities:,} cards over {plan.days} days, {share:.2f} % fraud")
    return 0


def _folder(out: Path, plan: GenerationPlan, asked: int | None) -> int:
    files = shards(plan, asked or max(-(-plan.rows // _ROWS_PER_FILE), 1))
    pieces = Pieces("Transactions", files, tables_with_origin, plan.rows)
    found = 0
    with runner(pieces) as run, progress("generate", plan.rows) as advance:
        for rows, number in write_folder(run, pieces, [ORIGIN], absolute(out), _rows_and_frauds):
            advance(rows)
            found += number
    return found


def _file(out: Path, plan: GenerationPlan, files: int) -> int:
    if files > 1:
        raise DataError(f"--files {files}: {out} is one file; name a folder for more")
    found = 0
    with (
        progress("generate", plan.rows) as advance,
        atomic_file(out) as partial,
        pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer,
    ):
        for table in tables(shards(plan, 1)[0]):
            writer.write_table(table)
            advance(table.num_rows)
            found += frauds(table)
    return found


def _rows_and_frauds(table: pa.Table) -> tuple[int, int]:
    return table.num_rows, frauds(table)


def _end_us(text: str) -> int:
    try:
        day = datetime.now(timezone.utc).date().isoformat() if text == "today" else text
        end = datetime.fromisoformat(day)
    except ValueError as exc:
        raise ConfigError(f"--end {text}: expected a date such as {_END}, or 'today'") from exc
    return int((end if end.tzinfo else end.replace(tzinfo=timezone.utc)).timestamp()) * 1_000_000
