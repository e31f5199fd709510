"""Whether two holdouts are of the same rows: then neither model learned from them, whatever else it learned from."""

from __future__ import annotations

import pyarrow as pa

from tune.table import fingerprint


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    """True when two tables have equal values, in the same order, in all the columns they share, two or more.

    So the holdouts of two sets of features of one table are the same rows.
    """
    shared = [name for name in one.column_names if name in other.column_names]
    return len(shared) > 1 and fingerprint(one.select(shared)) == fingerprint(other.select(shared))
