"""`rayscore convert`: CSV to Parquet, one file or a folder of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa

from data.cli.terminal import progress, say
from data.distributed.parquet_datasink import write_folder
from data.distributed.pieces import Pieces
from data.distributed.ray_data import runner
from data.sources import csv
from data.sources.filesystems import absolute

_EXAMPLE = "example: rayscore convert transactions.csv transactions.parquet --types zip=string"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Convert CSV to Parquet, streaming. Types are inferred from the first 8 MiB; a later misfit is an error."
    )
    parser.epilog = _EXAMPLE
    add = parser.add_argument
    add("csv", type=Path, help="CSV file with a header, or a folder of them (one task a file)")
    add("out", type=Path, help="Parquet file to write, or a folder when CSV is one")
    add("--types", nargs="+", default=[], metavar="COLUMN=TYPE", help=f"types: {', '.join(csv.TYPES)}")


def run(args: argparse.Namespace) -> int:
    """Convert and return the exit code.

    Raises:
        DataError: the CSV is not what its header and its first rows promise, or a type is not known.
    """
    declared = csv.parse_types(args.types)
    files = csv.csv_files(args.csv)
    types = csv.infer_types(files[0], declared)
    if args.csv.is_file():
        with progress("convert", None) as advance:
            rows = csv.convert_file(csv.Conversion(args.csv, types), args.out, advance)
    else:
        rows = _folder(args.out, files, types)
    kinds = ", ".join(f"{name} {kind}" for name, kind in types.items())
    say(f"{args.out}: {rows:,} rows; {kinds}")
    return 0


def _folder(out: Path, files: list[Path], types: dict[str, pa.DataType]) -> int:
    jobs = [csv.Conversion(file.absolute(), types) for file in files]
    pieces = Pieces("CSV", jobs, csv.tables)
    total = 0
    with runner(pieces) as run_steps, progress("convert", None) as advance:
        for rows in write_folder(run_steps, pieces, [str(job.source) for job in jobs], absolute(out), len):
            total += rows
            advance(rows)
    return total
