"""`rayscore convert`: CSV to Parquet, one file or a folder of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa

from data.cli.terminal import progress, say
from data.distributed.ray_cluster import cluster
from data.distributed.ray_data import stream
from data.sources import csv
from data.sources.parquet import atomic_folder

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
            rows = csv.convert_file(csv.Conversion(args.csv, args.out, types), advance)
    else:
        rows = _folder(args.out, files, types)
    kinds = ", ".join(f"{name} {kind}" for name, kind in types.items())
    say(f"{args.out}: {rows:,} rows; {kinds}")
    return 0


def _folder(out: Path, files: list[Path], types: dict[str, pa.DataType]) -> int:
    total = 0
    with atomic_folder(out) as folder, cluster(), progress("convert", None) as advance:
        jobs = [csv.Conversion(file.absolute(), folder / f"{file.stem}.parquet", types) for file in files]
        for rows in stream(jobs, csv.convert_quietly):
            total += rows
            advance(rows)
    return total
