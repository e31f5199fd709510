"""`rayscore generate`: seeded tables of shipped use cases, as one Parquet file or spread over a folder of them."""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq

from data.cli.options import positive
from data.cli.terminal import progress, say
from data.distributed.parquet_folder import write_folder
from data.distributed.pieces import Pieces
from data.distributed.runner import runner
from data.errors import ConfigError, DataError
from data.sources.atomic_output import atomic_file
from data.sources.filesystems import absolute
from data.sources.synthetic.generators import GENERATORS, ORIGIN, Generator
from data.sources.synthetic.plan import GenerationPlan, default_days, shards

_ROWS_PER_FILE = 500_000
_USE_CASE = "card_fraud"
_END = "2026-01-01"
"""Day after the last generated one, unless told otherwise: fixed, so that a seed means the same rows on any day."""
_EXAMPLE = "example: rayscore generate var/transactions --rows 100000 --end today"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Write the seeded table of a shipped use case as Parquet: card transactions, unless told otherwise. The same "
        "options give the same rows, on any number of CPUs."
    )
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("out", type=Path, help="folder to write, or one file that ends in .parquet")
    add("--use-case", choices=GENERATORS, default=_USE_CASE, help="whose table (default %(default)s)")
    add("--rows", type=positive, default=100_000, help="rows (default %(default)s)")
    add("--seed", type=int, default=0, help="seed (default %(default)s)")
    daily = "; ".join(f"{each.daily:g} {each.rows} of {each.entities}" for each in GENERATORS.values())
    add("--entities", type=positive, help=f"what the rows are of (default: by the rows each has a day: {daily})")
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
    generator = GENERATORS[args.use_case]
    days = args.days or default_days(args.rows)
    entities = args.entities or generator.default_entities(args.rows, days)
    plan = GenerationPlan(args.rows, args.seed, entities, days, _end_us(args.end))
    write = _file if args.out.suffix == ".parquet" else _folder
    counts = write(args.out, generator, plan, args.files)
    of = f"{plan.rows:,} {generator.rows} of {plan.entities:,} {generator.entities} over {plan.days} days"
    say(f"{args.out}: {of}, {generator.outcome(counts, plan.rows)}")
    return 0


def _folder(out: Path, generator: Generator, plan: GenerationPlan, asked: int | None) -> Counter[str]:
    files = shards(plan, asked or max(-(-plan.rows // _ROWS_PER_FILE), 1))
    pieces = Pieces(generator.rows.capitalize(), files, generator.tables_with_origin, plan.rows)
    counts: Counter[str] = Counter()
    with runner(pieces) as run, progress("generate", plan.rows) as advance:
        for rows, found in write_folder(run, pieces, [ORIGIN], absolute(out), generator.counted):
            advance(rows)
            counts += found
    return counts


def _file(out: Path, generator: Generator, plan: GenerationPlan, asked: int | None) -> Counter[str]:
    if asked is not None and asked > 1:
        raise DataError(f"--files {asked}: {out} is one file; name a folder for more")
    counts: Counter[str] = Counter()
    with (
        progress("generate", plan.rows) as advance,
        atomic_file(out) as partial,
        pq.ParquetWriter(partial, generator.schema, compression="zstd") as writer,
    ):
        for table in generator.tables(shards(plan, 1)[0]):
            writer.write_table(table)
            rows, found = generator.counted(table)
            advance(rows)
            counts += found
    return counts


def _end_us(text: str) -> int:
    try:
        day = datetime.now(timezone.utc).date().isoformat() if text == "today" else text
        end = datetime.fromisoformat(day)
    except ValueError as exc:
        raise ConfigError(f"--end {text}: expected a date such as {_END}, or 'today'") from exc
    return int((end if end.tzinfo else end.replace(tzinfo=timezone.utc)).timestamp()) * 1_000_000
