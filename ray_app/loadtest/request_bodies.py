"""Request bodies of a load test: from a file, or the service's own example for many entities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from data.errors import ConfigError, DataError
from data.sources.parquet import iter_batches, open_source
from data.transform.event_time import is_time
from data.transform.time_values import json_times

MAX_BODIES = 100_000
_ENTITIES = 1000
_KEY_TEXT = "Key of the online features"


def bodies(document: Mapping[str, Any] | None, mix: Path | None) -> list[bytes]:
    """Load or make the JSON request bodies, at most 100,000; the generator sends them in turn, again and again.

    Args:
        document: the service's OpenAPI document; None when it has none.
        mix: JSON lines, each line one body; or Parquet, each row one body with the fields that the service knows. None
            takes the example of the OpenAPI document, with 1,000 different entities.

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
    entity = next((n for n, p in schema["properties"].items() if p.get("description") == _KEY_TEXT), None)
    if entity is None or entity not in example:
        return [orjson.dumps(example)]
    text = isinstance(example[entity], str)
    keys = (f"user_{number}" if text else number for number in range(1, _ENTITIES + 1))
    return [orjson.dumps({**example, entity: key}) for key in keys]


def _table(path: Path, schema: Mapping[str, Any]) -> list[bytes]:
    source = open_source(path)
    source.require(schema.get("required", []))
    columns = [name for name in source.schema.names if name in schema["properties"]]
    encoded: list[bytes] = []
    for batch in iter_batches(path, columns):
        rows = _with_json_times(batch.slice(0, MAX_BODIES - len(encoded))).to_pylist()
        encoded += [_body({name: value for name, value in row.items() if value is not None}, path) for row in rows]
        if len(encoded) >= MAX_BODIES:
            break
    if not encoded:
        raise DataError(f"--mix {path}: holds no row")
    return encoded


def _with_json_times(rows: pa.Table | pa.RecordBatch) -> pa.Table:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    for at, field in enumerate(table.schema):
        if is_time(field.type):
            table = table.set_column(at, field.name, [json_times(table.column(at), field.name)])
    return table


def _body(row: Mapping[str, Any], path: Path) -> bytes:
    try:
        return orjson.dumps(row)
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
