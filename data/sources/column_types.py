"""Column types: one type for a column whose type differs from file to file, and casts to it that lose nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.sources.filesystems import legible, named
from data.sources.row_origin import RESERVED
from data.sources.table_files import TableFile

_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
"""Decimal digits of the largest number of an integer type, signed or not, by its bits."""
_DECIMAL128_DIGITS, _DECIMAL256_DIGITS = 38, 76


def readable(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column is read: half floats as float32, views as what they view, within lists too.

    Arrow computes with neither half floats nor views everywhere, and the wider type holds every value.
    """
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(_readable_field(kind.value_field))
    if pa.types.is_struct(kind):
        return pa.struct([_readable_field(field) for field in kind.fields])
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both types, or None when there is none.

    A null type fits every other, a dictionary its plain values; numbers widen, and times take the finer unit. Where a
    type holds most but not all values of another (64-bit integers in a float64, unsigned in signed), the wider one is
    returned all the same: `lossless_cast` refuses the column that has such a value.
    """
    if one == other:
        return one
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    one, other = _plain(one), _plain(other)
    if one == other:
        return one
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz and other.tz:
        # Instants, whatever zone they are shown in.
        one, other = pa.timestamp(one.unit, "UTC"), pa.timestamp(other.unit, "UTC")
    if _is_text(one) != _is_text(other):
        return None
    if _is_decimal_and_float(one, other) or _is_decimal_and_float(other, one):
        return pa.float64()
    if pa.types.is_decimal(one) and pa.types.is_integer(other):
        return _decimal_for(one, other)
    if pa.types.is_integer(one) and pa.types.is_decimal(other):
        return _decimal_for(other, one)
    try:
        merged = pa.unify_schemas([pa.schema([("", one)]), pa.schema([("", other)])], promote_options="permissive")
    except pa.ArrowException:
        return None
    return merged.field(0).type


def lossless_cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast a column to a type of `common_type`; raises DataError when a value would change."""
    if column.type == kind:
        return column
    try:
        if not _is_decimal_and_float(column.type, kind):
            return column.cast(kind)
        # By its text: Arrow's own cast is not always to the nearest float, nor is it checked.
        cast = column.cast(pa.string()).cast(kind)
        back = cast.cast(column.type, safe=False)
        if pc.call_function("all", [pc.call_function("equal", [back, column])]).as_py():
            return cast
    except pa.ArrowException as exc:
        raise DataError(" ".join(str(exc).split())) from exc
    raise DataError(f"a value of type {column.type} does not fit {kind}")


class TableTypes:
    """The types of a table's columns, as one file after the other adds its own.

    Args:
        partitions: types of the columns that the names of folders state.
    """

    def __init__(self, partitions: dict[str, pa.DataType]) -> None:
        self._partitions = partitions
        self._first: TableFile | None = None
        self._types: dict[str, pa.DataType] = {}
        self._origins: dict[str, Path] = {}
        self._metadata: dict[bytes, bytes] | None = None

    def add(self, file: TableFile, schema: pa.Schema) -> None:
        """Add the columns of one file.

        Raises:
            DataError: it lacks a column of the first, has another or one twice, or no type holds both files' values.
        """
        _check_names(file.path, schema)
        if self._first is None:
            self._first, self._metadata = file, schema.metadata
            self._types = {field.name: readable(field.type) for field in schema}
            self._origins = dict.fromkeys(self._types, file.path)
            return
        # What all files say of themselves, and no more: one may have been written by another job.
        self._metadata = dict((self._metadata or {}).items() & (schema.metadata or {}).items())
        self._check_both(file.path, schema)
        for field in schema:
            if field.name in self._types:
                self._widen(file.path, field)

    @property
    def schema(self) -> pa.Schema:
        """Columns in the first file's order, then those that folders state."""
        types = {name: self._partitions.get(name, kind) for name, kind in self._types.items()} | self._partitions
        return pa.schema(list(types.items()), self._metadata)

    def _check_both(self, path: Path, schema: pa.Schema) -> None:
        """Refuse columns that one file has and the other lacks, unless folders state them for both."""
        first = _told_apart(self._first.path, path) if self._first else ""
        advice = "; make the files alike or keep them in folders of their own"
        known, held = self._types.keys() - self._partitions.keys(), set(schema.names) - self._partitions.keys()
        for name in self._types:
            if name in known and name not in held:
                raise DataError(f"{named(path)}: column '{name}' is missing, but {first} has it{advice}")
        for name in schema.names:
            if name in held and name not in known:
                raise DataError(f"{named(path)}: column '{name}' is not in {first}{advice}")

    def _widen(self, path: Path, field: pa.Field) -> None:
        known = self._types[field.name]
        common = common_type(known, readable(field.type))
        if common is None:
            raise DataError(
                f"{named(path)}: column '{field.name}' holds {field.type}, but {known} in "
                f"{_told_apart(self._origins[field.name], path)}, and no type holds both; convert one of them"
            )
        if common != known:
            self._types[field.name], self._origins[field.name] = common, path


def _told_apart(file: Path, other: Path) -> str:
    """Return the name of a file, with its folders where another's name is the same, as in Hive's partitions."""
    return named(file) if file.name == other.name else legible(file.name)


def _readable_field(field: pa.Field) -> pa.Field:
    return field.with_type(readable(field.type))


def _decimal_for(number: pa.DataType, whole: pa.DataType) -> pa.DataType | None:
    """Return the decimal type that holds all of a decimal and of an integer type; None where 76 digits do not do."""
    digits = max(number.precision - number.scale, _DIGITS[whole.bit_width]) + number.scale
    if digits > _DECIMAL256_DIGITS:
        return None
    wide = digits > _DECIMAL128_DIGITS or pa.types.is_decimal256(number)
    return (pa.decimal256 if wide else pa.decimal128)(digits, number.scale)


def _plain(kind: pa.DataType) -> pa.DataType:
    return readable(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_decimal_and_float(one: pa.DataType, other: pa.DataType) -> bool:
    return pa.types.is_decimal(one) and pa.types.is_floating(other)


def _check_names(path: Path, schema: pa.Schema) -> None:
    for name, count in Counter(schema.names).items():
        if count > 1:
            raise DataError(f"{named(path)}: two columns are named '{name}'; rename one of them")
        if name in RESERVED:
            raise DataError(f"{named(path)}: column '{name}' has a name that rows read here use themselves; rename it")
