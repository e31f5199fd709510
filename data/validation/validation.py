"""Validation of a table against its use case: blocks are checked in parallel, then their findings are merged.

Memory: a block's columns in each worker; in the driver process 8 bytes per row for the hash of its key, 4 bytes per row
for a label that is a number, 9 bytes per row of a ranking for its list, 8 bytes per bad or blind row, and up to 50 KB
per block for the different numbers of a feature. Two keys with the same 64-bit hash would count as a duplicate: expect
none below a billion rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from data.errors import DataError
from data.schema.use_case import UseCase
from data.sources.filesystems import named
from data.sources.parquet import ParquetSource
from data.sources.row_origin import Origin, origin_of, without_origin
from data.transform.encoding import as_floats, as_strings
from data.transform.event_time import NO_TIME, check_forms, event_us, time_forms
from data.transform.float32_identity import DistinctNumbers, distinct_numbers, merge_numbers
from data.transform.hashing import splitmix64
from data.transform.missing import blank_mask, missing_mask
from data.validation.event_checks import own_event_checks
from data.validation.hits import BAD_ROWS_KEPT, Hits, add_hits, hits_of
from data.validation.label_summary import LabelSummary, label_summary
from data.validation.list_summary import ListSummary, list_summary
from data.validation.model_coverage import BlockCoverage, ModelCoverage, TrainedModel, cover, merge_coverage
from data.validation.row_checks import OUT_OF_ORDER, Check, numeric, row_checks, wordy
from data.validation.stored_values import StoredValues

_REPEATED = "repeats the key of an earlier row"


@dataclass
class ColumnSummary:
    """Summary of one column: missing and infinite values, and its range; `low` and `high` are None without values."""

    nulls: int = 0
    nans: int = 0
    empties: int = 0
    """Values of ''."""
    infinities: int = 0
    low: float | str | None = None
    high: float | str | None = None

    def merge(self, other: ColumnSummary) -> None:
        """Merge the summary of another block of the column into this one."""
        self.nulls += other.nulls
        self.nans += other.nans
        self.empties += other.empties
        self.infinities += other.infinities
        self.low = min((v for v in (self.low, other.low) if v is not None), default=None)
        self.high = max((v for v in (self.high, other.high) if v is not None), default=None)


@dataclass
class BlockFindings:
    """The findings of one block of consecutive rows, small enough to send to the driver process.

    Row numbers count from the block's first row.
    """

    origin: Origin
    rows: int
    columns: dict[str, ColumnSummary]
    hits: dict[tuple[str, str], Hits]
    """Failed rows by (column, reason)."""
    bad_rows: np.ndarray
    """Numbers of all rows that failed any check, ascending."""
    labels: LabelSummary
    key_hashes: np.ndarray
    """64-bit hash of each row's key, a missing one unlike all others, in row order; empty without a key."""
    times: np.ndarray
    """First and last event time of the block; empty when there is none."""
    time_forms: int | None = None
    """The forms in which its event times are written (`data.transform.event_time`); None without an event time."""
    numbers: dict[str, DistinctNumbers] = field(default_factory=dict)
    """The different whole numbers of each feature that is encoded as a number."""
    lists: ListSummary | None = None
    """The lists of a ranking."""
    coverage: BlockCoverage | None = None
    """What a model does not know, where the table is held against one."""


@dataclass
class Validation:
    """The outcome for a whole table. `bad_rows` are row numbers (from 0), ascending."""

    path: str
    use_case: str
    rows: int = 0
    columns: dict[str, ColumnSummary] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    hits: dict[tuple[str, str], Hits] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    """Problems of the table as a whole."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing and no problem."""
    labels: LabelSummary = field(default_factory=LabelSummary)
    bad_rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    coverage: ModelCoverage | None = None
    """What a model does not know, where the table is held against one. Blind rows are no bad rows."""
    stored: StoredValues | None = None
    """How often the online store would not have held a row's own values; None where nothing is stored."""

    @property
    def clean(self) -> bool:
        """Whether no problem was found."""
        return not self.hits and not self.whole


