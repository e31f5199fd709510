"""`rayscore convert`: CSV to Parquet, one file or a folder of them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data.cli.terminal import note, progress, say
from data.distributed.parquet_folder import write_folder
from data.distributed.pieces import Pieces
from data.distributed.runner import runner
from data.sources.csv import (
    TYPES,
    Conversion,
    Converted,
    DialectOptions,
    Inspected,
    convert_file,
    csv_files,
    inspect,
    parse_options,
    parse_types,
    reported,
    tables,
)
from data.sources.filesystems import absolute

_EXAMPLE = "example: rayscore convert transactions.csv transactions.parquet --types zip=string"
_NAMES_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Convert CSV to Parquet, streaming. Delimiter, decimal sign and encoding are recognised, types inferred from "
        "the first 8 MiB; a later misfit is an error. What a number would not print back the same stays text."
    )
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("csv", type=Path, help="CSV file with a header, or a folder of them (one task a file)")
    add("out", type=Path, help="Parquet file to write, or a folder when CSV is one")
    add("--types", nargs="+", default=[], metavar="COLUMN=TYPE", help=f"types: {', '.join(TYPES)}")
    add("--delimiter", metavar="CHAR", help="what divides the fields (default: recognised among , ; tab |)")
    add("--decimal", metavar="CHAR", help="decimal sign, . or , (default: recognised)")
    add("--encoding", metavar="NAME", help="encoding, such as cp1252 (default: UTF-8, or what a byte-order mark says)")
    add("--comment", metavar="CHAR", help="leave out lines that begin with it (default: # before the header)")


def run(args: argparse.Namespace) -> int:
    """Convert and return the exit code.

    Raises:
        DataError: the CSV is not what its header and its first rows promise, or an option is not known.
    """
    declared = parse_types(args.types)
    options = parse_options(args.delimiter, args.decimal, args.encoding, args.comment)
    found = csv_files(args.csv)
    inspected = inspect(found.files[0], declared, options)
    if args.csv.is_file():
        with progress("convert", None) as advance:
            done = [convert_file(Conversion(args.csv, inspected.columns, options), args.out, advance)]
    else:
        done = _folder(args.out, found.files, inspected, options)
    kinds = ", ".join(f"{column.name} {column.type}" for column in inspected.columns)
    say(f"{args.out}: {sum(each.rows for each in done):,} rows; {kinds}")
    for line in (*_said_of_columns(inspected, done), *_said_of_files(done), *_said_of_unread(found.unread)):
        say(f"  {line}")
    rows, files = sum(each.rows for each in done), "1 file" if len(done) == 1 else f"{len(done):,} files"
    note(f"read: {args.csv}: {files}, {rows:,} rows")
    return 0


def _folder(out: Path, files: Sequence[Path], inspected: Inspected, options: DialectOptions) -> list[Converted]:
    jobs = [Conversion(file.absolute(), inspected.columns, options) for file in files]
    pieces = Pieces("CSV", jobs, tables)
    done: list[Converted] = []
    with runner(pieces) as run_steps, progress("convert", None) as advance:
        for block in write_folder(run_steps, pieces, [str(job.source) for job in jobs], absolute(out), reported):
            advance(block.rows)
            done += block.files
    return done


def _said_of_columns(inspected: Inspected, done: Sequence[Converted]) -> Iterator[str]:
    for column in inspected.columns:
        missing = sum((each.missing.get(column.name, Counter()) for each in done), Counter[str]())
        infinite = sum(each.infinite[column.name] for each in done)
        if column.name in inspected.observations:
            yield f"{column.name}: {inspected.observations[column.name]}"
        if missing:
            yield f"{column.name}: {_missing(missing, str(column.type) == 'string')}"
        if infinite:
            yield f"{column.name}: {infinite:,} infinite"


def _missing(words: Counter[str], text: bool) -> str:
    if text:
        return f"{words['']:,} empty"
    parts = [f"{count:,} {repr(word) if word else 'empty'}" for word, count in words.most_common()]
    return f"{', '.join(parts)} read as missing"


def _said_of_files(done: Sequence[Converted]) -> Iterator[str]:
    """What holds of several files is said once."""
    files: dict[str, list[str]] = {}
    for each in sorted(done, key=lambda each: each.source):
        left_out = [f"{each.comments:,} comment lines among the rows left out"] if each.comments else []
        for remark in (*each.notes, *left_out):
            files.setdefault(remark, []).append(each.source.name)
    for remark, names in files.items():
        yield f"{names[0]}{f' and {len(names) - 1:,} more files' if len(names) > 1 else ''}: {remark}"


def _said_of_unread(unread: Mapping[str, str]) -> Iterator[str]:
    for name, reason in list(unread.items())[:_NAMES_SHOWN]:
        yield f"not read: {name} {reason}"
    if len(unread) > _NAMES_SHOWN:
        yield f"not read: {len(unread) - _NAMES_SHOWN:,} more"
