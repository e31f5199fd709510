"""Leakage alarms, raised before the search, and notes on features that cannot help.

A leak is information that is there in training and not at prediction: it makes figures better than the model will be.
Each alarm names the column and what to do; nothing is refused, because only the owner of the table can know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature, FeatureType
from data.schema.use_case import UseCase
from data.transform.encoding import as_floats, as_strings, named_column
from data.transform.event_time import NO_TIME, event_us
from data.transform.missing import blank_as_null, missing_as_null, missing_mask
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset
from tune.dataset.training_table import TrainingTable
from tune.metrics.ranking import Ranking
from tune.tasks.kinds import learning_task
from tune.tasks.learning_task import LearningTask

_TELLTALE_AUC = 0.99
_TWINS = 0.01
"""Share of holdout rows with equal features among the train rows, from which on an alarm is raised."""
_ROWS_RANKED = 200_000
_NO_KEY = -1
_BEYOND = 1e39
"""Larger than any float32."""


class LeakageAlarm(NamedTuple):
    """One alarm. `leak` is False for a note on a feature that is merely useless."""

    column: str
    text: str
    leak: bool = True


def find_alarms(source: TrainingTable, prepared: PreparedDataset, use_case: UseCase) -> list[LeakageAlarm]:
    """Check the raw and the encoded table, and return the alarms, leaks first.

    Raises:
        DataError: a column of `known_at` holds no times.
    """
    found = [
        *_telltales(prepared, learning_task(use_case)),
        *_known_too_late(source.table, use_case),
        *_shared_keys(source.table, prepared, use_case),
        *_twins(prepared),
        *_useless(prepared),
        *_odd_values(source.table, prepared),
    ]
    return sorted(found, key=lambda alarm: not alarm.leak)


def single_auc(train: EncodedExamples, feature: int, category: bool, judged: EncodedExamples) -> float:
    """Return the AUC of one feature alone, in the better direction: 0.5 to 1; labels are 0 and 1.

    A number ranks the train rows by itself, missing values lowest or highest. A category ranks the rows of `judged` by
    the share of label 1 among the train rows of each word: on the train rows rare words would fit by chance.
    """
    if category:
        codes = np.nan_to_num(train.x[:, feature], nan=-1).astype(np.int64) + 1
        judged_codes = np.nan_to_num(judged.x[:, feature], nan=-1).astype(np.int64) + 1
        width = int(max(codes.max(), judged_codes.max())) + 1
        prior = float(train.y.mean())
        rate = (np.bincount(codes, train.y, width) + prior) / (np.bincount(codes, minlength=width) + 1)
        return Ranking(judged.y, rate[judged_codes]).auc()
    rows = _some(train.y)
    column = train.x[rows, feature].astype(np.float64)
    aucs = [Ranking(train.y[rows], np.nan_to_num(column, nan=extreme)).auc() for extreme in (-_BEYOND, _BEYOND)]
    return max(max(auc, 1 - auc) for auc in aucs)


def _telltales(prepared: PreparedDataset, learning: LearningTask[Any]) -> Iterator[LeakageAlarm]:
    train, judged = prepared.train, prepared.validation
    # The same views of all rows: a median of each part would cut the parts in two places.
    views = list(learning.views(np.concatenate([train.y, judged.y])))
    for number, feature in enumerate(prepared.schema.features):
        category = feature.type is FeatureType.CATEGORY
        aucs = [
            single_auc(train._replace(y=view[: train.rows]), number, category, judged._replace(y=view[train.rows :]))
            for view in views
        ]
        if max(aucs) > _TELLTALE_AUC:
            yield _telltale(feature, max(aucs))


def _telltale(feature: Feature, auc: float) -> LeakageAlarm:
    alone = f"alone it ranks the label with an AUC of {auc:.4f}"
    if feature.is_window:
        # A window counts what is known at the row's time and nothing else, whatever it aggregates.
        return LeakageAlarm(feature.name, f"{alone}, from events that the use case declares as known by then", False)
    advice = "is it known before the label? If not, take it out of the use case"
    return LeakageAlarm(feature.name, f"{alone}; {advice}")


def _some(labels: np.ndarray) -> np.ndarray:
    """Return numbers of rows, evenly spaced within each label so that a rare label keeps its share."""
    step = max(len(labels) // _ROWS_RANKED, 1)
    return np.concatenate([np.flatnonzero(labels == label)[::step] for label in (0, 1)])


def _known_too_late(table: pa.Table, use_case: UseCase) -> Iterator[LeakageAlarm]:
    if use_case.event_time is None:
        return
    event = event_us(named_column(table, use_case.event_time), use_case.event_time)
    for name, column in use_case.known_at.items():
        known = event_us(named_column(table, column), column)
        late = int(((known > event) & (known != NO_TIME) & (event != NO_TIME)).sum())
        if late:
            yield LeakageAlarm(
                name,
                f"became known after the event in {late:,} of {len(event):,} rows ('{column}' is later than "
                f"'{use_case.event_time}'); join it as of the event time",
            )


def _shared_keys(table: pa.Table, prepared: PreparedDataset, use_case: UseCase) -> Iterator[LeakageAlarm]:
    random = use_case.strategy == "random"
    entity = use_case.entity.column if use_case.entity and random else None
    for name, advice in (
        (use_case.key, "remove the repeated rows"),
        (entity, "set split.strategy = 'entity', or 'time'"),
    ):
        if name is None:
            continue
        column = blank_as_null(named_column(table, name)).combine_chunks()
        codes = column.dictionary_encode().indices.fill_null(_NO_KEY).to_numpy(zero_copy_only=False)
        train, holdout = codes[prepared.parts.development], codes[prepared.parts.holdout]
        shared = float(np.isin(holdout, train[train != _NO_KEY]).mean())
        if shared:
            yield LeakageAlarm(name, f"{shared:.1%} of the holdout rows have one that train rows have too; {advice}")


def _twins(prepared: PreparedDataset) -> Iterator[LeakageAlarm]:
    shared = float(np.isin(row_hashes(prepared.holdout.x), row_hashes(prepared.development.x)).mean())
    if shared >= _TWINS:
        yield LeakageAlarm(
            "all features",
            f"{shared:.1%} of the holdout rows have the same features as a train row; if they are copies, "
            "remove them: they flatter the figures",
        )


def row_hashes(matrix: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each row of a float32 matrix (n, k), shape (n,); missing equals missing."""
    hashes = np.zeros(len(matrix), np.uint64)
    for column in matrix.T:
        # Adding zero turns -0.0 into 0.0, and np.where leaves one of the many bit patterns of NaN.
        bits = np.where(np.isnan(column), np.float32(np.nan), column + np.float32(0)).view(np.uint32)
        hashes = (hashes ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _useless(prepared: PreparedDataset) -> Iterator[LeakageAlarm]:
    for number, feature in enumerate(prepared.schema.features):
        column = prepared.development.x[:, number]
        missing = np.isnan(column)
        if missing.all():
            yield LeakageAlarm(feature.name, "has no value in any train row; take it out of the use case", False)
        elif not missing.any() and column.min() == column.max():
            yield LeakageAlarm(feature.name, f"is the same in every train row ({_shown(feature, column[0])})", False)


def _shown(feature: Feature, code: np.float32) -> str:
    return f"'{feature.vocabulary[int(code)]}'" if feature.vocabulary else f"{code:g}"


def _odd_values(table: pa.Table, prepared: PreparedDataset) -> Iterator[LeakageAlarm]:
    for number, feature in enumerate(prepared.schema.features):
        if feature.score is not None:
            continue
        column = named_column(table, feature.name)
        if feature.type is FeatureType.CATEGORY:
            yield from _unknown_words(feature, column, prepared.parts.development, prepared.development.x[:, number])
            continue
        infinite = int(np.isinf(as_floats(column, feature.name)).sum())
        if infinite:
            text = f"is infinite in {infinite:,} rows, taken as the largest float32; null would mean unknown"
            yield LeakageAlarm(feature.name, text, False)
        numbers = prepared.numbers.get(feature.name)
        if numbers is not None and numbers.merged:
            yield LeakageAlarm(
                feature.name,
                f"loses some values: {numbers.text}; if they are codes, {numbers.remedy(column.type)}",
                False,
            )


def _unknown_words(
    feature: Feature, column: pa.ChunkedArray, train: np.ndarray, encoded: np.ndarray
) -> Iterator[LeakageAlarm]:
    absent = missing_mask(column.take(pa.array(train)), feature.empty_is_value)
    unknown = float((np.isnan(encoded) & ~absent).mean())
    if unknown:
        present = missing_as_null(as_strings(column, feature.name), feature.empty_is_value).drop_null()
        words = len(present.unique())
        yield LeakageAlarm(
            feature.name,
            f"has {words:,} different words, of which the model knows {len(feature.vocabulary or ()):,}: "
            f"{unknown:.1%} of the train rows count as missing; group the rare words",
            False,
        )