def checker(use_case: UseCase, now_us: int, model: TrainedModel | None = None) -> Callable[[pa.Table], BlockFindings]:
    """Return `check_rows` with all but the block bound: a function of one block, which pickles."""
    return partial(check_rows, use_case=use_case, now_us=now_us, model=model)


def check_rows(block: pa.Table, use_case: UseCase, now_us: int, model: TrainedModel | None = None) -> BlockFindings:
    """Check every declared column of consecutive rows of one file.

    Args:
        block: the declared columns, and those of the rows' origin (`data.sources.row_origin`); one row at least.
        use_case: what is declared.
        now_us: current time in microseconds since 1970 UTC; an event time more than a day later is reported.
        model: a version to hold the rows against too.

    Raises:
        DataError: the event times cannot be read, or a column cannot hold what is declared.
    """
    origin, table = origin_of(block), without_origin(block)
    try:
        times = event_us(table.column(use_case.event_time), use_case.event_time) if use_case.event_time else None
        checks = [check for check in _checks(table, use_case, times, now_us) if check.mask.any()]
    except DataError as exc:
        raise DataError(f"{origin.file}: {exc}") from exc
    bad = np.zeros(table.num_rows, bool)
    for check in checks:
        bad |= check.mask
    key = use_case.key
    return BlockFindings(
        origin=origin,
        rows=table.num_rows,
        columns={name: _summary(table.column(name)) for name in use_case.columns},
        hits={(check.column, check.reason): hits_of(check.mask) for check in checks},
        bad_rows=np.flatnonzero(bad),
        labels=label_summary(table.column(use_case.label), use_case.task, use_case.label),
        key_hashes=_key_hashes(table.column(key), key, origin) if key else np.empty(0, np.uint64),
        times=np.empty(0, np.int64) if times is None else _ends(times),
        time_forms=time_forms(table.column(use_case.event_time), use_case.event_time) if use_case.event_time else None,
        numbers=distinct_numbers(table, use_case.features.values()),
        lists=list_summary(table, use_case),
        coverage=cover(table, model, use_case) if model else None,
    )


def _checks(table: pa.Table, use_case: UseCase, times: np.ndarray | None, now_us: int) -> Iterator[Check]:
    yield from row_checks(table, use_case, times, now_us)
    for name, source in use_case.events.items():
        if source.own:
            yield from own_event_checks(table, name, source)


def merge(
    source: ParquetSource, use_case: UseCase, parts: Sequence[BlockFindings], model: TrainedModel | None = None
) -> Validation:
    """Merge the findings of all blocks, and check what only the whole table shows: repeated keys, order, classes.

    `model` is the version that the blocks were held against, if any.
    """
    parts = sorted(parts, key=lambda part: source.table_row(part.origin))
    firsts = [source.table_row(part.origin) for part in parts]
    types = {name: str(source.schema.field(name).type) for name in use_case.columns}
    validation = Validation(named(source.path), use_case.name, source.rows, types=types)
    for first, part in zip(firsts, parts, strict=True):
        validation.labels.merge(part.labels)
        for name, summary in part.columns.items():
            validation.columns.setdefault(name, ColumnSummary()).merge(summary)
        for (column, reason), hits in part.hits.items():
            add_hits(validation.hits, (column, reason), hits, first)
    bad = [first + part.bad_rows for first, part in zip(firsts, parts, strict=True)]
    if use_case.key:
        bad.append(
            _add_rows(validation, use_case.key, _REPEATED, _repeats(np.concatenate([p.key_hashes for p in parts])))
        )
    if use_case.event_time:
        bad.append(_add_rows(validation, use_case.event_time, OUT_OF_ORDER, _late_blocks(firsts, parts)))
        _add_unlike_times(validation, use_case.event_time, parts)
    validation.bad_rows = np.unique(np.concatenate(bad))
    validation.whole += validation.labels.problems(use_case.task, use_case.label)
    lists = [part.lists for part in parts if part.lists is not None]
    if lists and use_case.task.list_column:
        validation.notes += ListSummary.joined(lists).notes(use_case.task.list_column)
    for name, numbers in merge_numbers(part.numbers for part in parts).items():
        _add_merged(validation, name, numbers, source.schema.field(name).type)
    if model:
        covered = [(first, p.rows, p.coverage) for first, p in zip(firsts, parts, strict=True) if p.coverage]
        validation.coverage = merge_coverage(model, use_case, covered)
        validation.whole += validation.coverage.problems()
    return validation


