"""A table in time: every row with the values that the service would have had when it was to be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from data.feature_views.batch_view import with_batch_view
from data.feature_views.events.event_tables import EventTables
from data.feature_views.point_in_time import with_expressions, with_windows
from data.schema.use_case import UseCase


class TableInTime(NamedTuple):
    """A table as served, and what it does not hold of the given events."""

    table: pa.Table
    """n rows with their windows and expressions; online features as the store would have held them."""
    own: pa.Table | None
    """The same with each row's own values of online features; None where nothing is stored by a schedule."""
    left_out: Mapping[str, Counter[str]]
    """By source of events: how many rows are no event, by reason."""


def table_in_time(
    table: pa.Table, use_case: UseCase, events: EventTables, holds_windows: bool, holds_stored: bool = False
) -> TableInTime:
    """Compute the windows and expressions of a table, and join what the store would have held.

    Without a schedule of the batch view (`materialized`) a row keeps its own values of online features.

    Args:
        table: n rows with the columns that training reads and the features derived from times.
        use_case: what is declared.
        events: earlier rows of the table, and events of other sources.
        holds_windows: whether the table holds its windows already.
        holds_stored: whether its online features are what the store would have held already; then the rows' own
            values are not known.

    Raises:
        DataError: as `with_windows` and `with_batch_view`.
    """
    if use_case.windows and not holds_windows:
        own, left_out = with_windows(table, use_case, events.history, events.others)
    else:
        own, left_out = with_expressions(table, use_case.schema_), {}
    if not use_case.joins_stored or holds_stored:
        return TableInTime(own, None, left_out)
    joined = with_batch_view(own, use_case, events.history)
    # Expressions may read what is stored.
    return TableInTime(with_expressions(joined, use_case.schema_), own, left_out)
