"""Point-in-time features of a table: every row gets the windows and expressions that it would have been served with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.feature_views.batch_view import with_batch_view
from data.feature_views.events.table_events import EventColumns, table_events
from data.feature_views.events.table_mark import with_mark
from data.feature_views.kernel.windows import windows
from data.schema.features.expression import Expression
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.window_feature import WindowFeature
from data.schema.use_case import UseCase
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
    for name, features in windows_by_source(use_case).items():
        events = events_of(table, use_case, name, history, (others or {}).get(name))
        columns, left_out[name] = source_windows(events, table, use_case, features)
        table = with_columns(table, columns)
    return PointInTime(with_expressions(table, use_case.schema_), left_out)


def windows_by_source(use_case: UseCase) -> dict[str, list[WindowFeature]]:
    """Return the window features of each source of events, in the order of their declaration."""
    found: dict[str, list[WindowFeature]] = {}
    for feature in use_case.windows:
        found.setdefault(feature.source, []).append(feature)
    return found


def source_columns(use_case: UseCase, name: str) -> EventColumns:
    """Return which columns of its table the events of a source are made of."""
    source = use_case.events[name]
    return EventColumns(source, source.key or use_case.key or "", source.time or use_case.event_time or "")


def source_windows(
    events: pa.Table, rows: pa.Table, use_case: UseCase, features: Sequence[WindowFeature]
) -> tuple[dict[str, pa.Array], Counter[str]]:
    """Compute windows of one source.

    Args:
        events: the rows that its events are made of.
        rows: the n rows whose windows are wanted.
        use_case: declares both.
        features: some of the source's windows.

    Returns:
        By feature its column, of length n; and by reason how many rows are no event.

    Raises:
        DataError: as `with_windows`.
    """
    columns = source_columns(use_case, features[0].source)
    entities = list(dict.fromkeys(feature.by for feature in features))
    found = table_events(events, columns, rows, use_case.key, use_case.event_time or "", entities)
    try:
        values = windows(found.events, found.moments, features)
    except OverflowError as exc:
        raise DataError(str(exc)) from exc
    words = {f.name: found.events.values[f.of].words for f in features if f.of is not None}
    made = {name: _column(use_case.features[name], held, words.get(name)) for name, held in values.items()}
    return made, found.left_out


def with_expressions(table: pa.Table, schema: FeatureSchema) -> pa.Table:
    """Add a column for each expression, from the columns of the features that it reads and their defaults.

    Raises:
        DataError: a column is missing or holds no numbers.
    """
    for feature in schema.expressions:
        expression = Expression(feature.expression or "")
        read = {name: numbers(table, schema.features[schema.names.index(name)]) for name in expression.names}
        table = with_columns(table, {feature.name: _column(feature, expression_column(expression, read))})
    return table


def numbers(table: pa.Table, feature: Feature) -> np.ndarray:
    """Return a feature's column as an expression reads it: float64 of shape (n,), its default where it is missing."""
    if feature.derive is not None:
        return derive(table, [feature]).values[feature.name]
    values = as_floats(named_column(table, feature.name), feature.name)
    return values if feature.default is None else np.where(np.isnan(values), float(feature.default), values)


def events_of(
    table: pa.Table, use_case: UseCase, name: str, history: pa.Table | None, other: pa.Table | None
) -> pa.Table:
    """Return the rows that a source's events are made of: of a table of its own, else the history's, then the table's.

    Raises:
        DataError: they are not given, or the history does not fit the table.
    """
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


def with_columns(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Return a table with further columns of its length, each in place of any of the same name."""
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def _column(feature: Feature, values: np.ndarray, words: tuple[str, ...] | None = None) -> pa.Array:
    """Return float64 of shape (n,), NaN = missing, as a feature's column; of a category these are codes of words."""
    missing = np.isnan(values)
    if feature.type is FeatureType.CATEGORY:
        codes = pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
        return pa.array(words, pa.string()).take(codes) if words else pa.nulls(len(values), pa.string())
    if feature.type is FeatureType.INTEGER:
        return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
    return pa.array(values, pa.float64(), mask=missing)
