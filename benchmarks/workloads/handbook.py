"""The fraud detection handbook as a workload: its transactions, and the window features that it published of a week."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.feature_views.events.event_tables import EventTables
from data.schema.use_case import UseCase, load_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source, read_source, read_table
from data.transform.event_time import event_us
from data.transform.table_columns import named_column
from tune.dataset.training_table import columns_read
from tune.promotion.promotion import read_holdout
from tune.registry.registry import Registry, ResolvedModel
from tune.skew.in_time_table import InTimeTable
from tune.skew.service_client import ServiceClient

USE_CASE = Path(__file__).with_name("handbook.toml")
MEAN_TOLERANCE = 1e-9
"""How far a mean may be from the published one: that is a difference of rounded sums."""
_VALIDATION = 0.1


class PublishedWeek(NamedTuple):
    """Window features of n rows, as they were published."""

    table: pa.Table
    use_case: UseCase

    @property
    def names(self) -> list[str]:
        """The window features of the use case, each of which is published."""
        return [feature.name for feature in self.use_case.windows]

    @property
    def times(self) -> np.ndarray:
        """The times of the rows in microseconds since 1970 UTC, int64 of shape (n,)."""
        return _times(self.table, self.use_case)

    def differences(self, found: pa.Table) -> list[Difference]:
        """Hold a table with keys and windows against what is published; rows beside the published ones do not matter.

        Raises:
            DataError: a published row is not in the table.
        """
        key = self.use_case.key or ""
        places = _places(named_column(self.table, key), named_column(found, key))
        if places.null_count:
            raise DataError(f"{places.null_count:,} published rows were not found")
        rows = found.take(places)
        return [self._difference(name, named_column(rows, name)) for name in self.names]

    def _difference(self, name: str, column: pa.ChunkedArray) -> Difference:
        default = self.use_case.features[name].default
        values = column if default is None else column.fill_null(default)
        apart = np.abs(_floats(values) - _floats(named_column(self.table, name)))
        # A value that is missing on one side alone is NaN here, and equal to nothing.
        differing = ~(apart <= (MEAN_TOLERANCE if "_AVG_" in name else 0.0))
        return Difference(name, len(apart), int(differing.sum()), float(apart.max(initial=0.0)))


class Difference(NamedTuple):
    """How a feature's values differ from the published ones: rows compared, rows differing, the largest difference."""

    name: str
    rows: int
    differing: int
    largest: float


class AnswerKeeper(ServiceClient):
    """Client of the service that keeps what each row was answered, by the row's key."""

    def __init__(self, url: str, version: str, token: str, week: PublishedWeek) -> None:
        super().__init__(url, version, token)
        self._key, self._names = week.use_case.key or "", week.names
        self._kept: dict[Any, list[Any]] = {}

    def ask(self, bodies: list[dict[str, Any]], request_id: str) -> list[dict[str, Any]]:
        """As `ServiceClient.ask`."""
        answers = super().ask(bodies, request_id)
        for body, answer in zip(bodies, answers, strict=True):
            self._keep(body, answer)
        return answers

    def ask_one(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        """As `ServiceClient.ask_one`."""
        answer = super().ask_one(body, request_id)
        self._keep(body, answer)
        return answer

    def table(self) -> pa.Table:
        """Return the keys and windows of the rows that were answered, each row's last answer."""
        columns = zip(*self._kept.values(), strict=True)
        return pa.table({self._key: list(self._kept), **dict(zip(self._names, map(list, columns), strict=True))})

    def _keep(self, body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if "error" not in answer and not answer.get("degraded"):
            self._kept[body[self._key]] = [answer["features"][name]["value"] for name in self._names]


def published_week(features: Path) -> PublishedWeek:
    """Read published features; raises DataError when a window of the use case is not among them."""
    use_case = load_use_case(USE_CASE)
    names = [use_case.key or "", use_case.event_time or "", *(feature.name for feature in use_case.windows)]
    return PublishedWeek(read_table(features, names), use_case)


def write_transactions(week: PublishedWeek, transactions: Path, out: Path) -> float:
    """Write the transactions up to the end of the published week, and return the week's share of them.

    Raises:
        DataError: there are too few rows before the week to learn from.
    """
    table = read_table(transactions, columns_read(week.use_case, holds_windows=False))
    times, of_week = _times(table, week.use_case), week.times
    known = times <= of_week.max()
    share = float((times[known] >= of_week.min()).mean())
    if share + _VALIDATION > 0.5:
        raise DataError(f"{transactions}: {share:.0%} of the rows are of the published week; give more rows before it")
    write_table(table.filter(pa.array(known)), out)
    return share


def write_use_case(share: float, out: Path) -> None:
    """Write the use case with a holdout of that share of the rows."""
    out.write_text(re.sub(r"(?m)^holdout = .*$", f"holdout = {share!r}", USE_CASE.read_text()))


def holdout_in_time(registry: Registry, model: ResolvedModel, use_case: UseCase, transactions: Path) -> InTimeTable:
    """Return the rows of a version's holdout with those before them, to be sent to a service."""
    since = _times(read_holdout(registry, model), use_case).min()
    table = read_source(open_source(transactions), columns_read(use_case, holds_windows=False))
    return InTimeTable(table, use_case, model.bundle.manifest, EventTables(None, {}), int(since))


def worst(differences: Sequence[Difference], part: str) -> Difference:
    """Return the differences of the features with `part` in their names as one."""
    found = [each for each in differences if part in each.name]
    rows, differing = sum(each.rows for each in found), sum(each.differing for each in found)
    return Difference(part, rows, differing, max(each.largest for each in found))


def _times(table: pa.Table, use_case: UseCase) -> np.ndarray:
    name = use_case.event_time or ""
    return event_us(named_column(table, name), name)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _places(keys: pa.ChunkedArray, found: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return where each key is among those that were found; null where it is not."""
    options = pc.SetLookupOptions(value_set=found.cast(pa.int64()))
    return pc.call_function("index_in", [keys.cast(pa.int64())], options)