def _add_unlike_times(validation: Validation, name: str, parts: Sequence[BlockFindings]) -> None:
    """Report event times that are written alike in each block, and not in all of them."""
    try:
        check_forms(name, [part.time_forms for part in parts if part.time_forms is not None])
    except DataError as exc:
        validation.whole.append(str(exc))


def _add_merged(validation: Validation, name: str, numbers: DistinctNumbers, kind: pa.DataType) -> None:
    """Report numbers that become one: a problem where most are lost or a category would keep them, else a note."""
    if not numbers.merged:
        return
    if numbers.mostly_lost or numbers.few:
        validation.whole.append(f"{name}: {numbers.text}; {numbers.remedy(kind)}")
    else:
        validation.notes.append(f"{name}: {numbers.text}; if it is an amount, that is rounding")


def _late_blocks(firsts: Sequence[int], parts: Sequence[BlockFindings]) -> np.ndarray:
    """Return the first row of every block that starts earlier than the block before it ended."""
    timed = [(first, part.times) for first, part in zip(firsts, parts, strict=True) if len(part.times)]
    return np.array([first for (_, early), (first, late) in pairwise(timed) if late[0] < early[1]], np.int64)


def _repeats(hashes: np.ndarray) -> np.ndarray:
    # Stable, so that of equal keys the earliest row comes first and is not reported.
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    return np.sort(order[1:][same])


# The cast restores the type, which is lost because pandas loads the function lazily.
_hash = cast(Callable[..., np.ndarray], hash_array)


def _key_hashes(column: pa.ChunkedArray, name: str, origin: Origin) -> np.ndarray:
    # A missing key is reported as missing; it repeats no other.
    rows = np.arange(origin.row, origin.row + len(column), dtype=np.uint64)
    alone = splitmix64(rows, zlib.crc32(origin.file.encode()))
    return np.where(blank_mask(column), alone, _hashes(column, name))


def _hashes(column: pa.ChunkedArray, name: str) -> np.ndarray:
    if not wordy(column.type):
        raise DataError(f"column '{name}' holds {column.type}, expected strings or integers (it is the key)")
    if pa.types.is_integer(column.type) and not column.null_count:
        return _hash(column.to_numpy())
    return _hash(as_strings(column, name).to_numpy(zero_copy_only=False), categorize=False)


def _summary(column: pa.ChunkedArray) -> ColumnSummary:
    if not numeric(column.type):
        return _text_summary(column.cast(pa.string()))
    nulls = column.null_count
    values = as_floats(column, "")
    nans = int(np.isnan(values).sum()) - nulls
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    return ColumnSummary(nulls, nans, infinities=int(np.isinf(values).sum()), low=low, high=high)


def _text_summary(words: pa.ChunkedArray) -> ColumnSummary:
    present = words.filter(pa.array(~missing_mask(words)))
    empties = len(words) - len(present) - words.null_count
    ends = pc.call_function("min_max", [present]).as_py()
    return ColumnSummary(words.null_count, empties=empties, low=ends["min"], high=ends["max"])


def _add_rows(validation: Validation, column: str, reason: str, rows: np.ndarray) -> np.ndarray:
    if len(rows):
        add_hits(validation.hits, (column, reason), Hits(len(rows), rows[:BAD_ROWS_KEPT]))
    return rows


def _ends(times: np.ndarray) -> np.ndarray:
    known = times[times != NO_TIME]
    return known[[0, -1]] if len(known) else known
