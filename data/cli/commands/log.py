"""`rayscore log`: the prediction log on the screen, as JSON lines, or as one table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from data.cli.options import positive
from data.cli.terminal import err, say_json
from data.prediction_log.file_summary import FileSummary, last_rows, lost_rows, read_each, summaries
from data.prediction_log.files import LogFile, sources
from data.prediction_log.wide_table import write_wide
from data.settings import load_settings

_ANSWER = ("probability", "label", "scores")
_SHOWN = ("answered_at", "request_id", "entity", "version", *_ANSWER, "latency_ms", "degraded")
_BESIDES = ("vector", "sources", "sent", "online", "feature_names", "labels")

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
    files = summaries(folder)
    if args.out:
        rows = write_wide(_chosen_of_all(files, args), chain.from_iterable(each.features for each in files), args.out)
        err.print(f"{rows:,} rows written to {args.out}" if rows else f"no such row in {folder}", markup=False)
        return 0 if rows else 1
    found, read = last_rows(files, args.last, lambda table: _chosen(table, args))
    if not found:
        err.print(f"no such row in {folder}", markup=False)
        return 1
    last = [_plain(row) for row in found]
    if args.json:
        for row in last:
            say_json(row)
        return 0
    _show(last)
    filtered = args.entity is not None or args.version is not None
    counted = f"{len(last):,} such rows, from the latest {read:,} of" if filtered else f"{_rows(files):,} rows in"
    err.print("; ".join([f"{counted} {len(files):,} files of {folder}", *_notes(files)]), markup=False)
    return 0


def _chosen_of_all(files: Sequence[FileSummary], args: argparse.Namespace) -> Iterator[LogFile]:
    return (file._replace(table=_chosen(file.table, args)) for file in read_each(files))


def _rows(files: Sequence[FileSummary]) -> int:
    return sum(each.rows for each in files)


def _chosen(table: pa.Table, args: argparse.Namespace) -> pa.Table:
    for name in ("entity", "version"):
        wanted = getattr(args, name)
        if wanted is not None:
            table = table.filter(pc.field(name) == wanted)
    return table


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    features = {
        name: {"scored": value, "source": source}
        for name, value, source in zip(row["feature_names"], row["vector"], sources(row["sources"]), strict=True)
    }
    kept = {name: value for name, value in row.items() if name not in _BESIDES}
    raw = {name: json.loads(row[name]) if row[name] else None for name in ("sent", "online")}
    return {**kept, **_answer(row), "features": features, **raw}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    """The label by its name, and the scores by label where there are labels."""
    labels, code, scores = row["labels"], row["label"], row["scores"]
    if labels is None:
        return {}
    named = None if scores is None else {str(name): score for name, score in zip(labels, scores, strict=True)}
    return {"label": None if code is None else labels[code], "scores": named}


def _show(last: Sequence[dict[str, Any]]) -> None:
    # Of what was answered only the columns that have something to say; the scores of many classes do not fit a line.
    silent = {name for name in _ANSWER if all(row[name] is None or isinstance(row[name], dict) for row in last)}
    shown = [name for name in _SHOWN if name not in silent]
    table = Table(*shown, box=None)
    for row in last:
        table.add_row(*(_short(row[name]) for name in shown))
    out.print(table)


def _notes(files: Sequence[FileSummary]) -> Iterator[str]:
    if cut := sum(not each.whole for each in files):
        yield f"{cut} still open or cut short by a crash"
    if (lost := lost_rows(files)) > 0:
        yield f"{lost:,} rows missing between others"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_short(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
