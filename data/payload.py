"""One entity's online features packed into bytes, and back.

The layout is little-endian: header (magic, format, view fingerprint, event time), a bitmap of the
values present, the numbers in schema order, then each category as length and UTF-8. Raw values are
stored, not codes, so that rows survive a refitted vocabulary.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from data.errors import DataError
from data.schema import FeatureSchema, FeatureType, Scalar

_MAGIC = 0xF5
_FORMAT = 1
_HEADER = struct.Struct("<BBIq")
_LENGTH = struct.Struct("<H")
_CODES = {FeatureType.NUMBER: "d", FeatureType.INTEGER: "q", FeatureType.BOOLEAN: "?"}
_BLANK = {FeatureType.NUMBER: 0.0, FeatureType.INTEGER: 0, FeatureType.BOOLEAN: False}


class OnlineRow(NamedTuple):
    """What the store holds of one entity: event time in microseconds since 1970 and raw values, None where absent."""

    event_us: int
    values: tuple[Scalar | None, ...]


class RowCodec:
    """Packs and unpacks the online features of one schema, values in the order of `names`."""

    def __init__(self, schema: FeatureSchema) -> None:
        self.names = tuple(feature.name for feature in schema.online)
        self._types = [feature.type for feature in schema.online]
        self._fingerprint = int(schema.view_fingerprint[:8], 16)
        self._fixed = [i for i, kind in enumerate(self._types) if kind in _CODES]
        self._words = [i for i, kind in enumerate(self._types) if kind not in _CODES]
        self._bitmap_size = (len(self.names) + 7) // 8
        self._numbers = struct.Struct("<" + "".join(_CODES[self._types[i]] for i in self._fixed))
        self._values_start = _HEADER.size + self._bitmap_size

    def pack(self, event_us: int, values: Sequence[Scalar | None]) -> bytes:
        """Pack one row.

        Raises:
            DataError: a value does not fit its declared type.
        """
        present = sum(1 << i for i, value in enumerate(values) if value is not None and value == value)
        absent = lambda i: not present >> i & 1  # noqa: E731
        numbers = [_BLANK[self._types[i]] if absent(i) else values[i] for i in self._fixed]
        try:
            parts = [
                _HEADER.pack(_MAGIC, _FORMAT, self._fingerprint, event_us),
                present.to_bytes(self._bitmap_size, "little"),
                self._numbers.pack(*numbers),
            ]
        except struct.error as exc:
            raise DataError(f"values {list(values)} do not fit the types of {list(self.names)}: {exc}") from exc
        for i in self._words:
            word = b"" if absent(i) else str(values[i]).encode()
            if len(word) > 0xFFFF:
                raise DataError(f"'{self.names[i]}': a category of {len(word)} bytes is longer than 65535")
            parts += (_LENGTH.pack(len(word)), word)
        return b"".join(parts)

    def unpack(self, payload: bytes) -> OnlineRow | None:
        """Unpack one row; None when it was written under another layout, which a reader treats as no row."""
        if len(payload) < self._values_start + self._numbers.size:
            return None
        magic, fmt, fingerprint, event_us = _HEADER.unpack_from(payload)
        if (magic, fmt, fingerprint) != (_MAGIC, _FORMAT, self._fingerprint):
            return None
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
            (length,) = _LENGTH.unpack_from(payload, at)
            at += _LENGTH.size
            values[i] = payload[at : at + length].decode()
            at += length
