"""Keys of an event's entities, alike for a column and one value: canonical text, or a JSON array of several."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from data.schema.event_source import EventEntity
from data.schema.use_case import Entity
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
