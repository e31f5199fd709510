"""What makes two scoring jobs the same: then the parts that one has finished are good for the other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from data.errors import DataError
from data.settings import Settings
from data.sources.parquet import ParquetSource
from tune.registry.bundle import BundleManifest

_LAYOUT = 1
"""Raised with every change of what a part holds."""
_TAIL = 8
_STORE = ("store", "sqlite_file", "var_dir", "cassandra_hosts", "cassandra_keyspace")


def job_fingerprint(
    manifest: BundleManifest, version: str, source: ParquetSource, carried: Sequence[str], settings: Settings
) -> str:
    """Return 64 hex digits of the model, the source's files, the columns carried and the store that is read.

    A file is known by path, size, time of change and Parquet footer (offsets and statistics of its columns), not by
    its whole content, which would have to be read first. What the online store holds is not part of it.

    Raises:
        DataError: a file went away.
    """
    known = {
        "layout": _LAYOUT,
        "model": manifest.model_dump(mode="json"),
        "version": version,
        "carried": list(carried),
        "store": settings.model_dump(mode="json", include=set(_STORE)) if manifest.schema_.online else None,
        "files": [_file(path) for path in source.files],
        "chunks": [[chunk.row_groups, chunk.rows] for chunk in source.chunks],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _file(path: Path) -> list[str | int]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            # A Parquet file ends with its footer, the footer's length in four bytes, and four letters.
            file.seek(-_TAIL, os.SEEK_END)
            length = int.from_bytes(file.read(4), "little")
            file.seek(-(length + _TAIL), os.SEEK_END)
            footer = hashlib.sha256(file.read(length)).hexdigest()
    except OSError as exc:
        raise DataError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    return [str(path), status.st_size, status.st_mtime_ns, footer]
