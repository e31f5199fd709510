"""The key of an entity: its one spelling, in tables, in the online store, on the command line and in requests.

A key of type string is its text, exactly. A key of type integer is written as JSON writes it: digits, with a minus
before a negative one, and nothing else. `018`, `+5`, `1e3` and ` 17` are no keys: a request can only ask for 18, 5,
1000 and 17, so that a row under another spelling would never be found. A null, a NaN, and text of nothing but white
space are no key at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.schema.entity import Entity
from data.transform.encoding import as_strings
from data.transform.missing import is_text

LONGEST = 1024
"""Most characters of a key, as many as a request may send."""

_INTEGER = r"\A(?:0|-?[1-9][0-9]*)\z"
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
_SURE_DIGITS = 18  # a number of so many characters lies between the two
# From there on two neighbouring integers are one float, by the bits of its type.
_INEXACT = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}


@dataclass(frozen=True)
class EntityKeys:
    """The keys of n rows. A row has a key, or is blank, or is refused."""

    keys: pa.StringArray
    """Length n; null where a row has no key."""
    blank: np.ndarray
    """Bool of shape (n,): the row names no entity."""
    refused: np.ndarray
    """Bool of shape (n,): what the row has is not how a key is written."""


def holds_keys(kind: pa.DataType, key_type: str) -> bool:
    """Return whether `entity_keys` takes columns of this Arrow type for an entity of type `string` or `integer`."""
    if pa.types.is_dictionary(kind):
        return holds_keys(kind.value_type, key_type)
    if is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return True
    if key_type == "integer":
        return pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return pa.types.is_boolean(kind)


def key_types(key_type: str) -> str:
    """Return in words what a column of keys of type `string` or `integer` holds."""
    return "whole numbers, or their text" if key_type == "integer" else "strings or integers"


def entity_keys(column: pa.ChunkedArray, entity: Entity) -> EntityKeys:
    """Return the keys in a column of length n.

    Args:
        column: of a type that `holds_keys`: strings, integers or booleans for an entity of type string; numbers or
            text for one of type integer; or nothing but nulls.
        entity: names the column and says its type.

    Raises:
        DataError: the column is of a type that holds no keys.
    """
    if pa.types.is_dictionary(column.type):
        return entity_keys(column.cast(column.type.value_type), entity)
    blank = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if entity.type == "integer" and not is_text(column.type):
        keys = _whole_numbers(column, entity.column)
    else:
        text = _valid_text(as_strings(column, entity.column).combine_chunks())
        blank = blank | _mask(pc.call_function("equal", [pc.call_function("utf8_trim_whitespace", [text]), ""]))
        fits = _mask(_as_integers(text)) if entity.type == "integer" else _mask(_short_enough(text))
        keys = pc.call_function("if_else", [pa.array(fits & ~blank), text, pa.scalar(None, pa.string())])
    return EntityKeys(keys, blank, keys.is_null().to_numpy(zero_copy_only=False) & ~blank)


def entity_key(text: str, entity: Entity) -> str:
    """Return one key that a person typed.

    Raises:
        DataError: it is blank, or not how a key is written; says how it would be.
    """
    try:
        found = entity_keys(pa.chunked_array([[text]], pa.string()), entity)
    except UnicodeEncodeError as exc:
        raise DataError(f"{entity.column} {text!r:.80} is not UTF-8") from exc
    if found.blank[0]:
        raise DataError(f"{entity.column} {text!r:.80} is blank: name an entity")
    if found.refused[0]:
        raise DataError(f"{entity.column} {text!r:.80} is not how a key is written: {_advice(text, entity)}")
    return text


def spelling(entity: Entity) -> str:
    """Return in words how a key of the entity is written."""
    if entity.type == "integer":
        return "digits alone, such as 17 or -3, within 64 bits"
    return f"up to {LONGEST:,} characters of UTF-8"


def _mask(flags: pa.Array) -> np.ndarray:
    return flags.fill_null(False).to_numpy(zero_copy_only=False)


def _short_enough(text: pa.StringArray) -> pa.Array:
    return pc.call_function("less_equal", [pc.call_function("utf8_length", [text]), LONGEST])


def _as_integers(text: pa.StringArray) -> pa.Array:
    """Return where text is an integer as JSON writes it, and of 64 bits."""
    options = pc.MatchSubstringOptions(_INTEGER)
    written = pc.call_function("match_substring_regex", [text], options)
    long = _mask(pc.call_function("greater", [pc.call_function("binary_length", [text]), _SURE_DIGITS]))
    fits = _mask(written)
    for at in np.flatnonzero(fits & long).tolist():
        digits = text[at].as_py()
        fits[at] = len(digits) <= 20 and _LOWEST <= int(digits) <= _HIGHEST
    return pa.array(fits)


def _whole_numbers(column: pa.ChunkedArray, name: str) -> pa.StringArray:
    """Return whole numbers as text, null where a number is none, or a float that may have lost digits."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()).combine_chunks()
    if pa.types.is_floating(kind):
        floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        whole = (np.floor(floats) == floats) & (np.abs(floats) < _INEXACT[kind.bit_width])
        return pa.array(np.where(whole, floats, 0).astype(np.int64), mask=~whole).cast(pa.string())
    if pa.types.is_decimal(kind):
        return pa.array([_decimal_text(value) for value in column.to_pylist()], pa.string())
    raise DataError(f"column '{name}' holds {kind}, expected {key_types('integer')}: it is an integer entity")


def _decimal_text(value: object) -> str | None:
    whole = int(value) if value is not None else None  # pyright: ignore[reportArgumentType]
    return str(whole) if whole is not None and whole == value and _LOWEST <= whole <= _HIGHEST else None


def _valid_text(text: pa.StringArray) -> pa.StringArray:
    """Return text with a null in place of bytes that are not UTF-8, which Parquet files may hold."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array(_decoded(text.cast(pa.binary()).to_pylist()), pa.string())
    return text


def _decoded(values: Sequence[bytes | None]) -> list[str | None]:
    decoded: list[str | None] = []
    for value in values:
        try:
            decoded.append(value.decode() if value is not None else None)
        except UnicodeDecodeError:
            decoded.append(None)
    return decoded


def _advice(text: str, entity: Entity) -> str:
    if entity.type == "integer":
        for read in (int, _whole):
            try:
                number = read(text)
            except (ValueError, OverflowError):
                continue
            if _LOWEST <= number <= _HIGHEST:
                return f"ask for {number}"
    return f"expected {spelling(entity)}"


def _whole(text: str) -> int:
    value = float(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)
