"""Encoded examples: a table as XGBoost learns from it, split into parts and encoded by the fitted schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.training_profile import TrainingProfile
from data.schema.use_case import UseCase
from data.sources.filesystems import named
from data.transform.encoding import Transform, as_strings, named_column
from data.transform.float32_identity import DistinctNumbers, distinct_numbers
from data.transform.list_codes import list_codes
from data.transform.missing import is_missing
from data.transform.text_scores import with_scores
from tune.dataset.folds import DEFAULT_FOLDS, MOST_ROWS, Folds, apart_rows, fold_rows, one_split
from tune.dataset.profiling import profile_rows
from tune.dataset.shards import PartShards
from tune.dataset.split import SplitRows, split, split_order
from tune.dataset.text_fit import fit_texts, out_of_fold_columns
from tune.dataset.training_table import TrainingTable

MAX_CATEGORIES = 1000
"""Most words a fitted vocabulary keeps; rarer ones are encoded as unseen."""


class EncodedExamples(NamedTuple):
    """Encoded rows: `x` float32 of shape (n, k), `y` the labels, codes (uint8) or numbers (float32) of shape (n,)."""

    x: np.ndarray
    y: np.ndarray
    lists: np.ndarray | None = None
    """Of a ranking the list of each row, int64 of shape (n,), by `data.transform.list_codes`."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def features(self) -> int:
        """Number of features."""
        return self.x.shape[1]

    def blocks(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) of the rows `start` to `stop` (exclusive), in one block and without a copy."""
        yield self.x[start:stop], self.y[start:stop]

    def take(self, rows: np.ndarray | slice) -> EncodedExamples:
        """Some of the rows; a slice of them shares the memory."""
        return EncodedExamples(self.x[rows], self.y[rows], None if self.lists is None else self.lists[rows])

    def and_then(self, other: EncodedExamples) -> EncodedExamples:
        """These rows, then those of `other`."""
        lists = None if self.lists is None or other.lists is None else np.concatenate([self.lists, other.lists])
        return EncodedExamples(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]), lists)


class PreparedDataset(NamedTuple):
    """A table, split and encoded. The holdout is for the final figures only.

    For a large table `parts`, `development` and `holdout` are those of a sample, and `shards` hold every row.
    """

    schema: FeatureSchema
    parts: SplitRows
    development: EncodedExamples
    """The train rows, then the validation rows."""
    folds: Folds
    """How the search learns from the development rows and is judged on them."""
    holdout: EncodedExamples
    numbers: Mapping[str, DistinctNumbers]
    """The different whole numbers of each feature that is encoded as a number, over all rows of the table."""
    profile: TrainingProfile
    """What the development rows hold, all of them also for a large table."""
    shards: PartShards | None = None

    @property
    def train(self) -> EncodedExamples:
        """The train rows."""
        return self.development.take(slice(len(self.parts.train)))

    @property
    def validation(self) -> EncodedExamples:
        """The validation rows."""
        return self.development.take(slice(len(self.parts.train), None))

    @property
    def feature_types(self) -> list[str]:
        """Of each feature what XGBoost takes it for: "c", a category, or "q", a number."""
        return ["c" if feature.type is FeatureType.CATEGORY else "q" for feature in self.schema.features]


def prepare(source: TrainingTable, use_case: UseCase) -> PreparedDataset:
    """Split a table, fit vocabularies and texts on all but the holdout, encode all rows, and make the search's folds.

    Raises:
        DataError: a column cannot hold its feature, float32 would merge most of its numbers, or a part lacks a label.
    """
    numbers = distinct_numbers(source.table, use_case.features.values())
    refuse_merged(numbers, source.table.schema, source.path)
    parts = split(source.table, source.labels, use_case)
    learned = source.table.take(parts.development)
    schema, folds = fit_schema(learned, use_case), search_folds(source, parts, use_case)
    labels, lists = source.labels[parts.development], list_codes(source.table, use_case)
    if use_case.texts:
        order = split_order(use_case)
        apart = apart_rows(order, order.keys(source.table, source.labels).take(parts.development))
        texts = fit_texts(learned, labels, use_case, folds, apart)
        schema = schema.with_text_scores({name: (each.names, each.model) for name, each in texts.items()})
        learned = with_scores(learned, out_of_fold_columns(texts))
    transform = Transform(schema)
    matrices = transform.derived_matrix(learned), transform.matrix(source.table.take(parts.holdout))
    development, holdout = (
        EncodedExamples(matrix, source.labels[rows], None if lists is None else lists[rows])
        for matrix, rows in zip(matrices, (parts.development, parts.holdout), strict=True)
    )
    return PreparedDataset(schema, parts, development, folds, holdout, numbers, profile_rows(learned, schema))


def search_folds(source: TrainingTable, parts: SplitRows, use_case: UseCase) -> Folds:
    """The folds of a table in memory: as many as the use case declares, where every label is in each of them.

    One split, into the train and the validation part, for a table of more than `MOST_ROWS` development rows for which
    nothing is declared, and where a label is too rare for two folds.
    """
    rows = parts.development
    declared = use_case.split.folds
    wanted = declared or (DEFAULT_FOLDS if len(rows) <= MOST_ROWS else 1)
    order, labels = split_order(use_case), source.labels[rows]
    found = fold_rows(order, order.keys(source.table, source.labels).take(rows), labels, wanted)
    return found or one_split(len(parts.train), len(parts.validation))


def refuse_merged(numbers: Mapping[str, DistinctNumbers], schema: pa.Schema, path: Path) -> None:
    """Raise DataError for a feature of which float32 loses more than half of the different numbers."""
    for name, found in numbers.items():
        if found.mostly_lost:
            remedy = found.remedy(schema.field(name).type)
            raise DataError(f"{named(path)}: column '{name}': {found.text}, so most of them are lost; {remedy}")


def fit_schema(table: pa.Table, use_case: UseCase) -> FeatureSchema:
    """Return the schema with a vocabulary for every category: the words of `table`, most frequent first.

    Raises:
        DataError: a category has no value at all.
    """
    return with_words(use_case, {name: count_words(table, name) for name in use_case.categories()})


def count_words(table: pa.Table, name: str) -> dict[str, int]:
    """Return how often each word occurs in a column, '' included."""
    counts = as_strings(named_column(table, name), name).drop_null().value_counts()
    return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}


def with_words(use_case: UseCase, counts: Mapping[str, Mapping[str, int]]) -> FeatureSchema:
    """Return the schema with the most frequent of the counted words as vocabularies; ties go by the alphabet.

    '' is left out unless the use case declares that it is a value.

    Raises:
        DataError: a category has no word at all.
    """
    features = use_case.features
    return use_case.schema_.with_vocabularies({name: _vocabulary(features[name], counts[name]) for name in counts})


def _vocabulary(feature: Feature, counts: Mapping[str, int]) -> tuple[str, ...]:
    words = {word: count for word, count in counts.items() if not is_missing(word, feature.empty_is_value)}
    if not words:
        raise DataError(f"column '{feature.name}': no value in any training row; leave the feature out of the use case")
    ordered = sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(word for word, _ in ordered[:MAX_CATEGORIES])
