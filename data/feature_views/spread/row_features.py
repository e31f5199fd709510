"""The last step: rows in their order, with the features that were computed for them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.distributed.shuffle_file import Shuffle, read_partition
from data.feature_views.point_in_time import windows_by_source, with_columns, with_expressions
from data.feature_views.spread.exchange import ROW
from data.feature_views.spread.plan import SpreadPlan
from data.sources.row_origin import origin_of, without_origin


@dataclass(frozen=True)
class AddFeatures:
    """Adds the features to blocks of the table."""

    plan: SpreadPlan
    windows: Mapping[str, Shuffle]
    """By group."""
    stored: Shuffle | None

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the rows of a block with all that they would have been served with."""
        first = self.plan.table.table_row(origin_of(block))
        rows, use_case = without_origin(block), self.plan.use_case
        rows = with_expressions(with_columns(rows, self._windows(first, block.num_rows)), use_case.schema_)
        if self.stored is not None:
            joined = with_columns(rows, _columns(self._found(self.stored, first, block.num_rows)))
            rows = with_expressions(joined, use_case.schema_)
        return rows.cast(self.plan.empty.table.schema)

    def _windows(self, first: int, count: int) -> dict[str, pa.ChunkedArray]:
        """Return the columns of `count` rows of the table from `first` on, in the order of their declaration."""
        found: dict[str, pa.ChunkedArray] = {}
        for group in self.plan.groups:
            found |= _columns(self._found(self.windows[group.name], first, count))
        declared = windows_by_source(self.plan.use_case).values()
        return {feature.name: found[feature.name] for features in declared for feature in features}

    def _found(self, shuffle: Shuffle, first: int, count: int) -> pa.Table:
        """Return what was computed for `count` rows of one chunk from `first` on, in their order."""
        chunk = int(np.searchsorted(self.plan.first_rows, first, "right")) - 1
        table = read_partition(shuffle, chunk)
        rows = table.column(ROW).to_numpy()
        places = np.flatnonzero((rows >= first) & (rows < first + count))
        return table.take(pa.array(places[np.argsort(rows[places])]))


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table.column(name) for name in table.column_names if name != ROW}
