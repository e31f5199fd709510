"""The command line of the data side: generate, convert, validate, materialize, get, draft."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from data import convert, draft, generate, materialize, report, validate
from data.cluster import cluster
from data.console import err, progress, run_cli
from data.dataset import stream
from data.errors import ConfigError, DataError
from data.parquet import ParquetSource, atomic_file, atomic_folder, open_source, write_table
from data.payload import OnlineRow, RowCodec
from data.settings import load_settings
from data.store import open_store
from data.usecase import UseCase, load_use_case

_EXAMPLES = """examples:
  python -m data generate var/transactions --rows 100000 --end today
  python -m data convert transactions.csv transactions.parquet --types zip=string
  python -m data validate transactions.parquet --report report.html
  python -m data materialize transactions.parquet
  python -m data get user_17
  python -m data draft table.parquet --label target --out my_case.toml

The use case is RAYSCORE_USE_CASE (default card_fraud) unless --use-case names another.
Work is spread over the Ray cluster that RAY_ADDRESS names, else over the CPUs of this machine.
exit codes: 0 done, 1 problems found or no such row, 2 could not run, 130 interrupted
"""
_GENERATED_END = "2026-01-01"
_ROWS_PER_FILE = 500_000


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return 0
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _generate(args: argparse.Namespace) -> int:
    days = args.days or generate.default_days(args.rows)
    entities = args.entities or generate.default_entities(args.rows, days)
    plan = generate.Plan(args.rows, args.seed, entities, days, _end_us(args.end))
    if args.out.suffix == ".parquet":
        return _generate_file(args, plan)
    files = args.files or max(-(-args.rows // _ROWS_PER_FILE), 1)
    with atomic_folder(args.out) as folder, cluster(), progress("generate", args.rows) as advance:
        frauds = 0
        for rows, found in stream(generate.shards(plan, folder, files), generate.write_shard):
            frauds += found
            advance(rows)
    return _generated(args.out, plan, frauds)


def _generate_file(args: argparse.Namespace, plan: generate.Plan) -> int:
    if (args.files or 1) > 1:
        raise DataError(f"--files {args.files}: {args.out} is one file; name a folder for more")
    with progress("generate", args.rows) as advance:
        rows, frauds = generate.write_shard(generate.Shard(plan, args.out, 0, plan.blocks))
        advance(rows)
    return _generated(args.out, plan, frauds)


def _generated(out: Path, plan: generate.Plan, frauds: int) -> int:
    share = 100 * frauds / plan.rows
    print(f"{out}: {plan.rows:,} transactions of {plan.entities:,} cards over {plan.days} days, {share:.2f} % fraud")
    return 0


def _convert(args: argparse.Namespace) -> int:
    declared = convert.parse_types(args.types)
    files = convert.csv_files(args.csv)
    types = convert.infer_types(files[0], declared)
    if args.csv.is_file():
        with progress("convert", None) as advance:
            rows = convert.convert_file(convert.Conversion(args.csv, args.out, types), advance)
    else:
        rows = _convert_folder(args.out, files, types)
    kinds = ", ".join(f"{name} {kind}" for name, kind in types.items())
    print(f"{args.out}: {rows:,} rows; {kinds}")
    return 0


def _convert_folder(out: Path, files: list[Path], types: dict[str, pa.DataType]) -> int:
    total = 0
    with atomic_folder(out) as folder, cluster(), progress("convert", None) as advance:
        jobs = [convert.Conversion(file.absolute(), folder / f"{file.stem}.parquet", types) for file in files]
        for rows in stream(jobs, convert.convert_quietly):
            total += rows
            advance(rows)
    return total


def _validate(args: argparse.Namespace) -> int:
    use_case = _use_case(args)
    source = open_source(args.path.absolute())
    validate.check_source(source, use_case)
    if args.report:
        report.check_name(args.report)
    with cluster(), progress("validate", source.rows) as advance:
        parts: list[validate.Partial] = []
        for part in stream(source.chunks, validate.checker(use_case, _now_us())):
            parts.append(part)
            advance(part.chunk.rows)
    done = validate.merge(source, use_case, parts)
    print(report.summary(done))
    if args.report:
        _write_report(args.report, source, done)
    return 0 if done.clean else 1


def _write_report(target: Path, source: ParquetSource, done: validate.Validation) -> None:
    with atomic_file(target) as partial:
        partial.write_text(report.render(done, target), "utf-8")
    print(f"report: {target}")
    bad = target.with_name(f"{target.stem}.bad_rows.parquet")
    if len(done.bad_rows):
        table = validate.bad_rows(source, done)
        write_table(table, bad)
        capped = f", the first of {len(done.bad_rows):,}" if table.num_rows < len(done.bad_rows) else ""
        print(f"bad rows: {bad} ({table.num_rows:,} rows{capped})")
    else:
        bad.unlink(missing_ok=True)


def _materialize(args: argparse.Namespace) -> int:
    use_case, settings, now = _use_case(args), load_settings(), _now_us()
    source = open_source(args.path.absolute())
    materialize.check_source(source, use_case)
    ttl = use_case.entity.ttl_seconds if use_case.entity else None
    oldest = None if ttl is None else now - ttl * 1_000_000
    with (
        closing(open_store(settings, use_case.view, ttl, create=True)) as store,
        cluster(),
        progress("materialize", source.rows) as advance,
    ):
        parts = stream(source.chunks, materialize.packer(use_case, now))
        done = materialize.write(parts, store, oldest, advance)
    print(f"{args.path}: {done.rows:,} rows read, {done.written:,} latest rows written to {settings.store}")
    _left_out(done, use_case)
    return 0


def _left_out(done: materialize.Materialized, use_case: UseCase) -> None:
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
    materialize.online_columns(use_case)
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
    print(f"{args.entity}  event time {event_time}, age {_duration(age)}{note}")
    width = max(len(name) for name in values)
    for name, value in values.items():
        print(f"  {name:<{width}}  {'(none)' if value is None else value}")


def _draft(args: argparse.Namespace) -> int:
    text = draft.draft(args.path, args.label, args.entity, args.time, args.key, args.name)
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
        raise ConfigError(f"--end {text}: expected a date such as {_GENERATED_END}, or 'today'") from exc
    return int((end if end.tzinfo else end.replace(tzinfo=timezone.utc)).timestamp()) * 1_000_000


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _positive(text: str) -> int:
    value = int(text.replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m data", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (_add_generate, _add_convert, _add_validate, _add_materialize, _add_get, _add_draft):
        add(commands)
    return parser


_Commands = argparse._SubParsersAction


def _add_generate(commands: _Commands) -> None:
    text = "Write seeded card transactions as Parquet. The same options give the same rows, on any number of CPUs."
    add = commands.add_parser("generate", help="write seeded card transactions", description=text)
    add.add_argument("out", type=Path, help="folder to write, or one file that ends in .parquet")
    add.add_argument("--rows", type=_positive, default=100_000, help="transactions (default %(default)s)")
    add.add_argument("--seed", type=int, default=0, help="seed (default %(default)s)")
    add.add_argument("--entities", type=_positive, help="cards (default: one transaction a card every other day)")
    add.add_argument("--files", type=_positive, help="files, at most one per 65,536 rows (default: 500,000 rows each)")
    add.add_argument("--days", type=_positive, help="days covered (default 90, more beyond 45 million rows)")
    add.add_argument("--end", default=_GENERATED_END, help="day after the last, or 'today' (default %(default)s)")
    add.set_defaults(run=_generate)


def _add_convert(commands: _Commands) -> None:
    text = "Convert CSV to Parquet, streaming. Types are inferred from the first 8 MiB; a later misfit is an error."
    add = commands.add_parser("convert", help="convert CSV to Parquet", description=text)
    add.add_argument("csv", type=Path, help="CSV file with a header, or a folder of them (one task a file)")
    add.add_argument("out", type=Path, help="Parquet file to write, or a folder when CSV is one")
    add.add_argument("--types", nargs="+", default=[], metavar="COLUMN=TYPE", help=f"types: {', '.join(convert.TYPES)}")
    add.set_defaults(run=_convert)


def _add_validate(commands: _Commands) -> None:
    text = "Check a table against a use case. Exit code 0: clean, 1: problems found, 2: could not run."
    add = commands.add_parser("validate", help="check a table against a use case", description=text)
    _add_source(add)
    add.add_argument("--report", type=Path, help="report to write, .html or .md; the bad rows go beside it as Parquet")
    add.set_defaults(run=_validate)


def _add_materialize(commands: _Commands) -> None:
    text = "Write the latest row of every entity to the online store. May be killed and repeated at any time."
    add = commands.add_parser("materialize", help="write the latest rows to the online store", description=text)
    _add_source(add)
    add.set_defaults(run=_materialize)


def _add_get(commands: _Commands) -> None:
    text = "Show what the online store holds of one entity. Exit code 1: no row."
    add = commands.add_parser("get", help="show an entity's online row", description=text)
    add.add_argument("entity", help="the entity's key, e.g. user_17")
    add.add_argument("--json", action="store_true", help="print one JSON object")
    _add_use_case(add)
    add.set_defaults(run=_get)


def _add_draft(commands: _Commands) -> None:
    text = "Look at a table and write a use-case file for it, good enough to train at once."
    add = commands.add_parser("draft", help="write a use-case file for a table", description=text)
    add.add_argument("path", type=Path, help="Parquet file or folder")
    add.add_argument("--label", required=True, help="column to predict; holds 0 and 1, or false and true")
    add.add_argument("--entity", help="column with the key of the online store")
    add.add_argument("--time", help="column with the event time")
    add.add_argument("--key", help="column that identifies a row")
    add.add_argument("--name", help="name of the use case (default: from the path)")
    add.add_argument("--out", type=Path, help="file to write (default: print)")
    add.set_defaults(run=_draft)


def _add_source(add: argparse.ArgumentParser) -> None:
    add.add_argument("path", type=Path, help="Parquet file or folder")
    _add_use_case(add)


def _add_use_case(add: argparse.ArgumentParser) -> None:
    add.add_argument("--use-case", help="name of a shipped use case or path of a file (default RAYSCORE_USE_CASE)")


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
