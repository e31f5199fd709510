"""Units of the cluster bootstrap: rows of one entity are alike, so intervals resample entities instead of rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.list_codes import list_codes
from data.transform.missing import blank_as_null

LEAST_ENTITIES = 10
"""Fewest entities to resample: a few agree by chance. Of fewer, rows are resampled instead."""


def entity_codes(table: pa.Table, use_case: UseCase, rows: np.ndarray | None = None) -> np.ndarray | None:
    """Return the code of each row's entity as int64 of shape (n,).

    Args:
        table: raw rows.
        use_case: declares the entity.
        rows: numbers of the rows to take; None for all.

    Returns:
        The codes, with a code of its own for a row without an entity. None when the use case declares no entity, or the
        table, stored before it did, lacks the column. Of a ranking those of its lists, unless each list is of one
        entity and there are enough of them.

    Raises:
        DataError: a row of a ranking is in no list.
    """
    found = _entities(table, use_case, rows)
    if use_case.task.list_column is None:
        return found
    lists = list_codes(table if rows is None else table.take(pa.array(rows)), use_case)
    return found if found is not None and lists is not None and _hold_whole(found, lists) else lists


def _hold_whole(entities: np.ndarray, lists: np.ndarray) -> bool:
    """Return whether each list is of one entity, and the entities are enough to resample."""
    count = len(np.unique(entities))
    pairs = len(np.unique(np.stack([entities, lists]), axis=1).T)
    return count >= LEAST_ENTITIES and pairs == len(np.unique(lists))


def _entities(table: pa.Table, use_case: UseCase, rows: np.ndarray | None) -> np.ndarray | None:
    if use_case.entity is None or use_case.entity.column not in table.column_names:
        return None
    column = named_column(table, use_case.entity.column)
    taken = blank_as_null(column if rows is None else column.take(pa.array(rows))).combine_chunks()
    codes = pc.fill_null(taken.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = codes < 0
    return np.where(alone, codes.max(initial=0) + np.cumsum(alone), codes)


def resampling_units(entities: np.ndarray | None) -> np.ndarray | None:
    """Return the unit of each row, numbered from 0, shape (n,), or None when rows are to be resampled one by one.

    The latter without entities, when no entity has two rows, and with fewer than `LEAST_ENTITIES`.
    """
    if entities is None:
        return None
    distinct, numbers = np.unique(entities, return_inverse=True)
    return numbers if LEAST_ENTITIES <= len(distinct) < len(entities) else None
