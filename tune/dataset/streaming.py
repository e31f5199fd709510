"""Large tables: streamed by Ray Data into encoded shards on disk, with a sample in memory for the search.

Up to four passes, each an operator over the blocks of the table: one or two over what rows are ordered by (to cut
exactly), one over the words of the categories among the train rows, and one over all columns (digest, labels, shards,
sample). No process ever holds more than one block, and the driver holds the sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from data.distributed.pieces import parquet_pieces
from data.distributed.ray_data import each_block
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.training_profile import TrainingProfile, merge_profiles
from data.schema.use_case import UseCase
from data.sources.parquet import ParquetSource
from data.sources.row_origin import origin_of, without_origin
from data.transform.encoding import Transform
from data.transform.float32_identity import DistinctNumbers, distinct_numbers, merge_numbers
from data.transform.hashing import splitmix64, unit_interval
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset, count_words, refuse_merged, with_words
from tune.dataset.fingerprint import content_sum, digest, row_numbers
from tune.dataset.folds import one_split
from tune.dataset.profiling import profile_rows
from tune.dataset.shards import PartShards, Shards, shard_bytes, shard_folder, write_shard
from tune.dataset.split import (
    PARTS,
    SplitKeys,
    SplitOrder,
    TableSplit,
    class_counts,
    refuse_lacking,
    rows_of,
    split_order,
)
from tune.dataset.streaming_split import stream_split
from tune.dataset.training_table import TrainingTable, columns_read, computed_rows, read_labels

Result = TypeVar("Result")

_WORDS_A_BLOCK = 5_000
"""Number of a block's most frequent words that are kept; a column with more is no category to learn from."""
_SAMPLE_SEED = 0x5EED
_HOLDOUT = PARTS - 1
_OTHERS = "-others"
"""End of the name of a shard of rows that are not trained on for the figures."""
_VALUE_BYTES = 8
_MEMORY_A_VALUE = 8
"""A search needs about eight times its table: the Arrow table, the parts, and a matrix in each trial's process."""


def rows_in_memory(columns: int, memory_mb: int) -> int:
    """Return the most rows, of a table of `columns` columns, that a search may hold in `memory_mb` MiB."""
    return memory_mb * 2**20 // (columns * _VALUE_BYTES * _MEMORY_A_VALUE)


def prepare_streaming(
    source: ParquetSource, use_case: UseCase, folder: Path, sample_rows: int
) -> tuple[TrainingTable, PreparedDataset]:
    """Split and encode a table that is larger than memory; needs a connection to Ray.

    Args:
        source: the table; of a use case with windows it holds them already.
        use_case: its columns, split and features.
        folder: folder of the shards, which all nodes see under the same path; it appears whole or not at all.
        sample_rows: about how many rows of all three parts are kept in memory, drawn uniformly.

    Returns:
        The sample as a table, and the sample encoded together with the shards of every row.

    Raises:
        DataError: the label is not what is declared, a column cannot hold its feature or float32 would merge most of
            its numbers, a part lacks a class, or the disk lacks room.
    """
    columns = columns_read(use_case, holds_windows=True)
    source.require(columns)
    division = _divide(source, use_case)
    schema = _fit_schema(source, use_case, division)
    share = min(sample_rows / source.rows, 1.0)
    with shard_folder(folder, shard_bytes(source.rows, len(schema.names))) as new:
        encode = _Encoder(use_case, Transform(schema), division, share, new, source.first_rows)
        blocks: list[_EncodedBlock] = []
        numbers: dict[str, DistinctNumbers] = {}
        for block in each_block(parquet_pieces(source, columns), encode):
            # Merged as they come: those of each block, kept, would be larger than the sample.
            numbers = merge_numbers([numbers, block.numbers])
            blocks.append(block._replace(numbers={}))
        blocks.sort(key=lambda block: block.train_shard)
        refuse_merged(numbers, source.schema, source.path)
        refuse_lacking(np.sum([block.counts for block in blocks], axis=0), use_case)
        shards = PartShards(
            *(
                Shards(new, len(schema.names), tuple(shard for shard in each if shard[1]))
                for each in zip(*((block.train_shard, block.other_shard) for block in blocks), strict=True)
            )
        )
        shards.all.check()
    training = _sample(source, use_case, blocks)
    parts = np.concatenate([block.parts for block in blocks])
    profile = merge_profiles(block.profile for block in blocks)
    return training, _prepared(training, use_case, schema, parts, numbers, profile, shards.moved(folder))


def _sample(source: ParquetSource, use_case: UseCase, blocks: Sequence[_EncodedBlock]) -> TrainingTable:
    table = pa.concat_tables([block.sample for block in blocks])
    schema = pa.schema([source.schema.field(name) for name in columns_read(use_case, holds_windows=True)])
    whole = digest(schema, source.rows, sum(block.content for block in blocks))
    return TrainingTable(table, read_labels(table, use_case, source.path), source.path, whole, source.rows)


def _prepared(
    source: TrainingTable,
    use_case: UseCase,
    schema: FeatureSchema,
    part: np.ndarray,
    numbers: Mapping[str, DistinctNumbers],
    profile: TrainingProfile,
    shards: PartShards,
) -> PreparedDataset:
    parts = rows_of(part)
    refuse_lacking(class_counts(part, source.labels, use_case), use_case, "the sample of ")
    transform = Transform(schema)
    development, holdout = (
        EncodedExamples(transform.matrix(source.table.take(rows)), source.labels[rows])
        for rows in (parts.development, parts.holdout)
    )
    folds = one_split(len(parts.train), len(parts.validation))
    return PreparedDataset(schema, parts, development, folds, holdout, numbers, profile, shards)


