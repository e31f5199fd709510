"""The mark of a table whose windows are computed already: in its Parquet metadata, for the windows that it holds."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from data.schema.use_case import UseCase
from data.schema.window_feature import WindowKeys

MARK = b"rayscore.features"
"""Key of the Parquet metadata; its value is the `fingerprint` of the windows."""

_FEATURE = {"name", "type", *WindowKeys.model_fields}


def fingerprint(use_case: UseCase) -> str:
    """Return a hash (16 hex digits) of all that determines a table's windows: their declarations, events and keys.

    Defaults, ranges and expressions are applied when the table is read, so they are no part of it.
    """
    sources = {feature.source for feature in use_case.windows}
    said = {
        "key": use_case.key,
        "event_time": use_case.event_time,
        "events": {name: use_case.events[name].model_dump(mode="json", exclude={"record"}) for name in sorted(sources)},
        "windows": [feature.model_dump(mode="json", include=_FEATURE) for feature in use_case.schema_.windows],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def marked(table: pa.Table | pa.Schema, use_case: UseCase) -> bool:
    """Return whether a table, or one of this schema, holds the use case's windows as `rayscore features` wrote them."""
    schema = table.schema if isinstance(table, pa.Table) else table
    held = {feature.name for feature in use_case.windows} <= set(schema.names)
    return held and (schema.metadata or {}).get(MARK) == fingerprint(use_case).encode()


def with_mark(schema: pa.Schema, use_case: UseCase) -> pa.Schema:
    """Return the schema of a table with the use case's windows, marked as such."""
    return schema.with_metadata({**(schema.metadata or {}), MARK: fingerprint(use_case).encode()})
