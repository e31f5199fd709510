"""Keys of an event's entities, alike for a column and one value: canonical text, or a JSON array of several."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.feature_views.kernel.event_arrays import NO_ENTITY
from data.schema.entity import Entity
from data.schema.events.event_source import EventEntity
from data.transform.entity_key import entity_keys
from data.transform.table_columns import named_column


def entity_key_column(table: pa.Table, entity: EventEntity) -> pa.StringArray:
    """Return the keys of one entity in the n rows of a table; null where a row names none, or not as a key is written.

    Raises:
        DataError: a column is missing or of a type that holds no keys.
    """
    kind = entity.type if len(entity.columns) == 1 else "string"
    parts = [entity_keys(named_column(table, name), Entity(column=name, type=kind)).keys for name in entity.columns]
    return parts[0] if len(parts) == 1 else _joined(parts)


def entity_codes(tables: Sequence[pa.Table], entity: EventEntity) -> np.ndarray:
    """Return whole numbers from 0, without gaps, that stand for the keys of one entity in the rows of several tables.

    Only what is different among a column's values is written as a key.

    Returns:
        int64 with a number for each row, one table's after the other's; `NO_ENTITY` where `entity_key_column` is null.

    Raises:
        DataError: as `entity_key_column`.
    """
    kind = entity.type if len(entity.columns) == 1 else "string"
    parts = [
        _column_codes([named_column(table, name) for table in tables], Entity(column=name, type=kind))
        for name in entity.columns
    ]
    codes = parts[0]
    for part in parts[1:]:
        both = codes * (int(part.max(initial=0)) + 1) + part
        codes = _numbered(pa.array(both, mask=(codes < 0) | (part < 0)))
    return codes


def joined_key(parts: Sequence[str]) -> str:
    """Return the key of an entity of several columns."""
    return json.dumps(list(parts), ensure_ascii=False, separators=(",", ":"))


def _joined(parts: Sequence[pa.StringArray]) -> pa.StringArray:
    quoted = [_quoted(part) for part in parts]
    inner = pc.call_function("binary_join_element_wise", [*quoted, ","])
    return pc.call_function("binary_join_element_wise", ["[", inner, "]", ""])


def _quoted(texts: pa.StringArray) -> pa.StringArray:
    """Write each text as JSON, each different one once."""
    encoded = texts.dictionary_encode()
    words = [json.dumps(word, ensure_ascii=False) for word in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(words, pa.string())).cast(pa.string())


def _column_codes(columns: Sequence[pa.ChunkedArray], entity: Entity) -> np.ndarray:
    encoded = [_encoded(column) for column in columns]
    words = [entity_keys(pa.chunked_array([each.dictionary]), entity).keys for each in encoded]
    codes = np.append(_numbered(pa.concat_arrays(words)), NO_ENTITY)
    found, start = [], 0
    for each in encoded:
        places = pc.fill_null(each.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        found.append(codes[np.where(places < 0, -1, places + start)])
        start += len(each.dictionary)
    return np.concatenate(found)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column.combine_chunks().dictionary_encode()


def _numbered(values: pa.Array) -> np.ndarray:
    """Return for each value its number in the order of first appearance, `NO_ENTITY` for a null."""
    indices = values.dictionary_encode().indices.cast(pa.int64())
    return pc.fill_null(indices, NO_ENTITY).to_numpy(zero_copy_only=False)
