"""Keys of events as columns, and their order: whole numbers by size, then text by its bytes, then rows without key."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.transform.encoding import as_strings
from data.transform.missing import blank_mask
from data.transform.table_columns import named_column


def event_keys(table: pa.Table, name: str) -> pa.Array:
    """Return a column of n keys: int64 where it holds whole numbers of that size, else text; null where blank.

    Raises:
        DataError: the column is missing or of a type that holds no keys.
    """
    column = named_column(table, name)
    kind = column.type
    if pa.types.is_integer(kind):
        try:
            return column.cast(pa.int64()).combine_chunks()
        except pa.ArrowInvalid as exc:
            raise DataError(f"column '{name}': a key is a whole number of at most 63 bits, or text: {exc}") from exc
    text = as_strings(column, name).combine_chunks()
    blank = blank_mask(column)
    return pc.call_function("if_else", [pa.array(~blank), text, pa.scalar(None, pa.string())])


def row_keys(rows: pa.Table, row_key: str | None) -> pa.Array:
    """Return the keys of rows whose windows are wanted, null in all of them where they have none."""
    if row_key is None or row_key not in rows.column_names:
        return pa.nulls(rows.num_rows, pa.int64())
    return event_keys(rows, row_key)


def key_ranks(events: pa.Array, rows: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of keys as int64: whole numbers by size, then text by its bytes, then rows without key."""
    if events.type == rows.type == pa.int64():
        ranks = [pc.fill_null(each, np.iinfo(np.int64).max).to_numpy(zero_copy_only=False) for each in (events, rows)]
        return ranks[0], ranks[1]
    whole = [each if each.type == pa.int64() else pa.nulls(len(each), pa.int64()) for each in (events, rows)]
    texts = [each if each.type == pa.string() else pa.nulls(len(each), pa.string()) for each in (events, rows)]
    number, text = pa.concat_arrays(whole), pa.concat_arrays(texts)
    number_rank = np.unique(pc.fill_null(number, 0).to_numpy(zero_copy_only=False), return_inverse=True)[1]
    text_rank = _text_ranks(text) + len(number) + 1
    rank = np.where(_nulls(number), text_rank, number_rank)
    return rank[: len(events)], rank[len(events) :]


def _text_ranks(texts: pa.StringArray) -> np.ndarray:
    """Return the order of texts by their bytes, a null after all of them; equal ones have one rank."""
    encoded = texts.dictionary_encode()
    order = pc.call_function("sort_indices", [encoded.dictionary]).to_numpy(zero_copy_only=False)
    ranks = np.append(np.empty(len(order), np.int64), len(order))
    ranks[order] = np.arange(len(order))
    return ranks[pc.fill_null(encoded.indices, len(order)).to_numpy(zero_copy_only=False)]


def _nulls(values: pa.Array) -> np.ndarray:
    return values.is_null().to_numpy(zero_copy_only=False)
