"""Whose rows are whose: rows of one entity are alike, so intervals resample entities instead of rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.use_case import UseCase
from data.transform.encoding import named_column

LEAST_ENTITIES = 10
"""Of fewer, resamples say nothing: any few entities agree by chance. Their rows are resampled instead."""


def entity_codes(table: pa.Table, use_case: UseCase, rows: np.ndarray | None = None) -> np.ndarray | None:
    """A code of each row's entity, int64 of shape (n,), of `rows` only when given; a row without one stands alone.

    None when the use case declares no entity, or the rows were kept before it did.
    """
    if use_case.entity is None or use_case.entity.column not in table.column_names:
        return None
    column = named_column(table, use_case.entity.column)
    taken = (column if rows is None else column.take(pa.array(rows))).combine_chunks()
    codes = pc.fill_null(taken.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = codes < 0
    return np.where(alone, codes.max(initial=0) + np.cumsum(alone), codes)


def resampling_units(entities: np.ndarray | None) -> np.ndarray | None:
    """The entities of some rows numbered from 0, shape (n,); None where rows are to be resampled one by one.

    That is: without entities, when none has two rows, and when there are less than `LEAST_ENTITIES`.
    """
    if entities is None:
        return None
    found, numbers = np.unique(entities, return_inverse=True)
    return numbers if LEAST_ENTITIES <= len(found) < len(entities) else None
