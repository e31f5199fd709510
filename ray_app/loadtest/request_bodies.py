"""Request bodies of a load test: from a file, or the service's own example for many entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from data.errors import ConfigError, DataError
from data.schema.entity import Entity
from data.schema.features.feature import Feature, FeatureType
from data.sources.parquet import iter_batches, open_source
from data.transform.event_time import is_time
from data.transform.json_values import json_keys, json_values
from data.transform.time_values import json_times
from ray_app.protocol.openapi_events import ENTITY_TEXT

MAX_BODIES = 100_000
_ENTITIES = 1000
_KEY_TEXT = "Key of the online features"
_PREFIXES = {_KEY_TEXT: "user_", ENTITY_TEXT: "loadtest_"}
"""What made-up keys begin with, by the field's description: windows must not count them for anybody real."""
_TYPES = {
    "string": FeatureType.CATEGORY,
    "integer": FeatureType.INTEGER,
    "number": FeatureType.NUMBER,
    "boolean": FeatureType.BOOLEAN,
}


def bodies(document: Mapping[str, Any] | None, mix: Path | None) -> list[bytes]:
    """Load or make the JSON request bodies, at most 100,000; the generator sends them in turn, again and again.

    Args:
        document: the service's OpenAPI document; None when it has none.
        mix: JSON lines, each line one body; or Parquet, each row one body with the fields that the service knows. None
            takes the example of the OpenAPI document, with 1,000 different entities. It has no key, so that each
            request is an event of its own where rows are recorded, however often its body is sent.

    Raises:
        ConfigError: the OpenAPI document is needed and is missing, or does not describe a Row with an example.
        DataError: the file is missing, empty, or does not have the expected format.
    """
    if mix is None:
        return _examples(_row_schema(document))
    if not mix.exists():
        raise DataError(f"--mix {mix}: no such file")
    if mix.is_dir() or mix.suffix == ".parquet":
        return _table(mix, _row_schema(document))
    return _lines(mix)


def _row_schema(document: Mapping[str, Any] | None) -> Mapping[str, Any]:
    try:
        schema = (document or {})["components"]["schemas"]["Row"]
        if isinstance(schema["properties"], dict) and isinstance(schema["example"], dict):
            return schema
    except (KeyError, TypeError):
        pass
    raise ConfigError(
        "the service has no /openapi.json that describes a Row with an example, so its fields are not known; "
        "give bodies as JSON lines with --mix FILE"
    )


def _examples(schema: Mapping[str, Any]) -> list[bytes]:
    example = schema["example"]
    prefixes = _entity_prefixes(schema)
    if not prefixes:
        return [orjson.dumps(example)]
    return [
        orjson.dumps(example | {name: f"{prefix}{at}" if prefix else at for name, prefix in prefixes.items()})
        for at in range(1, _ENTITIES + 1)
    ]


def _entity_prefixes(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return the example's fields with an entity's key, each with what its numbers begin with: nothing for integers."""
    prefixes: dict[str, str] = {}
    for name, declared in schema["properties"].items():
        prefix = _PREFIXES.get(declared.get("description"))
        if prefix is not None and name in schema["example"]:
            prefixes[name] = prefix if isinstance(schema["example"][name], str) else ""
    return prefixes


def _table(path: Path, schema: Mapping[str, Any]) -> list[bytes]:
    source = open_source(path)
    source.require(schema.get("required", []))
    columns = [name for name in source.schema.names if name in schema["properties"]]
    encoded: list[bytes] = []
    for batch in iter_batches(path, columns):
        part = batch.slice(0, MAX_BODIES - len(encoded))
        fields = {name: _values(part.column(name), name, schema["properties"][name], path) for name in columns}
        encoded += [_body(fields, at, path) for at in range(part.num_rows)]
        if len(encoded) >= MAX_BODIES:
            break
    if not encoded:
        raise DataError(f"--mix {path}: holds no row")
    return encoded


def _values(column: pa.ChunkedArray | pa.Array, name: str, declared: Mapping[str, Any], path: Path) -> Sequence[object]:
    """Return a column as values of the JSON type that the service declares for the field, None where missing."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    kind, number = declared.get("type"), pa.types.is_floating(chunked.type) or pa.types.is_decimal(chunked.type)
    try:
        if declared.get("description") == _KEY_TEXT:
            return json_keys(chunked, Entity(column=name, type="integer" if kind == "integer" else "string"))
        if kind in _TYPES:
            return json_values(chunked, Feature(name=name, type=_TYPES[kind]))
        # A time, or the key of a row: text or a whole number, which a table may hold as a float.
        if is_time(chunked.type):
            return json_times(chunked, name)
        return json_values(chunked, Feature(name=name, type=FeatureType.INTEGER)) if number else chunked.to_pylist()
    except DataError as exc:
        raise DataError(f"--mix {path}: {exc}") from exc


def _body(fields: Mapping[str, Sequence[object]], at: int, path: Path) -> bytes:
    try:
        return orjson.dumps({name: values[at] for name, values in fields.items() if values[at] is not None})
    except TypeError as exc:
        raise DataError(f"--mix {path}: a value cannot be sent as JSON: {exc}") from exc


def _lines(path: Path) -> list[bytes]:
    encoded = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(islice(lines, MAX_BODIES), 1):
                if line.strip():
                    encoded.append(_line(line.strip(), f"--mix {path}, line {number}"))
    except OSError as exc:
        raise DataError(f"--mix {path}: cannot be read: {exc.strerror}") from exc
    if not encoded:
        raise DataError(f"--mix {path}: holds no line")
    return encoded


def _line(line: bytes, where: str) -> bytes:
    try:
        value = orjson.loads(line)
    except ValueError as exc:
        raise DataError(f"{where}: not JSON: {exc}; expected one body a line") from exc
    if not isinstance(value, (dict, list)):
        raise DataError(f"{where}: expected an object, or an array of objects")
    return line
