"""Finished blocks: what an interrupted run of batch scoring has done already, read from the metadata of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from data.sources.filesystems import base_name, sibling
from data.sources.parquet import Chunk, ParquetSource
from data.sources.partial_output import PartialOutput
from ray_app.batch.refused_rows import BlockCounts
from ray_app.batch.scoring import COUNTS, part_name, refused_name


def finished_blocks(parts: PartialOutput, source: ParquetSource) -> dict[int, BlockCounts]:
    """Return the counts of every block that is done, by the number of its first row in the table.

    Blocks of a chunk that is not done to its last row are left out: a chunk is read again as a whole.
    """
    done: dict[int, BlockCounts] = {}
    for chunk in source.chunks:
        blocks = _blocks(parts, source, chunk)
        if sum(counts.rows for counts in blocks.values()) == chunk.rows:
            done |= blocks
    return done


def unfinished(source: ParquetSource, done: Mapping[int, BlockCounts]) -> list[Chunk]:
    """Return the chunks that have still to be read."""
    return [chunk for chunk in source.chunks if _first_row(source, chunk) not in done]


def total(counts: Iterable[BlockCounts]) -> BlockCounts:
    """Return the sum of some counts."""
    whole = BlockCounts()
    for each in counts:
        whole.add(each)
    return whole


def refused_path(out: Path) -> Path:
    """Return the file of the refused rows beside an output."""
    return sibling(out, f"{base_name(out).removesuffix('.parquet')}.refused.parquet")


def _blocks(parts: PartialOutput, source: ParquetSource, chunk: Chunk) -> dict[int, BlockCounts]:
    """Return the counts of a chunk's blocks from its first row on, up to the first that is not there."""
    found: dict[int, BlockCounts] = {}
    row = _first_row(source, chunk)
    last = row + chunk.rows
    while row < last and (counts := _counts(parts, row)) is not None and counts.rows:
        found[row] = counts
        row += counts.rows
    return found


def _counts(parts: PartialOutput, first: int) -> BlockCounts | None:
    metadata = parts.metadata(part_name(first))
    if metadata is None or COUNTS not in metadata:
        return None
    counts = BlockCounts.from_json(metadata[COUNTS])
    return counts if not counts.refused_rows or parts.metadata(refused_name(first)) is not None else None


def _first_row(source: ParquetSource, chunk: Chunk) -> int:
    return source.table_row(chunk.origin)
