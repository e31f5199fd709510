"""Fingerprints of tables: a hash of the content that can be summed from pieces, in any order and on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from data.transform.hashing import GOLDEN, splitmix64

# The cast restores the type, which is lost because pandas loads the function lazily.
_hash = cast(Callable[..., np.ndarray], hash_array)
_NULL = np.uint64(0x9AE16A3B2F90404F)
_WRAP = 1 << 64


def content_sum(table: pa.Table, first_row: int = 0) -> int:
    """Return a 64-bit sum of row hashes, for a piece that starts at row `first_row` of the whole table.

    The sums of a table's pieces add up, modulo 2**64, to the sum of the whole, however it is cut. A row's hash depends
    on every value, the value's column and the row's number.
    """
    rows = splitmix64(row_numbers(first_row, table.num_rows))
    for column in table.columns:
        rows = splitmix64(rows * GOLDEN + column_hashes(column))
    return int(rows.sum(dtype=np.uint64))


def digest(schema: pa.Schema, rows: int, content: int) -> str:
    """Return the fingerprint (16 hex digits) of column names, types, row count and the table's `content_sum`."""
    columns = [f"{field.name}:{field.type}" for field in schema]
    return hashlib.sha256(f"{columns} {rows} {content % _WRAP}".encode()).hexdigest()[:16]


def with_others(own: str, others: Sequence[str]) -> str:
    """Return the fingerprint of a table, which with other events is another one."""
    return hashlib.sha256(" ".join([own, *others]).encode()).hexdigest()[:16] if others else own


def column_hashes(column: pa.ChunkedArray) -> np.ndarray:
    """Hash every value of a column to uint64 of shape (n,); equal values have equal hashes in every table."""
    absent = column.is_null().to_numpy(zero_copy_only=False)
    bits = _bits(column)
    return np.where(absent, _NULL, splitmix64(bits if bits is not None else _word_hashes(column)))


def row_numbers(first: int, count: int) -> np.ndarray:
    """Return the numbers of `count` consecutive rows from `first` on, as uint64 of shape (count,)."""
    return np.arange(first, first + count, dtype=np.uint64)


def _bits(column: pa.ChunkedArray) -> np.ndarray | None:
    """Return the values' bits as uint64, nulls as 0; None for a type without fixed width."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_floating(kind):
        column = column.cast(pa.float64())
    elif not pa.types.is_integer(kind):
        return None
    values = pc.fill_null(column, 0).to_numpy()
    return values.view(np.uint64) if values.itemsize == 8 else values.astype(np.uint64)


def _word_hashes(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        column = _as_words(column).dictionary_encode()
    # Each distinct word is hashed once: the dictionary, not the column.
    hashes = [np.empty(0, np.uint64)]
    for chunk in column.chunks:
        words = _hash(chunk.dictionary.cast(pa.string()).to_numpy(zero_copy_only=False), categorize=False)
        codes = pc.fill_null(chunk.indices, 0).to_numpy(zero_copy_only=False)
        hashes.append(words[codes] if len(words) else np.zeros(len(codes), np.uint64))
    return np.concatenate(hashes)


def _as_words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.string())
    return pa.chunked_array([pa.array([repr(value) for value in column.to_pylist()], pa.string())])
