"""The options of the data commands, with their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from data.sources import csv

Run = Callable[[argparse.Namespace], int]
"""Runs a command and returns its exit code."""

_EXAMPLES = """examples:
  python -m data generate var/transactions --rows 100000 --end today
  python -m data convert transactions.csv transactions.parquet --types zip=string
  python -m data validate transactions.parquet --report report.html
  python -m data materialize transactions.parquet
  python -m data get user_17
  python -m data draft table.parquet --label target --out my_case.toml
  python -m data log --last 20

The use case is RAYSCORE_USE_CASE (default card_fraud) unless --use-case names another.
Work is spread over the Ray cluster that RAY_ADDRESS names, else over the CPUs of this machine.
exit codes: 0 done, 1 problems found or no such row, 2 could not run, 130 interrupted
"""
GENERATED_END = "2026-01-01"
"""Day after the last generated one, unless told otherwise: fixed, so that a seed means the same rows on any day."""


def _positive(text: str) -> int:
    value = int(text.replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def parser(runs: Mapping[str, Run], description: str | None) -> argparse.ArgumentParser:
    """Return the parser; `run` of what it parses is that of the command in `runs`, or None without a command."""
    top = argparse.ArgumentParser(
        "python -m data",
        description=description,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.set_defaults(run=None)
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for add in (_add_generate, _add_convert, _add_validate, _add_materialize, _add_get, _add_draft, _add_log):
        add(commands, runs)
    return top


_Commands = argparse._SubParsersAction


def _add_generate(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Write seeded card transactions as Parquet. The same options give the same rows, on any number of CPUs."
    add = commands.add_parser("generate", help="write seeded card transactions", description=text)
    add.add_argument("out", type=Path, help="folder to write, or one file that ends in .parquet")
    add.add_argument("--rows", type=_positive, default=100_000, help="transactions (default %(default)s)")
    add.add_argument("--seed", type=int, default=0, help="seed (default %(default)s)")
    add.add_argument("--entities", type=_positive, help="cards (default: one transaction a card every other day)")
    add.add_argument("--files", type=_positive, help="files, at most one per 65,536 rows (default: 500,000 rows each)")
    add.add_argument("--days", type=_positive, help="days covered (default 90, more beyond 45 million rows)")
    add.add_argument("--end", default=GENERATED_END, help="day after the last, or 'today' (default %(default)s)")
    add.set_defaults(run=runs["generate"])


def _add_convert(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Convert CSV to Parquet, streaming. Types are inferred from the first 8 MiB; a later misfit is an error."
    add = commands.add_parser("convert", help="convert CSV to Parquet", description=text)
    add.add_argument("csv", type=Path, help="CSV file with a header, or a folder of them (one task a file)")
    add.add_argument("out", type=Path, help="Parquet file to write, or a folder when CSV is one")
    add.add_argument("--types", nargs="+", default=[], metavar="COLUMN=TYPE", help=f"types: {', '.join(csv.TYPES)}")
    add.set_defaults(run=runs["convert"])


def _add_validate(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Check a table against a use case. Exit code 0: clean, 1: problems found, 2: could not run."
    add = commands.add_parser("validate", help="check a table against a use case", description=text)
    _add_source(add)
    add.add_argument("--report", type=Path, help="report to write, .html or .md; the bad rows go beside it as Parquet")
    add.set_defaults(run=runs["validate"])


def _add_materialize(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Write the latest row of every entity to the online store. May be killed and repeated at any time."
    add = commands.add_parser("materialize", help="write the latest rows to the online store", description=text)
    _add_source(add)
    add.set_defaults(run=runs["materialize"])


def _add_get(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Show what the online store holds of one entity. Exit code 1: no row."
    add = commands.add_parser("get", help="show an entity's online row", description=text)
    add.add_argument("entity", help="the entity's key, e.g. user_17")
    add.add_argument("--json", action="store_true", help="print one JSON object")
    _add_use_case(add)
    add.set_defaults(run=runs["get"])


def _add_draft(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Look at a table and write a use-case file for it, good enough to train at once."
    add = commands.add_parser("draft", help="write a use-case file for a table", description=text)
    add.add_argument("path", type=Path, help="Parquet file or folder")
    add.add_argument("--label", required=True, help="column to predict; holds 0 and 1, or false and true")
    add.add_argument("--entity", help="column with the key of the online store")
    add.add_argument("--time", help="column with the event time")
    add.add_argument("--key", help="column that identifies a row")
    add.add_argument("--name", help="name of the use case (default: from the path)")
    add.add_argument("--out", type=Path, help="file to write (default: print)")
    add.set_defaults(run=runs["draft"])


def _add_log(commands: _Commands, runs: Mapping[str, Run]) -> None:
    text = "Read the prediction log of a service: what was answered, from which features, by which version."
    add = commands.add_parser("log", help="read the prediction log", description=text)
    add.add_argument("folder", type=Path, nargs="?", help="folder of the log (default: that of the settings)")
    add.add_argument("--last", type=_positive, default=10, metavar="N", help="rows to show (default %(default)s)")
    add.add_argument("--entity", help="only rows of this entity, as it is written in the log")
    add.add_argument("--version", help="only rows of this version of the model")
    add.add_argument("--json", action="store_true", help="print one JSON object a row, features by name")
    add.add_argument("--out", type=Path, help="write the rows as one Parquet file, a column a feature, instead")
    add.set_defaults(run=runs["log"])


def _add_source(add: argparse.ArgumentParser) -> None:
    add.add_argument("path", type=Path, help="Parquet file or folder")
    _add_use_case(add)


def _add_use_case(add: argparse.ArgumentParser) -> None:
    add.add_argument("--use-case", help="name of a shipped use case or path of a file (default RAYSCORE_USE_CASE)")
