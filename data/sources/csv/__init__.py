"""CSV as it is found: its dialect recognised, its columns typed without loss, and its conversion to Parquet."""

from data.sources.csv.column_types import TYPES, parse_types
from data.sources.csv.conversion import (
    Conversion,
    Converted,
    Inspected,
    convert_file,
    inspect,
    record_batches,
    reported,
    tables,
)
from data.sources.csv.dialect import DialectOptions, parse_options
from data.sources.csv.folder import CsvFiles, csv_files

__all__ = [
    "TYPES",
    "Conversion",
    "Converted",
    "CsvFiles",
    "DialectOptions",
    "Inspected",
    "convert_file",
    "csv_files",
    "inspect",
    "parse_options",
    "parse_types",
    "record_batches",
    "reported",
    "tables",
]
