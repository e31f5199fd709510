"""Feature encoding: raw values to float32, by the same rules for an Arrow column and for a single value.

Training and batch scoring encode columns, serving encodes single values; a property test compares the two. The rules:

- a missing value (`data.transform.missing`) becomes the declared default, else NaN;
- a category becomes its position in the vocabulary; one that is not in it becomes NaN;
- a derived feature is the number that `data.transform.derived_time` computes from its columns;
- a text is the scores that its text model gives it (`data.transform.text_scores`), a number each;
- an infinity, or a number too large for float32, becomes the largest float32 of its sign,
  because XGBoost refuses infinities while order is all that a tree looks at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError, InvalidRow, SchemaMismatch
from data.schema.features.feature import Feature, FeatureType, Scalar
from data.schema.features.feature_schema import FeatureSchema
from data.transform.derived_time import with_derived
from data.transform.missing import is_missing, is_text, missing_mask
from data.transform.table_columns import named_column
from data.transform.text_scores import with_text_scores

FLOAT32_MAX = float(np.finfo(np.float32).max)
_NAN = math.nan
# A block of rows and its columns fit into a core's cache: whole columns of a long table cost eight times as much.
_BLOCK_ROWS = 32_768


class FeatureEncoder:
    """Encodes the values of one feature. `missing` is the code of a missing value: the default's, else NaN.

    Raises:
        SchemaMismatch: the feature is a category without vocabulary, or a text without scores.
    """

    def __init__(self, feature: Feature) -> None:
        if feature.type is FeatureType.TEXT:
            raise SchemaMismatch(f"feature '{feature.name}' has no text model yet: fit the schema first")
        if feature.type is FeatureType.CATEGORY and feature.vocabulary is None:
            raise SchemaMismatch(f"feature '{feature.name}' has no vocabulary yet: fit the schema first")
        self.feature = feature
        self._codes = {word: float(code) for code, word in enumerate(feature.vocabulary or ())}
        self._empty_is_value = feature.empty_is_value
        self.missing = _NAN if feature.default is None else self._code(feature.default)

    def encode(self, value: Scalar | None) -> float:
        """Encode one raw value, of the declared type or missing, without checks."""
        if value is None or self.is_missing(value):
            return self.missing
        return self._code(value)

    def is_missing(self, value: object) -> bool:
        """Return whether a raw value of this feature is missing."""
        return is_missing(value, self._empty_is_value)

    def missing_mask(self, column: pa.ChunkedArray) -> np.ndarray:
        """Return which of the n values of this feature's column are missing, as bool of shape (n,)."""
        return missing_mask(column, self._empty_is_value)

    def accept(self, value: object) -> float:
        """Check and encode one value that a client sent, and that is not missing.

        Raises:
            InvalidRow: the value is of another type, not finite, or out of the declared range.
        """
        kind = self.feature.type
        if kind is FeatureType.CATEGORY:
            if not isinstance(value, str):
                raise self._refused(value, "a string")
            return self._codes.get(value, _NAN)
        if kind is FeatureType.BOOLEAN:
            if not isinstance(value, bool):
                raise self._refused(value, "true or false")
            return float(value)
        return self._accept_number(value)

    def unseen(self, value: object) -> bool:
        """Return whether a value is a category that is not in the vocabulary; a missing one is not."""
        return self.feature.type is FeatureType.CATEGORY and value not in self._codes and not self.is_missing(value)

    def column(self, column: pa.ChunkedArray) -> np.ndarray:
        """Encode an Arrow column of length n to float32 of shape (n,).

        Raises:
            DataError: the column's type cannot hold this feature.
        """
        if self.feature.type is FeatureType.CATEGORY:
            options = pc.SetLookupOptions(value_set=pa.array(self._codes, pa.string()))
            codes = pc.call_function("index_in", [as_strings(column, self.feature.name)], options)
            values = codes.cast(pa.float32()).to_numpy(zero_copy_only=False)
            # What is missing has no code. Without a default it stays NaN, as what is unseen does.
            if codes.null_count and not math.isnan(self.missing):
                values = np.where(self.missing_mask(column), np.float32(self.missing), values)
            return values.astype(np.float32, copy=False)
        values = as_floats(column, self.feature.name)
        values = np.where(np.isnan(values), self.missing, values)
        return np.clip(values, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)

    def _code(self, value: Scalar) -> float:
        if isinstance(value, str):
            return self._codes.get(value, _NAN)
        return min(max(float(value), -FLOAT32_MAX), FLOAT32_MAX)

    def _accept_number(self, value: object) -> float:
        feature = self.feature
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refused(value, "a number" if feature.type is FeatureType.NUMBER else "an integer")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRow(feature.name, "NaN and Infinity are not accepted; leave the field out if it is unknown")
        if feature.type is FeatureType.INTEGER and value != int(value):
            raise self._refused(value, "an integer")
        if feature.min is not None and value < feature.min:
            raise InvalidRow(feature.name, f"{value!r:.40} is below the smallest accepted value {feature.min:g}")
        if feature.max is not None and value > feature.max:
            raise InvalidRow(feature.name, f"{value!r:.40} is above the largest accepted value {feature.max:g}")
        if abs(value) > FLOAT32_MAX:
            raise InvalidRow(feature.name, f"the number does not fit into 32-bit floating point ({FLOAT32_MAX:.3g})")
        return float(value)

    def _refused(self, value: object, expected: str) -> InvalidRow:
        return InvalidRow(self.feature.name, f"expected {expected}, got {json_type(value)}")