def _divide(source: ParquetSource, use_case: UseCase) -> TableSplit:
    order = split_order(use_case)

    def over(function: Callable[[SplitKeys], Result]) -> Iterator[Result]:
        # An order without columns is one of the rows' numbers, which come with any column.
        pieces = parquet_pieces(source, order.columns or [use_case.label])
        return each_block(pieces, _OverKeys(use_case, order, function, source.first_rows))

    return stream_split(order, over)


@dataclass(frozen=True)
class _OverKeys(Generic[Result]):
    """Applies a function to the keys that a block's rows are ordered by; runs in a worker."""

    use_case: UseCase
    order: SplitOrder
    function: Callable[[SplitKeys], Result]
    first_rows: Mapping[str, int]

    def __call__(self, block: pa.Table) -> Result:
        return self.function(_keys(block, self.use_case, self.order, self.first_rows))


def _keys(block: pa.Table, use_case: UseCase, order: SplitOrder, first_rows: Mapping[str, int]) -> SplitKeys:
    labels = read_labels(block, use_case, origin_of(block).file) if order.label else None
    return order.keys(block, labels, _first_row(block, first_rows))


def _first_row(block: pa.Table, first_rows: Mapping[str, int]) -> int:
    """Return the number, in the whole table, of a block's first row."""
    origin = origin_of(block)
    return first_rows[origin.file] + origin.row


def _fit_schema(source: ParquetSource, use_case: UseCase, division: TableSplit) -> FeatureSchema:
    totals: dict[str, Counter[str]] = {name: Counter() for name in use_case.categories()}
    if totals:
        columns = list(dict.fromkeys([*totals, *division.order.columns]))
        count = _WordCounter(use_case, list(totals), division, source.first_rows)
        for counts in each_block(parquet_pieces(source, columns), count):
            for name, words in counts.items():
                totals[name].update(words)
    return with_words(use_case, totals)


@dataclass(frozen=True)
class _WordCounter:
    """Counts the words of categories among the development rows of a block; runs in a worker."""

    use_case: UseCase
    names: Sequence[str]
    division: TableSplit
    first_rows: Mapping[str, int]

    def __call__(self, block: pa.Table) -> Mapping[str, dict[str, int]]:
        keys = _keys(block, self.use_case, self.division.order, self.first_rows)
        learned = block.filter(pa.array(self.division.parts(keys) < _HOLDOUT))
        return {name: self._most_frequent(count_words(learned, name)) for name in self.names}

    @staticmethod
    def _most_frequent(words: Mapping[str, int]) -> dict[str, int]:
        # Ties are broken by the word, so that the order of the work decides nothing.
        return dict(sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[:_WORDS_A_BLOCK])


class _EncodedBlock(NamedTuple):
    """What is kept in memory of a block once its rows are on disk."""

    train_shard: tuple[str, int]
    """Name and rows of the shard of its train rows; without any there is none."""
    other_shard: tuple[str, int]
    """The same of its other rows."""
    content: int
    counts: np.ndarray
    """Rows of each class by part, see `class_counts`."""
    sample: pa.Table
    parts: np.ndarray
    """The part (0 train, 1 validation, 2 holdout) of each sampled row."""
    numbers: dict[str, DistinctNumbers]
    """The different whole numbers of each feature that is encoded as a number."""
    profile: TrainingProfile
    """What its development rows hold."""


@dataclass(frozen=True)
class _Encoder:
    """Encodes a block of the table and writes its rows as two shards; runs in a worker."""

    use_case: UseCase
    transform: Transform
    division: TableSplit
    share: float
    folder: Path
    first_rows: Mapping[str, int]

    def __call__(self, block: pa.Table) -> _EncodedBlock:
        first_row, read = _first_row(block, self.first_rows), without_origin(block)
        file = origin_of(block).file
        labels = read_labels(read, self.use_case, file)
        table = computed_rows(read, self.use_case, file)
        part = self.division.parts(self.division.order.keys(table, labels, first_row))
        encoded, name = self.transform.matrix(table), f"{first_row:012d}"
        trained, others = np.flatnonzero(part == 0), np.flatnonzero(part != 0)
        for each, rows in ((name, trained), (name + _OTHERS, others)):
            if len(rows):
                write_shard(self.folder, each, encoded[rows], labels[rows])
        drawn = np.flatnonzero(_uniform(first_row, table.num_rows) < self.share)
        counts = class_counts(part, labels, self.use_case)
        sample = table.take(drawn)
        content, numbers = content_sum(read, first_row), distinct_numbers(table, self.use_case.features.values())
        profile = profile_rows(table.filter(pa.array(part < _HOLDOUT)), self.transform.schema)
        return _EncodedBlock(
            (name, len(trained)), (name + _OTHERS, len(others)), content, counts, sample, part[drawn], numbers, profile
        )


def _uniform(first_row: int, count: int) -> np.ndarray:
    """Draw a number in [0, 1) for each row from its number, whatever piece it is in."""
    numbers = row_numbers(first_row, count)
    return unit_interval(splitmix64(splitmix64(numbers, _SAMPLE_SEED)))
