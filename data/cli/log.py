"""`rayscore log`: the prediction log on the screen, as JSON lines, or as one table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from data.cli.options import positive
from data.cli.terminal import err
from data.prediction_log.files import LogFile, read_log, sources
from data.settings import load_settings
from data.sources.parquet import write_table

_SHOWN = ("answered_at", "request_id", "entity", "version", "probability", "label", "latency_ms", "degraded")
_BESIDES = ("vector", "sources", "sent", "online")

out = Console(highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Read the prediction log of a service: what was answered, from which features, by which version."
    )
    parser.epilog = "example: rayscore log --last 20"
    add = parser.add_argument
    add("folder", type=Path, nargs="?", help="folder of the log (default: that of the settings)")
    add("--last", type=positive, default=10, metavar="N", help="rows to show (default %(default)s)")
    add("--entity", help="only rows of this entity, as it is written in the log")
    add("--version", help="only rows of this version of the model")
    add("--json", action="store_true", help="print one JSON object a row, features by name")
    add("--out", type=Path, help="write the rows as one Parquet file, a column a feature, instead")


def run(args: argparse.Namespace) -> int:
    """Show or write what the log holds; exit code 1: no row.

    Raises:
        DataError: there is no log, or a file of it is broken.
    """
    folder = args.folder or load_settings().prediction_log_path
    files = [LogFile(_chosen(each.table, args), each.features, each.whole) for each in read_log(folder)]
    rows = sum(each.table.num_rows for each in files)
    if not rows:
        err.print(f"no such row in {folder}", markup=False)
        return 1
    if args.out:
        write_table(wide(files), args.out)
        err.print(f"{rows:,} rows written to {args.out}", markup=False)
        return 0
    last = _last(files, args.last)
    if args.json:
        for row in last:
            out.print(json.dumps(row, ensure_ascii=False, default=str), markup=False)
        return 0
    _show(last, files, rows, folder)
    return 0


def wide(files: list[LogFile]) -> pa.Table:
    """One table of several files: a float column `feature_NAME` and a word column `source_NAME` for each feature."""
    return pa.concat_tables([_widened(each) for each in files if each.table.num_rows], promote_options="default")


def lost_rows(tables: list[pa.Table]) -> int:
    """Rows that were to be logged and are not there, by the gaps in each replica's count."""
    if not tables:
        return 0
    whole = pa.concat_tables([table.select(["replica", "sequence"]) for table in tables])
    spans = whole.group_by("replica").aggregate([("sequence", "max"), ("sequence", "min"), ("sequence", "count")])
    return sum(row["sequence_max"] - row["sequence_min"] + 1 - row["sequence_count"] for row in spans.to_pylist())


def _chosen(table: pa.Table, args: argparse.Namespace) -> pa.Table:
    for name in ("entity", "version"):
        wanted = getattr(args, name)
        if wanted is not None:
            table = table.filter(pc.field(name) == wanted)
    return table


def _last(files: list[LogFile], count: int) -> list[dict[str, Any]]:
    """The latest rows, oldest of them first, as plain values."""
    found = [
        {**row, "feature_names": each.features}
        for each in files
        for row in each.table.sort_by("answered_at").slice(max(each.table.num_rows - count, 0)).to_pylist()
    ]
    return [_plain(row) for row in sorted(found, key=lambda row: row["answered_at"])[-count:]]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    features = {
        name: {"scored": value, "source": source}
        for name, value, source in zip(row["feature_names"], row["vector"], sources(row["sources"]), strict=True)
    }
    kept = {name: value for name, value in row.items() if name not in (*_BESIDES, "feature_names")}
    raw = {name: json.loads(row[name]) if row[name] else None for name in ("sent", "online")}
    return {**kept, "features": features, **raw}


def _widened(file: LogFile) -> pa.Table:
    table = file.table.combine_chunks()
    width = len(file.features)
    vectors = np.array(table.column("vector").to_pylist(), np.float32).reshape(-1, width)
    letters = np.array([list(word) for word in table.column("sources").to_pylist()]).reshape(-1, width)
    kept = table.drop_columns(list(_BESIDES)).replace_schema_metadata(None)
    for at, name in enumerate(file.features):
        kept = kept.append_column(f"feature_{name}", pa.array(vectors[:, at]))
        kept = kept.append_column(f"source_{name}", pa.array(sources("".join(letters[:, at]))))
    return kept


def _show(last: list[dict[str, Any]], files: list[LogFile], rows: int, folder: Path) -> None:
    table = Table(*_SHOWN, box=None)
    for row in last:
        table.add_row(*(_short(row[name]) for name in _SHOWN))
    out.print(table)
    lost = lost_rows([each.table for each in files])
    cut = sum(not each.whole for each in files)
    notes = [f"{rows:,} rows in {len(files)} files of {folder}"]
    notes += [f"{cut} still open or cut short by a crash"] if cut else []
    notes += [f"{lost:,} rows missing between others"] if lost > 0 else []
    err.print("; ".join(notes), markup=False)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
