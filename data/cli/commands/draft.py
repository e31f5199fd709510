"""`rayscore draft`: a use-case file for a table that nobody has described yet."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.cli.terminal import note_all, say
from data.sources.draft import use_case_draft
from data.sources.draft.drafted_target import KINDS
from data.sources.parquet import open_source

_EXAMPLE = "example: rayscore draft table.parquet --label target --out my_case.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Look at a table and write a use-case file for it, good enough to train at once."
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("path", type=Path, help="Parquet file or folder")
    add("--label", required=True, help="column to predict: two labels, several classes, numbers, or grades")
    add("--kind", choices=KINDS, help="kind of target (default: by the labels)")
    add("--group", help="column whose equal values are one list, of --kind ranking")
    add("--item", help="column that says which item of a list a row is of")
    add("--entity", help="column with the key of the online store")
    add("--time", help="column with the event time")
    add("--key", help="column that identifies a row")
    add("--name", help="name of the use case (default: from the path)")
    add("--out", type=Path, help="file to write (default: print)")


def run(args: argparse.Namespace) -> int:
    """Write or print the draft and return the exit code.

    Raises:
        DataError: the table cannot be read, or a named column is not there or not fit for what it is named for.
    """
    report = open_source(args.path).report
    roles = args.label, args.entity, args.time, args.key, args.name, args.kind, args.group, args.item
    text = use_case_draft.draft(args.path, *roles)
    if args.out is None:
        say(text.removesuffix("\n"))
        note_all(report)
        return 0
    use_case_draft.write(text, args.out)
    say(f"{args.out}: written; look it over, then: rayscore tune --use-case {args.out} --data {args.path}")
    note_all(report)
    return 0
