"""Fingerprint of a scoring job: a later run may reuse the finished parts of one with the same fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from data.errors import DataError
from data.schema.reason_codes import ReasonCodes
from data.settings import Settings
from data.sources.filesystems import named, resolve
from data.sources.parquet import ParquetSource
from tune.registry.bundle import BundleManifest

_LAYOUT = 2
"""Version of a part's content; a change of it invalidates the parts of earlier versions."""
_TRAILER_BYTES = 8
_STORE = ("store", "sqlite_file", "var_dir", "cassandra_hosts", "cassandra_keyspace")


def job_fingerprint(
    manifest: BundleManifest,
    version: str,
    source: ParquetSource,
    carried: Sequence[str],
    settings: Settings,
    events: Sequence[ParquetSource] = (),
    reasons: ReasonCodes | None = None,
) -> str:
    """Return the SHA-256, as 64 hex digits, of all that determines the job's output.

    That is the model, the input files, those of `events` beside them, the columns carried along, the reason codes where
    rows are explained, and which online store is read, not its rows. A file is identified by path, size, modification
    time and Parquet footer (offsets and statistics of its columns): hashing its content would read the whole table
    first.

    Raises:
        DataError: a file cannot be read.
    """
    inputs = {
        "layout": _LAYOUT,
        "model": manifest.model_dump(mode="json"),
        "version": version,
        "carried": list(carried),
        "store": settings.model_dump(mode="json", include=set(_STORE)) if manifest.schema_.online else None,
        "files": [_file(path) for path in source.files],
        "chunks": [[chunk.row_groups, chunk.rows] for chunk in source.chunks],
    }
    if events:
        inputs["events"] = [[_file(path) for path in each.files] for each in events]
    if reasons is not None:
        inputs["reasons"] = reasons.model_dump(mode="json")
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _file(path: Path) -> list[str | int]:
    try:
        system, inner = resolve(path)
        info = system.get_file_info(inner)
        if info.size is None:
            raise DataError(f"{named(path)}: cannot be read: no such file")
        with system.open_input_file(inner) as file:
            # A Parquet file ends with its footer, the footer's length in four bytes, and the letters PAR1.
            file.seek(info.size - _TRAILER_BYTES)
            length = int.from_bytes(file.read(4), "little")
            file.seek(info.size - length - _TRAILER_BYTES)
            footer = hashlib.sha256(file.read(length)).hexdigest()
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{named(path)}: cannot be read: {' '.join(str(exc).split())}") from exc
    return [str(path), info.size, info.mtime_ns or 0, footer]
