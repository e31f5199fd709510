"""The exchange of rows between steps: which partition a key is of, and the columns that travel beside a table's own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.distributed.pieces import Pieces
from data.transform.hashing import splitmix64

ROW = "__table_row__"
"""Column of a row's number in the whole table; null in a row that is an event alone."""
EVENT = "__event__"
"""Column of whether a row is an event."""
JOB = "__job__"
"""Column of a job's number, in the one row that it is started by."""

Job = TypeVar("Job")


def partitions_for(rows: int, partition_rows: int) -> int:
    """Return how many partitions some rows are divided into."""
    return max(-(-rows // partition_rows), 1)


def partition_numbers(keys: pa.Array, partitions: int) -> np.ndarray:
    """Return the partition of each of n keys, int64 of shape (n,); a key has one, rows without key are spread evenly.

    Args:
        keys: int64 or text.
        partitions: how many there are.
    """
    absent = keys.is_null().to_numpy(zero_copy_only=False)
    hashes = _number_hashes(keys) if pa.types.is_integer(keys.type) else _text_hashes(keys)
    hashes = np.where(absent, np.arange(len(keys), dtype=np.uint64), hashes)
    return (hashes % np.uint64(partitions)).astype(np.int64)


def plain(table: pa.Table) -> pa.Table:
    """Return a table without metadata, dictionaries written out: each batch of a file may stand by itself then."""
    columns = {
        name: column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns)


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the types of a schema into which its own were merged."""
    return pa.concat_tables([schema.empty_table(), table], promote_options="permissive")


def job_pieces(name: str, jobs: Sequence[Job]) -> Pieces[int]:
    """Return jobs as pieces of one row each: what a job reads never is a block, which Ray Data would cut at 128 MiB."""
    return Pieces(name, range(len(jobs)), _numbered)


def job_of(block: pa.Table, jobs: Sequence[Job]) -> Job:
    """Return the job that a block starts."""
    return jobs[block.column(JOB)[0].as_py()]


def _numbered(number: int) -> Iterator[pa.Table]:
    yield pa.table({JOB: [number]})


def _number_hashes(keys: pa.Array) -> np.ndarray:
    return splitmix64(pc.fill_null(keys, 0).to_numpy(zero_copy_only=False).astype(np.uint64))


def _text_hashes(keys: pa.Array) -> np.ndarray:
    """Hash each different text once."""
    encoded = keys.dictionary_encode()
    words: Iterable[bytes] = encoded.dictionary.cast(pa.binary()).to_pylist()
    hashes = splitmix64(np.fromiter(map(zlib.crc32, words), np.uint64, len(encoded.dictionary)))
    places = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    return hashes[places] if len(hashes) else np.zeros(len(keys), np.uint64)
