"""Shuffle files: what a task hands on to the tasks of the next step, the rows of each partition in a batch.

A file appears whole or not at all and under the same name when its task is repeated, so that no row comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.sources.atomic_output import atomic_file


class ShuffleFile(NamedTuple):
    """A file that was written."""

    path: Path
    rows: np.ndarray
    """int64 of shape (partitions,): how many each partition has in it."""


class Shuffle(NamedTuple):
    """The files of all tasks of one step, in the order of the rows."""

    paths: tuple[Path, ...]
    rows: np.ndarray
    """int64 of shape (partitions,): how many each partition has."""

    @classmethod
    def of(cls, files: Sequence[ShuffleFile], partitions: int) -> Shuffle:
        """Return the shuffle of files that were written in any order."""
        rows = sum((file.rows for file in files), np.zeros(partitions, np.int64))
        return cls(tuple(sorted(file.path for file in files)), rows)


def write_shuffle_file(path: Path, table: pa.Table, numbers: np.ndarray, partitions: int) -> ShuffleFile:
    """Write n rows, those of a partition in their order.

    Args:
        path: file, on a disk that all nodes share.
        table: n rows.
        numbers: the partition of each row, int64 of shape (n,).
        partitions: how many there are.

    Raises:
        DataError: the file cannot be written.
    """
    order = np.argsort(numbers, kind="stable")
    ordered = table.take(pa.array(order)).combine_chunks()
    batch = ordered.to_batches()[0] if len(order) else pa.RecordBatch.from_pylist([], ordered.schema)
    edges = np.searchsorted(numbers[order], np.arange(partitions + 1))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        atomic_file(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, ordered.schema, options=options) as writer,
    ):
        for start, end in pairwise(edges.tolist()):
            writer.write_batch(batch.slice(start, end - start))
    return ShuffleFile(path, np.diff(edges))


def read_partition(shuffle: Shuffle, number: int) -> pa.Table:
    """Read one partition into memory, in the order of the rows; raises DataError as `partition_batches`."""
    return pa.Table.from_batches(list(partition_batches(shuffle, number)))


def partition_batches(shuffle: Shuffle, number: int) -> Iterator[pa.RecordBatch]:
    """Yield what each file has of one partition, in the order of the rows.

    Raises:
        DataError: a file cannot be read.
    """
    for path in shuffle.paths:
        try:
            with pa.OSFile(str(path)) as source:
                yield pa.ipc.open_file(source).get_batch(number)
        except OSError as exc:
            raise DataError(
                f"{path}: cannot be read: {exc.strerror or exc}; every node must have the folder of the output"
            ) from exc
