"""JSON values: the columns of a table as a client sends them in requests, of the types that the service declares."""

from __future__ import annotations

import pyarrow as pa

from data.schema.entity import Entity
from data.schema.features.feature import Feature, FeatureType, Scalar
from data.transform.encoding import as_floats, as_strings
from data.transform.entity_key import entity_keys
from data.transform.missing import missing_as_null


def json_values(column: pa.ChunkedArray, feature: Feature) -> list[Scalar | None]:
    """Return a feature's column as JSON carries it in a request, None where missing; raises DataError."""
    kind, name = feature.type, feature.name
    if kind in (FeatureType.CATEGORY, FeatureType.TEXT):
        return missing_as_null(as_strings(column, name), feature.empty_is_value).to_pylist()
    if kind is FeatureType.INTEGER and pa.types.is_integer(column.type):
        return column.to_pylist()
    floats = as_floats(column, name).tolist()
    if kind is FeatureType.BOOLEAN:
        return [None if value != value else bool(value) for value in floats]
    if kind is FeatureType.NUMBER:
        return [None if value != value else value for value in floats]
    return [None if value != value else int(value) if value.is_integer() else value for value in floats]


def json_keys(column: pa.ChunkedArray, entity: Entity) -> list[Scalar | None]:
    """Return the keys of entities as JSON carries them in a request, None where there is none; raises DataError."""
    keys = entity_keys(column, entity).keys.to_pylist()
    return keys if entity.type == "string" else [None if key is None else int(key) for key in keys]
