"""The command line of the data side: generate, convert, validate, materialize, get, draft, log."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from data.cli import log
from data.cli.options import GENERATED_END, Run, parser
from data.cli.terminal import err, progress, run_cli
from data.distributed.ray_cluster import cluster
from data.distributed.ray_data import stream
from data.errors import ConfigError, DataError
from data.online_store import materialization, open_store
from data.online_store.row_codec import OnlineRow, RowCodec
from data.schema.duration import format_duration
from data.schema.use_case import UseCase, load_use_case
from data.settings import load_settings
from data.sources import csv, synthetic_transactions, use_case_draft
from data.sources.filesystems import absolute
from data.sources.parquet import ParquetSource, atomic_file, atomic_folder, open_source, write_table
from data.validation import report, validation

_ROWS_PER_FILE = 500_000


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = parser(_RUNS, __doc__)
    args = options.parse_args(argv)
    if args.run is None:
        options.print_help()
        return 0
    run: Run = args.run
    return run(args)


def _generate(args: argparse.Namespace) -> int:
    days = args.days or synthetic_transactions.default_days(args.rows)
    entities = args.entities or synthetic_transactions.default_entities(args.rows, days)
    plan = synthetic_transactions.GenerationPlan(args.rows, args.seed, entities, days, _end_us(args.end))
    if args.out.suffix == ".parquet":
        return _generate_file(args, plan)
    files = args.files or max(-(-args.rows // _ROWS_PER_FILE), 1)
    with atomic_folder(args.out) as folder, cluster(), progress("generate", args.rows) as advance:
        frauds = 0
        for rows, found in stream(
            synthetic_transactions.shards(plan, folder, files), synthetic_transactions.write_shard
        ):
            frauds += found
            advance(rows)
    return _generated(args.out, plan, frauds)


def _generate_file(args: argparse.Namespace, plan: synthetic_transactions.GenerationPlan) -> int:
    if (args.files or 1) > 1:
        raise DataError(f"--files {args.files}: {args.out} is one file; name a folder for more")
    with progress("generate", args.rows) as advance:
        rows, frauds = synthetic_transactions.write_shard(synthetic_transactions.Shard(plan, args.out, 0, plan.blocks))
        advance(rows)
    return _generated(args.out, plan, frauds)


def _generated(out: Path, plan: synthetic_transactions.GenerationPlan, frauds: int) -> int:
    share = 100 * frauds / plan.rows
    print(f"{out}: {plan.rows:,} transactions of {plan.entities:,} cards over {plan.days} days, {share:.2f} % fraud")
    return 0


def _convert(args: argparse.Namespace) -> int:
    declared = csv.parse_types(args.types)
    files = csv.csv_files(args.csv)
    types = csv.infer_types(files[0], declared)
    if args.csv.is_file():
        with progress("convert", None) as advance:
            rows = csv.convert_file(csv.Conversion(args.csv, args.out, types), advance)
    else:
        rows = _convert_folder(args.out, files, types)
    kinds = ", ".join(f"{name} {kind}" for name, kind in types.items())
    print(f"{args.out}: {rows:,} rows; {kinds}")
    return 0


def _convert_folder(out: Path, files: list[Path], types: dict[str, pa.DataType]) -> int:
    total = 0
    with atomic_folder(out) as folder, cluster(), progress("convert", None) as advance:
        jobs = [csv.Conversion(file.absolute(), folder / f"{file.stem}.parquet", types) for file in files]
        for rows in stream(jobs, csv.convert_quietly):
            total += rows
            advance(rows)
    return total


def _validate(args: argparse.Namespace) -> int:
    use_case = _use_case(args)
    source = open_source(absolute(args.path))
    validation.check_source(source, use_case)
    if args.report:
        report.check_name(args.report)
    with cluster(), progress("validate", source.rows) as advance:
        parts: list[validation.ChunkFindings] = []
        for part in stream(source.chunks, validation.checker(use_case, _now_us())):
            parts.append(part)
            advance(part.chunk.rows)
    done = validation.merge(source, use_case, parts)
    print(report.summary(done))
    if args.report:
        _write_report(args.report, source, done)
    return 0 if done.clean else 1


def _write_report(target: Path, source: ParquetSource, done: validation.Validation) -> None:
    with atomic_file(target) as partial:
        partial.write_text(report.render(done, target), "utf-8")
    print(f"report: {target}")
    bad = target.with_name(f"{target.stem}.bad_rows.parquet")
    if len(done.bad_rows):
        table = validation.bad_rows(source, done)
        write_table(table, bad)
        capped = f", the first of {len(done.bad_rows):,}" if table.num_rows < len(done.bad_rows) else ""
        print(f"bad rows: {bad} ({table.num_rows:,} rows{capped})")
    else:
        bad.unlink(missing_ok=True)


def _materialize(args: argparse.Namespace) -> int:
    use_case, settings, now = _use_case(args), load_settings(), _now_us()
    source = open_source(absolute(args.path))
    materialization.check_source(source, use_case)
    ttl = use_case.entity.ttl_seconds if use_case.entity else None
    oldest = None if ttl is None else now - ttl * 1_000_000
    with (
        closing(open_store(settings, use_case.view, ttl, create=True)) as store,
        cluster(),
        progress("materialize", source.rows) as advance,
    ):
        parts = stream(source.chunks, materialization.packer(use_case, now))
        done = materialization.write(parts, store, oldest, advance)
    print(f"{args.path}: {done.rows:,} rows read, {done.written:,} latest rows written to {settings.store}")
    _left_out(done, use_case)
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


def _get(args: argparse.Namespace) -> int:
    use_case, settings = _use_case(args), load_settings()
    materialization.online_columns(use_case)
    ttl = use_case.entity.ttl_seconds if use_case.entity else None
    codec = RowCodec(use_case.schema_)
    with closing(open_store(settings, use_case.view, ttl)) as store:
        payload = asyncio.run(store.get_many([args.entity]))[0]
    row = codec.unpack(payload) if payload is not None else None
    if row is None:
        err.print(f"no row for '{args.entity}' in view {use_case.view} of the {settings.store} store", markup=False)
        return 1
    _show(args, codec, row, ttl)
    return 0


def _show(args: argparse.Namespace, codec: RowCodec, row: OnlineRow, ttl: int | None) -> None:
    age = (_now_us() - row.event_us) / 1e6
    values = dict(zip(codec.names, row.values, strict=True))
    event_time = datetime.fromtimestamp(row.event_us / 1e6, timezone.utc).isoformat()
    expired = ttl is not None and age > ttl
    if args.json:
        shown = {"entity": args.entity, "event_time": event_time, "age_seconds": round(age, 3), "expired": expired}
        print(json.dumps({**shown, "values": values}, ensure_ascii=False))
        return
    note = ", past its ttl: not used" if expired else ""
    print(f"{args.entity}  event time {event_time}, age {format_duration(age, units=2)}{note}")
    width = max(len(name) for name in values)
    for name, value in values.items():
        print(f"  {name:<{width}}  {'(none)' if value is None else value}")


def _draft(args: argparse.Namespace) -> int:
    text = use_case_draft.draft(args.path, args.label, args.entity, args.time, args.key, args.name)
    if args.out is None:
        print(text, end="")
        return 0
    with atomic_file(args.out) as partial:
        partial.write_text(text, "utf-8")
    print(f"{args.out}: written; look it over, then: python -m tune --use-case {args.out} --data {args.path}")
    return 0


def _use_case(args: argparse.Namespace) -> UseCase:
    return load_use_case(args.use_case or load_settings().use_case)


def _now_us() -> int:
    return time.time_ns() // 1000


def _end_us(text: str) -> int:
    try:
        day = datetime.now(timezone.utc).date().isoformat() if text == "today" else text
        end = datetime.fromisoformat(day)
    except ValueError as exc:
        raise ConfigError(f"--end {text}: expected a date such as {GENERATED_END}, or 'today'") from exc
    return int((end if end.tzinfo else end.replace(tzinfo=timezone.utc)).timestamp()) * 1_000_000


_RUNS: dict[str, Run] = {
    "generate": _generate,
    "convert": _convert,
    "validate": _validate,
    "materialize": _materialize,
    "get": _get,
    "draft": _draft,
    "log": log.run,
}


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
