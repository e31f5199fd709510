"""The mark of a point-in-time table: in the Parquet metadata it says by which declarations its features were made."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from data.errors import DataError
from data.schema.expression import Expression
from data.schema.feature import Feature
from data.schema.use_case import UseCase
from data.schema.window_feature import WindowKeys

MARK = b"rayscore.features"
"""Key of the Parquet metadata that has the fingerprint."""

_SOURCE_KEYS = {"entities", "values", "key", "time", "known_at", "delay"}
_FEATURE_KEYS = {*WindowKeys.model_fields, "name", "type", "expression", "default", "derive"}


def features_fingerprint(use_case: UseCase) -> str:
    """Return a hash (16 hex digits) of all that decides a point-in-time table: sources, windows, expressions, views."""
    read = {name for each in use_case.schema_.expressions for name in Expression(each.expression or "").names}
    features = [each for each in use_case.schema_.features if _computed(each) or each.name in read]
    said = {
        "key": use_case.key,
        "event_time": use_case.event_time,
        "events": {name: each.model_dump(mode="json", include=_SOURCE_KEYS) for name, each in use_case.events.items()},
        "features": [each.model_dump(mode="json", include=_FEATURE_KEYS) for each in features],
        "batch_view": _batch_view(use_case),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def marked(table: pa.Table, use_case: UseCase) -> pa.Table:
    """Return a table that says it holds the point-in-time features of a use case."""
    fingerprint = features_fingerprint(use_case).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), MARK: fingerprint})


def is_marked(schema: pa.Schema) -> bool:
    """Return whether a table holds point-in-time features, whatever they were made by."""
    return MARK in (schema.metadata or {})


def holds_features(schema: pa.Schema, use_case: UseCase, name: str) -> bool:
    """Return whether a table holds its windows already, made by this use case's declarations.

    Args:
        schema: of the table, with its metadata.
        use_case: that the table is to be read by.
        name: of the table, for the error.

    Raises:
        DataError: it holds those of other declarations, over which no others can be made.
    """
    found = (schema.metadata or {}).get(MARK)
    if found is None:
        return False
    if found != features_fingerprint(use_case).encode():
        raise DataError(
            f"{name}: its windows were made by other declarations than those of '{use_case.name}'; make them again "
            "from the table without windows (rayscore features IN OUT)"
        )
    return True


def _computed(feature: Feature) -> bool:
    return feature.is_window or feature.is_expression


def _batch_view(use_case: UseCase) -> dict[str, object] | None:
    if use_case.materialized is None or use_case.entity is None:
        return None
    return {
        "schedule": use_case.materialized.model_dump(mode="json"),
        "entity": use_case.entity.model_dump(mode="json"),
        "features": [feature.name for feature in use_case.schema_.online],
    }
