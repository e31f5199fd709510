"""Point-in-time features of a table: every row gets the windows and expressions that it would have been served with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.feature_views.batch_view import with_batch_view
from data.feature_views.kernel.windows import windows
from data.feature_views.table_events import EventColumns, table_events
from data.feature_views.table_mark import with_mark
from data.schema.expression import Expression
from data.schema.feature import Feature, FeatureType
from data.schema.feature_schema import FeatureSchema
from data.schema.use_case import UseCase
from data.schema.window_feature import WindowFeature
from data.transform.derived_time import derive
from data.transform.encoding import as_floats
from data.transform.expression_column import expression_column
from data.transform.table_columns import named_column


class PointInTime(NamedTuple):
    """A table with its windows and expressions, and what of the tables of events was left out."""

    table: pa.Table
    left_out: dict[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""


def point_in_time(
    table: pa.Table,
    use_case: UseCase,
    history: pa.Table | None = None,
    others: Mapping[str, pa.Table] | None = None,
) -> PointInTime:
    """Return a table, marked so, with all that its rows would have been served with: windows, batch view, expressions.

    Args and errors are those of `with_windows`. Online features without a schedule stay as they are.
    """
    found, left_out = with_windows(table, use_case, history, others)
    if use_case.joins_stored:
        # After the windows, whose events have the rows' own values, and before the expressions, which read these.
        found = with_expressions(with_batch_view(found, use_case, history), use_case.schema_)
    schema = with_mark(found.schema, use_case, use_case.joins_stored)
    return PointInTime(found.replace_schema_metadata(schema.metadata), left_out)


def with_windows(
    table: pa.Table,
    use_case: UseCase,
    history: pa.Table | None = None,
    others: Mapping[str, pa.Table] | None = None,
) -> PointInTime:
    """Add a column for each window feature and each expression, in place of any of the same name.

    Args:
        table: n rows, with the columns that the use case reads.
        use_case: its windows, sources of events and expressions.
        history: earlier rows of the same table, which are events but get no windows.
        others: by source, the events of the sources that are not the table's own rows.

    Raises:
        DataError: a column is missing or does not fit, rows have no time, the events of a source are not given, or a
            sum does not fit into 64 bits.
    """
    left_out: dict[str, Counter[str]] = {}
    for name in dict.fromkeys(feature.source for feature in use_case.windows):
        features = [feature for feature in use_case.windows if feature.source == name]
        values, left_out[name] = _source_windows(table, use_case, name, features, history, (others or {}).get(name))
        for feature in features:
            table = _with_column(table, use_case.features[feature.name], values[feature.name])
    return PointInTime(with_expressions(table, use_case.schema_), left_out)


def with_expressions(table: pa.Table, schema: FeatureSchema) -> pa.Table:
    """Add a column for each expression, from the columns of the features that it reads and their defaults.

    Raises:
        DataError: a column is missing or holds no numbers.
    """
    for feature in schema.expressions:
        expression = Expression(feature.expression or "")
        read = {name: numbers(table, schema.features[schema.names.index(name)]) for name in expression.names}
        table = _with_column(table, feature, expression_column(expression, read))
    return table


def numbers(table: pa.Table, feature: Feature) -> np.ndarray:
    """Return a feature's column as an expression reads it: float64 of shape (n,), its default where it is missing."""
    if feature.derive is not None:
        return derive(table, [feature]).values[feature.name]
    values = as_floats(named_column(table, feature.name), feature.name)
    return values if feature.default is None else np.where(np.isnan(values), float(feature.default), values)


def _source_windows(
    table: pa.Table,
    use_case: UseCase,
    name: str,
    features: list[WindowFeature],
    history: pa.Table | None,
    other: pa.Table | None,
) -> tuple[dict[str, pa.Array | np.ndarray], Counter[str]]:
    source = use_case.events[name]
    events = _events_of(table, use_case, name, history, other)
    columns = EventColumns(source, source.key or use_case.key or "", source.time or use_case.event_time or "")
    entities = list(dict.fromkeys(feature.by for feature in features))
    found = table_events(events, columns, table, use_case.key, use_case.event_time or "", entities)
    try:
        values = windows(found.events, found.moments, features)
    except OverflowError as exc:
        raise DataError(str(exc)) from exc
    words = {f.name: found.events.values[f.of].words for f in features if f.of is not None}
    return {
        feature: _words(codes, words[feature]) if _is_text(use_case, feature) else codes
        for feature, codes in values.items()
    }, found.left_out


def _is_text(use_case: UseCase, feature: str) -> bool:
    return use_case.features[feature].type is FeatureType.CATEGORY


def _words(codes: np.ndarray, words: tuple[str, ...] | None) -> pa.Array:
    indices = pa.array(np.where(np.isnan(codes), 0, codes).astype(np.int64), mask=np.isnan(codes))
    return pa.array(words or (), pa.string()).take(indices) if words else pa.nulls(len(codes), pa.string())


def _events_of(
    table: pa.Table, use_case: UseCase, name: str, history: pa.Table | None, other: pa.Table | None
) -> pa.Table:
    source = use_case.events[name]
    if not source.own:
        if other is None:
            raise DataError(f"events of source '{name}' are not given: --events {name}=PATH")
        return other
    if history is None:
        return table
    needed = [use_case.key, use_case.event_time, source.known_at, *source.entity_columns, *source.values]
    columns = list(dict.fromkeys(name for name in needed if name))
    try:
        return pa.concat_tables([history.select(columns), table.select(columns)], promote_options="permissive")
    except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise DataError(f"the history does not fit the table: {exc}") from exc


def _with_column(table: pa.Table, feature: Feature, values: np.ndarray | pa.Array) -> pa.Table:
    column = _column(feature, values) if isinstance(values, np.ndarray) else values
    if feature.name in table.column_names:
        return table.set_column(table.column_names.index(feature.name), feature.name, column)
    return table.append_column(feature.name, column)


def _column(feature: Feature, values: np.ndarray) -> pa.Array:
    missing = np.isnan(values)
    if feature.type is FeatureType.INTEGER:
        return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
    return pa.array(values, pa.float64(), mask=missing)
