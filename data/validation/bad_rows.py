"""Bad rows: the rows of a table that failed a check, or that a model is blind to, with the reasons beside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data.sources.parquet import ChunkReader, ParquetSource
from data.sources.row_origin import origin_of, without_origin
from data.transform.table_columns import free_name
from data.validation.hits import BAD_ROWS_KEPT, Hits
from data.validation.validation import Validation


def bad_row_numbers(validation: Validation) -> np.ndarray:
    """Return the numbers (from 0) of all rows that failed a check or that the model is blind to, ascending."""
    return np.union1d(validation.bad_rows, _blind(validation))


def bad_rows(source: ParquetSource, validation: Validation) -> pa.Table:
    """Read the bad and the blind rows, one at least and at most `BAD_ROWS_KEPT`: the first bad ones before the blind.

    The columns row_number (from 0) and reasons are appended, by other names where the table has one of these; a reason
    of the model begins with "against version N".
    """
    wanted = _first_rows(validation)
    reasons: dict[int, list[str]] = {int(row): [] for row in wanted}
    for reason, hits in _reasons(validation):
        for row in hits.rows.tolist():
            if row in reasons:
                reasons[row].append(reason)
    table = pa.concat_tables(_read(source, wanted))
    texts = ["; ".join(reasons[int(row)]) for row in wanted]
    for name, values in (("row_number", pa.array(wanted)), ("reasons", pa.array(texts))):
        table = table.append_column(free_name(name, table.column_names), values)
    return table


def _blind(validation: Validation) -> np.ndarray:
    return validation.coverage.blind if validation.coverage else np.empty(0, np.int64)


def _first_rows(validation: Validation) -> np.ndarray:
    failed = validation.bad_rows[:BAD_ROWS_KEPT]
    blind = np.setdiff1d(_blind(validation)[:BAD_ROWS_KEPT], validation.bad_rows)
    return np.sort(np.concatenate([failed, blind[: BAD_ROWS_KEPT - len(failed)]]))


def _reasons(validation: Validation) -> Iterator[tuple[str, Hits]]:
    for (column, reason), hits in validation.hits.items():
        yield f"{column}: {reason}", hits
    if validation.coverage:
        version = validation.coverage.model.version
        for (column, blindness), hits in validation.coverage.hits.items():
            yield f"against version {version}: {column}: {blindness}", hits


def _read(source: ParquetSource, wanted: np.ndarray) -> list[pa.Table]:
    """Read the rows with these numbers, which ascend."""
    parts: list[pa.Table] = []
    reader = ChunkReader(source.schema)
    for chunk in source.chunks:
        first = source.table_row(chunk.origin)
        if not np.any((wanted >= first) & (wanted < first + chunk.rows)):
            continue
        for block in reader(chunk):
            first = source.table_row(origin_of(block))
            inside = wanted[(wanted >= first) & (wanted < first + block.num_rows)]
            parts.append(without_origin(block.take(inside - first)))
    return parts
