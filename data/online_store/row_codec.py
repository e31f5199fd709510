"""The payload format of the online store: the online features of one entity packed into bytes.

The layout is little-endian: header (magic, format, view fingerprint, event time), a bitmap of the
values present, the numbers in schema order, then each category as length and UTF-8. Raw values are
stored, not codes, so that rows survive a refitted vocabulary.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DamagedRow, DataError
from data.schema.features.feature import Feature, FeatureType, Scalar
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import as_floats, as_strings, named_column
from data.transform.missing import is_missing, missing_as_null

_MAGIC = 0xF5
_FORMAT = 1
_HEADER = struct.Struct("<BBIq")
_LENGTH = struct.Struct("<H")
_CODES = {FeatureType.NUMBER: "d", FeatureType.INTEGER: "q", FeatureType.BOOLEAN: "?"}
_DTYPES = {FeatureType.NUMBER: "<f8", FeatureType.INTEGER: "<i8", FeatureType.BOOLEAN: "?"}
_BLANK = {FeatureType.NUMBER: 0.0, FeatureType.INTEGER: 0, FeatureType.BOOLEAN: False}


class OnlineRow(NamedTuple):
    """One stored row, unpacked: event time in microseconds since 1970 UTC, and raw values, None where absent."""

    event_us: int
    values: tuple[Scalar | None, ...]


class RowCodec:
    """Packs and unpacks the online features of one schema; values are in the order of `names`."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._features = schema.online
        self.names = tuple(feature.name for feature in schema.online)
        self._types = [feature.type for feature in schema.online]
        self._empty_is_value = [feature.empty_is_value for feature in schema.online]
        self._fingerprint = int(schema.view_fingerprint[:8], 16)
        self._fixed = [i for i, kind in enumerate(self._types) if kind in _CODES]
        self._words = [i for i, kind in enumerate(self._types) if kind not in _CODES]
        self._bitmap_size = (len(self.names) + 7) // 8
        self._numbers = struct.Struct("<" + "".join(_CODES[self._types[i]] for i in self._fixed))
        self._values_start = _HEADER.size + self._bitmap_size

    def pack(self, event_us: int, values: Sequence[Scalar | None]) -> bytes:
        """Pack one row.

        Args:
            event_us: event time in microseconds since 1970 UTC.
            values: raw values in the order of `names`; one that is missing is absent from the row.

        Raises:
            DataError: a value does not fit its declared type, or a category is longer than 65,535 bytes.
        """
        there = [not is_missing(*pair) for pair in zip(values, self._empty_is_value, strict=True)]
        present = sum(1 << i for i, value in enumerate(there) if value)
        numbers = [values[i] if present >> i & 1 else _BLANK[self._types[i]] for i in self._fixed]
        try:
            parts = [
                _HEADER.pack(_MAGIC, _FORMAT, self._fingerprint, event_us),
                present.to_bytes(self._bitmap_size, "little"),
                self._numbers.pack(*numbers),
            ]
        except struct.error as exc:
            raise DataError(f"values {list(values)} do not fit the types of {list(self.names)}: {exc}") from exc
        for i in self._words:
            word = str(values[i]).encode() if present >> i & 1 else b""
            if len(word) > 0xFFFF:
                raise DataError(f"'{self.names[i]}': a category of {len(word)} bytes is longer than 65535")
            parts += (_LENGTH.pack(len(word)), word)
        return b"".join(parts)

    def pack_table(self, table: pa.Table, event_us: np.ndarray) -> pa.Array:
        """Pack n rows at once, byte for byte as `pack` does; returns a binary array of length n.

        Args:
            table: holds the columns `names`, n rows.
            event_us: event times, int64 of shape (n,).

        Raises:
            DataError: a column is missing or holds what its feature cannot.
        """
        parsed = [_raw(named_column(table, feature.name), feature) for feature in self._features]
        layout = [("magic", "u1"), ("format", "u1"), ("fingerprint", "<u4"), ("event_us", "<i8")]
        layout += [("present", "u1", (self._bitmap_size,))]
        layout += [(f"value{i}", _DTYPES[self._types[i]]) for i in self._fixed]
        fixed = np.zeros(table.num_rows, np.dtype(layout))
        fixed["magic"], fixed["format"], fixed["fingerprint"] = _MAGIC, _FORMAT, self._fingerprint
        fixed["event_us"] = event_us
        present = np.column_stack([there for _, there in parsed])
        fixed["present"] = np.packbits(present, axis=1, bitorder="little")
        for i in self._fixed:
            fixed[f"value{i}"] = parsed[i][0]
        parts = [_binary(fixed)]
        for i in self._words:
            parts += _prefixed(parsed[i][0], self.names[i])
        return pc.call_function("binary_join_element_wise", [*parts, b""]) if len(parts) > 1 else parts[0]

    def unpack(self, payload: bytes) -> OnlineRow | None:
        """Unpack one row; None when it was written under another layout, which a reader treats as no row.

        Raises:
            DamagedRow: it was written under this layout, but is cut short or holds bytes that are no UTF-8.
        """
        if len(payload) < _HEADER.size:
            raise DamagedRow(f"a stored row of {len(payload)} bytes has no header")
        magic, fmt, fingerprint, event_us = _HEADER.unpack_from(payload)
        if (magic, fmt, fingerprint) != (_MAGIC, _FORMAT, self._fingerprint):
            return None
        if len(payload) < self._values_start + self._numbers.size:
            raise DamagedRow(f"a stored row ends after {len(payload)} bytes, before its numbers do")
        present = int.from_bytes(payload[_HEADER.size : self._values_start], "little")
        values: list[Scalar | None] = [None] * len(self.names)
        for i, number in zip(self._fixed, self._numbers.unpack_from(payload, self._values_start), strict=True):
            values[i] = number
        if self._words:
            self._unpack_words(payload, values)
        return OnlineRow(event_us, tuple(v if present >> i & 1 else None for i, v in enumerate(values)))

    def _unpack_words(self, payload: bytes, values: list[Scalar | None]) -> None:
        at = self._values_start + self._numbers.size
        for i in self._words:
            start = at + _LENGTH.size
            at = start + int.from_bytes(payload[at:start], "little")
            if at > len(payload):
                raise DamagedRow(f"a stored row ends after {len(payload)} bytes, before '{self.names[i]}' does")
            try:
                word = payload[start:at].decode()
            except UnicodeDecodeError as exc:
                raise DamagedRow(f"a stored row's '{self.names[i]}' is not UTF-8: {exc}") from exc
            # A row packed where '' was a word may be read where it is none.
            values[i] = word if word or self._empty_is_value[i] else None


