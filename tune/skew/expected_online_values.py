"""Expected online values: what the store should hold of a table, computed without the store's own code.

A fault in packing, writing or reading would otherwise be on both sides of the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from data.errors import ConfigError
from data.online_store.materialization import online_columns
from data.schema.use_case import UseCase
from data.sources.parquet import read_table
from data.transform.entity_key import entity_keys
from data.transform.event_time import DAY_US, NO_TIME, event_us
from data.transform.json_values import json_values
from data.transform.missing import is_blank
from tune.skew.row_comparison import Values


def stored_values(path: str, use_case: UseCase, now_us: int) -> Mapping[str, Values]:
    """Return the online features of each entity after the table at `path` was materialized.

    Args:
        path: Parquet file or folder.
        use_case: the use case.
        now_us: current time in microseconds since 1970 UTC; expired rows and those over a day later are left out.

    Returns:
        Values by entity: those of its row with the latest event time, the last in the table of several with the same.

    Raises:
        ConfigError: the use case has no online features.
        DataError: the table is broken, or a column is missing or holds what its feature cannot.
    """
    table = read_table(path, online_columns(use_case))
    entity, event_time = use_case.entity, use_case.event_time
    if entity is None or event_time is None:
        raise ConfigError(f"{use_case.name}: without entity and event time nothing is stored")
    keys = entity_keys(table.column(entity.column), entity).keys.to_pylist()
    times = event_us(table.column(event_time), event_time).tolist()
    oldest = now_us - entity.ttl_seconds * 1_000_000 if entity.ttl_seconds is not None else NO_TIME + 1
    newest = _newest(keys, times, oldest, now_us + DAY_US)
    values = _rows(table.take(pa.array(newest.values(), pa.int64())), use_case)
    return dict(zip(newest, values, strict=True))


def _newest(keys: Sequence[str | None], times: Sequence[int], oldest: int, latest: int) -> dict[str, int]:
    """Return the row number of each key's latest time between `oldest` and `latest`, the last of several rows."""
    newest: dict[str, int] = {}
    for at, (key, moment) in enumerate(zip(keys, times, strict=True)):
        if key is None or is_blank(key) or not oldest <= moment <= latest:
            continue
        if key not in newest or moment >= times[newest[key]]:
            newest[key] = at
    return newest


def _rows(table: pa.Table, use_case: UseCase) -> list[Values]:
    columns = [(f.name, json_values(table.column(f.name), f)) for f in use_case.schema_.online]
    return [
        {name: value for name, values in columns if (value := values[at]) is not None} for at in range(table.num_rows)
    ]