class Transform:
    """Encodes rows and tables by a fitted schema into float32 of shape (n, len(schema.names)).

    Raises:
        SchemaMismatch: the schema is not fitted.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.encoders = tuple(FeatureEncoder(feature) for feature in schema.features)

    def matrix(self, table: pa.Table) -> np.ndarray:
        """Encode a table of n rows to float32 of shape (n, k), rows in order.

        Raises:
            DataError: a feature's column is missing or of a type that cannot hold it, or a value that a feature is
                derived from is no time.
        """
        return self.derived_matrix(with_text_scores(with_derived(table, self.schema.derived), self.schema.scores))

    def derived_matrix(self, table: pa.Table) -> np.ndarray:
        """Encode a table that has the columns of derived features; otherwise as `matrix`."""
        columns = [named_column(table, encoder.feature.name) for encoder in self.encoders]
        out = np.empty((table.num_rows, len(columns)), np.float32)
        # An empty table is encoded too: its column types are still checked.
        for start in range(0, max(table.num_rows, 1), _BLOCK_ROWS):
            block = out[start : start + _BLOCK_ROWS]
            for i, (encoder, column) in enumerate(zip(self.encoders, columns, strict=True)):
                block[:, i] = encoder.column(column.slice(start, _BLOCK_ROWS))
        return out

    def rows(self, rows: Sequence[Sequence[Scalar | None]]) -> np.ndarray:
        """Encode n rows of raw values in schema order, derived ones included, to float32 of shape (n, k)."""
        encoded = [[e.encode(v) for e, v in zip(self.encoders, row, strict=True)] for row in rows]
        return np.array(encoded, np.float32).reshape(len(rows), len(self.encoders))


def as_floats(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return a column of numbers, booleans or nothing but nulls as float64 of shape (n,), nulls as NaN.

    Raises:
        DataError: the column holds anything else.
    """
    kind = column.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (number or pa.types.is_null(kind)):
        raise DataError(f"column '{name}' holds {kind}, expected numbers")
    if pa.types.is_decimal(kind):
        # By its text: Arrow's own cast is not always to the nearest float, which is what JSON's digits become.
        column = column.cast(pa.string())
    # safe=False: whole numbers beyond 2**53 are rounded; a safe cast would refuse them.
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def as_strings(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return a column of strings, integers, booleans or nulls, dictionary-encoded or not, as Arrow strings.

    Raises:
        DataError: the column holds anything else.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_strings(column.cast(kind.value_type), name)
    if pa.types.is_string(kind):
        return column
    if is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    raise DataError(f"column '{name}' holds {kind}, expected strings or integers")


def json_type(value: object) -> str:
    """Return a decoded JSON value's type in words for a message ("a string", "the number 3", "true")."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value!r:.40}"
    names = ((str, "a string"), (list, "an array"), (dict, "an object"))
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)