def _raw(column: pa.ChunkedArray, feature: Feature) -> tuple[Any, np.ndarray]:
    """Return a column's values, blanks where missing, and the mask of those present."""
    kind, name = feature.type, feature.name
    if kind is FeatureType.CATEGORY:
        words = missing_as_null(as_strings(column, name), feature.empty_is_value).combine_chunks()
        return words.fill_null(""), words.is_valid().to_numpy(zero_copy_only=False)
    if kind is FeatureType.INTEGER and pa.types.is_integer(column.type):
        return _int64(column, name), column.is_valid().to_numpy(zero_copy_only=False)
    floats = as_floats(column, name)
    present = ~np.isnan(floats)
    floats = np.where(present, floats, 0.0)
    if kind is FeatureType.NUMBER:
        return floats, present
    if kind is FeatureType.BOOLEAN:
        return _checked(floats, (floats == 0) | (floats == 1), name, "true and false, or 1 and 0").astype(bool), present
    whole = (np.floor(floats) == floats) & (np.abs(floats) < 2.0**63)
    return _checked(floats, whole, name, "64-bit whole numbers").astype(np.int64), present


def _int64(column: pa.ChunkedArray, name: str) -> np.ndarray:
    try:
        return column.cast(pa.int64()).fill_null(0).to_numpy()
    except pa.ArrowInvalid as exc:
        raise DataError(f"column '{name}' does not fit 64-bit whole numbers: {exc}") from exc


def _checked(values: np.ndarray, fits: np.ndarray, name: str, expected: str) -> np.ndarray:
    if not fits.all():
        raise DataError(f"column '{name}' holds {values[~fits][0]}, expected {expected}")
    return values


def _binary(rows: np.ndarray) -> pa.Array:
    size = rows.dtype.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(rows), [None, pa.py_buffer(rows)]).cast(
        pa.binary()
    )


def _prefixed(words: pa.Array, name: str) -> list[pa.Array]:
    encoded = words.cast(pa.binary())
    lengths = pc.call_function("binary_length", [encoded]).to_numpy(zero_copy_only=False)
    longest = int(lengths.max(initial=0))
    if longest > 0xFFFF:
        raise DataError(f"'{name}': a category of {longest} bytes is longer than 65535")
    return [_binary(lengths.astype("<u2")), encoded]
