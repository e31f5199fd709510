"""The batch view of a table in time: for every row the stored values that it would have been served with.

A row never sees its own values: the store holds what was materialized before, by the declared schedule.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.feature_views.kernel.entity_order import SearchKeys, entity_order
from data.feature_views.kernel.event_arrays import NO_ENTITY
from data.schema.batch_schedule import BatchSchedule
from data.schema.use_case import UseCase
from data.transform.entity_key import entity_keys
from data.transform.event_time import NO_TIME, event_us
from data.transform.table_columns import named_column


def with_batch_view(table: pa.Table, use_case: UseCase, history: pa.Table | None = None) -> pa.Table:
    """Replace the columns of online features by what the store would have held at each row's time.

    Args:
        table: n rows, with the entity, the event time and the online features.
        use_case: its entity with the TTL, its online features and its schedule.
        history: earlier rows of the same table, which are stored but get no values.

    Raises:
        DataError: a column is missing or of a type that does not fit.
    """
    online = use_case.schema_.online
    if not online:
        return table
    assert use_case.entity is not None and use_case.event_time is not None
    names = [use_case.entity.column, use_case.event_time, *(feature.name for feature in online)]
    stored = _joined(history, table, names)
    found = _stored_row(stored, use_case, table.num_rows)
    for feature in online:
        column = named_column(stored, feature.name).take(pa.array(found, mask=found < 0))
        table = table.set_column(table.column_names.index(feature.name), feature.name, column)
    return table


def as_of(time_us: np.ndarray, schedule: BatchSchedule) -> np.ndarray:
    """Return up to when rows are in the store at n times, in microseconds since 1970 UTC."""
    return (time_us - schedule.takes_us) // schedule.every_us * schedule.every_us


def _joined(history: pa.Table | None, table: pa.Table, names: list[str]) -> pa.Table:
    for name in names:
        named_column(table, name)
    if history is None:
        return table.select(names)
    try:
        return pa.concat_tables([history.select(names), table.select(names)], promote_options="permissive")
    except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise DataError(f"the history does not fit the table: {exc}") from exc


def _stored_row(stored: pa.Table, use_case: UseCase, rows: int) -> np.ndarray:
    """Return for each of the last `rows` rows which row the store holds of its entity at its time; -1: none."""
    assert use_case.entity is not None and use_case.event_time is not None and use_case.materialized is not None
    encoded = entity_keys(named_column(stored, use_case.entity.column), use_case.entity).keys.dictionary_encode()
    entity = encoded.indices.fill_null(NO_ENTITY).to_numpy(zero_copy_only=False).astype(np.int64)
    time = event_us(named_column(stored, use_case.event_time), use_case.event_time)
    # Of rows of one entity and time the later one in the table is stored, as materialize does it.
    order = entity_order(entity, time, np.arange(len(entity)))
    order = order[(entity[order] >= 0) & (time[order] != NO_TIME)]
    own_entity, own_time = entity[-rows:] if rows else entity[:0], time[-rows:] if rows else time[:0]
    timed = own_time != NO_TIME
    moments = np.where(timed, own_time, 0)
    until = SearchKeys(entity[order], time[order]).count(own_entity, as_of(moments, use_case.materialized), "right")
    at = order[np.maximum(until - 1, 0)] if len(order) else np.zeros(rows, np.int64)
    held = (until > 0) & timed & (own_entity >= 0)
    held &= entity[at] == own_entity if len(order) else False
    ttl = use_case.entity.ttl_seconds
    if ttl is not None:
        held &= moments - time[at] <= ttl * 1_000_000
    return np.where(held, at, -1)
