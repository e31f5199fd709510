"""Large tables: streamed by Ray Data into encoded shards on disk, with a sample in memory for the search.

Up to four passes, each a task a piece of the table: one or two over what rows are ordered by (to cut exactly), one
over the words of the categories among the train rows, and one over all columns (digest, labels, shards, sample). No
process ever holds more than one piece, and the driver holds the sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from data.distributed.ray_data import stream
from data.schema.feature_schema import FeatureSchema
from data.schema.use_case import UseCase
from data.sources.parquet import Chunk, ParquetSource, chunk_batches
from data.transform.encoding import Transform
from data.transform.hashing import splitmix64, unit_interval
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset, count_words, with_words
from tune.dataset.fingerprint import content_sum, digest, row_numbers
from tune.dataset.shards import Shards, shard_bytes, shard_folder, write_shard
from tune.dataset.split import PARTS, SplitKeys, SplitOrder, TableSplit, refuse_one_sided, rows_of, split_order
from tune.dataset.streaming_split import stream_split
from tune.dataset.training_table import TrainingTable, read_labels

Result = TypeVar("Result")

_PIECE_ROWS = 262_144
_WORDS_A_PIECE = 5_000
"""Number of a chunk's most frequent words that are kept; a column with more is no category to learn from."""
_SAMPLE_SEED = 0x5EED
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
        source: the table.
        use_case: its columns, split and features.
        folder: folder of the shards, which all nodes see under the same path; it appears whole or not at all.
        sample_rows: about how many rows of all three parts are kept in memory, drawn uniformly.

    Returns:
        The sample as a table, and the sample encoded together with the shards of every train row.

    Raises:
        DataError: the label is not 0 and 1, a column cannot hold its feature, a part lacks a label, or the disk
            lacks room.
    """
    source.require(use_case.columns)
    division = _divide(source, use_case)
    schema = _fit_schema(source, use_case, division)
    share = min(sample_rows / source.rows, 1.0)
    with shard_folder(folder, shard_bytes(source.rows, len(schema.names))) as new:
        encoder = _Encoder(use_case, Transform(schema), division, share, new)
        pieces = sorted((piece for chunk in stream(source.chunks, encoder) for piece in chunk), key=lambda p: p.shard)
        refuse_one_sided(np.sum([piece.counts for piece in pieces], axis=0), use_case)
        shards = Shards(new, len(schema.names), tuple(piece.shard for piece in pieces if piece.shard[1]))
        shards.check()
    training = _sample(source, use_case, pieces)
    parts = np.concatenate([piece.parts for piece in pieces])
    return training, _prepared(training, use_case, schema, parts, shards._replace(folder=folder))


def _sample(source: ParquetSource, use_case: UseCase, pieces: Sequence[_EncodedPiece]) -> TrainingTable:
    table = pa.concat_tables([piece.sample for piece in pieces])
    schema = pa.schema([source.schema.field(name) for name in use_case.columns])
    whole = digest(schema, source.rows, sum(piece.content for piece in pieces))
    return TrainingTable(table, read_labels(table, use_case.label, source.path), source.path, whole, source.rows)


def _prepared(
    source: TrainingTable, use_case: UseCase, schema: FeatureSchema, part: np.ndarray, shards: Shards
) -> PreparedDataset:
    parts = rows_of(part)
    ones = [(len(rows) - int(source.labels[rows].sum()), int(source.labels[rows].sum())) for rows in parts]
    refuse_one_sided(np.array(ones), use_case, "the sample of ")
    transform = Transform(schema)
    train, validation, holdout = (
        EncodedExamples(transform.matrix(source.table.take(rows)), source.labels[rows]) for rows in parts
    )
    return PreparedDataset(schema, parts, train, validation, holdout, shards)


def _divide(source: ParquetSource, use_case: UseCase) -> TableSplit:
    order = split_order(use_case)

    def over(function: Callable[[SplitKeys], Result]) -> Iterator[Result]:
        for found in stream(source.chunks, partial(_over_keys, order=order, function=function)):
            yield from found

    return stream_split(order, over)


def _over_keys(chunk: Chunk, order: SplitOrder, function: Callable[[SplitKeys], Result]) -> list[Result]:
    return [function(_keys(chunk, piece, first, order)) for first, piece in _pieces(chunk, order.columns)]


def _keys(chunk: Chunk, piece: pa.Table, first_row: int, order: SplitOrder) -> SplitKeys:
    labels = read_labels(piece, order.label, chunk.path) if order.label else None
    return order.keys(piece, labels, first_row)


def _fit_schema(source: ParquetSource, use_case: UseCase, division: TableSplit) -> FeatureSchema:
    totals: dict[str, Counter[str]] = {name: Counter() for name in use_case.categories()}
    if totals:
        count = partial(_count_words, names=list(totals), division=division)
        for counts in stream(source.chunks, count):
            for name, words in counts.items():
                totals[name].update(words)
    return with_words(use_case, totals)


def _count_words(chunk: Chunk, names: Sequence[str], division: TableSplit) -> Mapping[str, dict[str, int]]:
    totals: dict[str, Counter[str]] = {name: Counter() for name in names}
    order = division.order
    for first_row, piece in _pieces(chunk, list(dict.fromkeys([*names, *order.columns]))):
        train = piece.filter(pa.array(division.parts(_keys(chunk, piece, first_row, order)) == 0))
        for name in names:
            totals[name].update(count_words(train, name))
    # Ties are broken by the word, so that the order of the work decides nothing.
    return {
        name: dict(sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[:_WORDS_A_PIECE])
        for name, words in totals.items()
    }


class _EncodedPiece(NamedTuple):
    """What is kept in memory of a piece once its train rows are on disk."""

    shard: tuple[str, int]
    """Name and rows of its shard; without train rows there is none."""
    content: int
    counts: np.ndarray
    """Rows of each part with label 0 and with label 1, shape (3, 2)."""
    sample: pa.Table
    parts: np.ndarray
    """The part (0 train, 1 validation, 2 holdout) of each sampled row."""


@dataclass(frozen=True)
class _Encoder:
    """Encodes a chunk of the table, one piece at a time; runs in a worker."""

    use_case: UseCase
    transform: Transform
    division: TableSplit
    share: float
    folder: Path

    def __call__(self, chunk: Chunk) -> list[_EncodedPiece]:
        pieces = enumerate(_pieces(chunk, self.use_case.columns))
        return [
            self._piece(f"{chunk.index:05d}-{number:03d}", piece, first_row, chunk.path)
            for number, (first_row, piece) in pieces
        ]

    def _piece(self, name: str, piece: pa.Table, first_row: int, path: Path) -> _EncodedPiece:
        labels = read_labels(piece, self.use_case.label, path)
        part = self.division.parts(self.division.order.keys(piece, labels, first_row))
        train = np.flatnonzero(part == 0)
        if len(train):
            write_shard(self.folder, name, self.transform.matrix(piece.take(train)), labels[train])
        drawn = np.flatnonzero(_uniform(first_row, piece.num_rows) < self.share)
        counts = np.bincount(part * 2 + labels, minlength=2 * PARTS).reshape(PARTS, 2)
        return _EncodedPiece((name, len(train)), content_sum(piece, first_row), counts, piece.take(drawn), part[drawn])


def _uniform(first_row: int, count: int) -> np.ndarray:
    """Draw a number in [0, 1) for each row from its number, whatever piece it is in."""
    numbers = row_numbers(first_row, count)
    return unit_interval(splitmix64(splitmix64(numbers, _SAMPLE_SEED)))


def _pieces(chunk: Chunk, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield (number of its first row, rows) for each piece of a chunk."""
    first_row, batches, rows = chunk.first_row, [], 0
    for batch in chunk_batches(chunk, columns, _PIECE_ROWS):
        batches.append(batch)
        rows += batch.num_rows
        # A batch ends with its row group, and row groups may be small.
        if rows >= _PIECE_ROWS:
            yield first_row, pa.concat_tables(batches)
            first_row, batches, rows = first_row + rows, [], 0
    if batches:
        yield first_row, pa.concat_tables(batches)
