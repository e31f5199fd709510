"""The marks of a table in time: in its Parquet metadata, for the windows and for the stored values that it holds."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from data.errors import DataError
from data.schema.features.window_feature import WindowKeys
from data.schema.use_case import UseCase

MARK = b"rayscore.features"
"""Key of the Parquet metadata; its value is the `fingerprint` of the windows."""
STORED = b"rayscore.stored"
"""Key of the Parquet metadata of a table whose online features are what the store would have held."""

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


def holds_stored(schema: pa.Schema, use_case: UseCase, name: str) -> bool:
    """Return whether a table's online features are what the store would have held, by the use case's schedule.

    Args:
        schema: of the table, with its metadata.
        use_case: that the table is to be read by.
        name: of the table, for the error.

    Raises:
        DataError: they are that by other declarations, and the rows' own values are gone.
    """
    found = (schema.metadata or {}).get(STORED)
    if found is not None and found != _stored_fingerprint(use_case).encode():
        raise DataError(
            f"{name}: its online features are what a store would have held by other declarations than those of "
            f"'{use_case.name}'; make it again from the table with the rows' own values (rayscore features IN OUT)"
        )
    return found is not None


def with_mark(schema: pa.Schema, use_case: UseCase, stored: bool = False) -> pa.Schema:
    """Return the schema of a table with the use case's windows, and with what is `stored`, marked as such."""
    marks = {MARK: fingerprint(use_case).encode()} | (
        {STORED: _stored_fingerprint(use_case).encode()} if stored else {}
    )
    return schema.with_metadata({**(schema.metadata or {}), **marks})


def _stored_fingerprint(use_case: UseCase) -> str:
    entity, schedule = use_case.entity, use_case.materialized
    said = {
        "event_time": use_case.event_time,
        "entity": entity.model_dump(mode="json") if entity else None,
        "schedule": schedule.model_dump(mode="json") if schedule else None,
        "features": [feature.name for feature in use_case.schema_.online],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
