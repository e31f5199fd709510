"""Pieces: what a table is read by, where that is done, and steps over its blocks in this process. Without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from data.sources.parquet import Chunk, ChunkReader, ParquetSource

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_BLOCK_BYTES = 128 << 20  # what Ray Data cuts blocks at, so that a table read without it is cut alike


@dataclass(frozen=True)
class Pieces(Generic[Piece]):
    """What can be read piece by piece: `read` returns the rows of one piece as tables, in order.

    A piece is the unit of parallel work and of repetition when a worker dies. Pieces and `read` are pickled, so none
    may hold open files.
    """

    name: str
    """Name in Ray's dashboard, after "Read"."""
    pieces: Sequence[Piece]
    read: Callable[[Piece], Iterable[pa.Table]]
    rows: int | None = None
    """Rows of all pieces, where that is known."""


@dataclass(frozen=True)
class Placement:
    """How many tasks run at once and on which nodes; each task takes one CPU."""

    concurrency: int | None = None
    """Most tasks at once; None for as many as the cluster has free CPUs."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have to run a task, as set by `ray start --labels`."""


ANYWHERE = Placement()


class Runner(Protocol):
    """Applies a step to every block of some pieces and yields the results, as `ray_data.each_block` does."""

    def __call__(
        self,
        pieces: Pieces[Any],
        step: Callable[[pa.Table], Result],
        in_order: bool = False,
        small_results: bool = False,
    ) -> Iterator[Result]:
        """Yield `step(block)` for every block."""
        ...


def parquet_pieces(source: ParquetSource, columns: Sequence[str] | None = None) -> Pieces[Chunk]:
    """Return a source's chunks as pieces, with the columns of their rows' origin; raises DataError as `select`."""
    return Pieces("Parquet", source.chunks, ChunkReader(source.select(columns)), source.rows)


def each_block_here(
    pieces: Pieces[Any], step: Callable[[pa.Table], Result], in_order: bool = True, small_results: bool = False
) -> Iterator[Result]:
    """Do what `data.distributed.ray_data.each_block` does in this process, always in order, without Ray.

    Each result is taken before the next block is read, so their size does not matter.

    Raises:
        RayscoreError: reading or the step raised it.
    """
    for piece in pieces.pieces:
        yield from map(step, _blocks(pieces.read(piece)))


def _blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size >= _BLOCK_BYTES:
            yield pa.concat_tables(held)
            held, size = [], 0
    if held:
        yield pa.concat_tables(held)
